"""From a technique to its checked insertions: leaves with symbolic shapes, and the effect of the equation at every slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peftref.design.layers import Layers
from peftref.design.technique import Insert, Technique
from peftref.host.architecture import SIZES, slots_of
from peftref.lang.check import Effect, check, learning
from peftref.lang.expr import Call, Equation, names, walk
from peftref.lang.ops import TABLE
from peftref.lang.parse import Locate, parse, plain_locate
from peftref.lang.scope import Leaf
from peftref.lang.size import Size, parse_size
from peftref.problem import PeftrefError, Place, Problem

PlaceOf = Callable[[tuple[str | int, ...]], Place | None]
LocateIn = Callable[[tuple[str | int, ...]], Locate]


@dataclass(frozen=True)
class Insertion:
    """One insertion, checked: where it goes, its leaves, its equation, and what that does at each of its slots."""

    at: tuple[str, ...]
    layers: Layers
    stacks: tuple[str, ...] | None
    leaves: Mapping[str, Leaf]
    equation: Equation
    effects: Mapping[str, Effect]


def insertions(
    technique: Technique, locate: LocateIn | None = None, place: PlaceOf | None = None
) -> tuple[Insertion, ...]:
    """The insertions of a technique; raises PeftrefError with everything that is wrong in shapes and equations.

    >>> from peftref.design.technique import Technique
    >>> mine = Technique(name="mine", title="Mine", insert=[{"at": "attention.key", "equation": "h' = 2 * h"}])
    >>> insertions(mine)[0].effects["attention.key"].slot
    'attention.key'
    """
    found, problems = inspect(technique, locate, place)
    if problems:
        raise PeftrefError(problems)
    return found


def inspect(
    technique: Technique, locate: LocateIn | None = None, place: PlaceOf | None = None
) -> tuple[tuple[Insertion, ...], list[Problem]]:
    """The insertions that are right, and every problem of those that are not."""
    problems: list[Problem] = []
    found: list[Insertion] = []
    for index, insert in enumerate(technique.insert):
        one = _Inspect(technique, insert, ("insert", index), locate, place)
        insertion = one.run()
        problems += one.problems
        if insertion is not None:
            found.append(insertion)
    if not problems:
        problems += _unused_settings(technique, found, place)
    return tuple(found), problems


class _Inspect:
    """The inspection of one insertion."""

    def __init__(
        self,
        technique: Technique,
        insert: Insert,
        path: tuple[str | int, ...],
        locate: LocateIn | None,
        place: PlaceOf | None,
    ) -> None:
        self.technique = technique
        self.insert = insert
        self.path = path
        self.place = place or (lambda _: None)
        self.locate_in = locate
        self.problems: list[Problem] = []

    def run(self) -> Insertion | None:
        leaves = {name: leaf for name in self.insert.leaves if (leaf := self._leaf(name)) is not None}
        locate = self._locate((*self.path, "equation"), self.insert.equation)
        try:
            equation = parse(self.insert.equation, locate)
        except PeftrefError as error:
            self.problems += error.problems
            return None
        if len(leaves) < len(self.insert.leaves):
            return None
        effects: dict[str, Effect] = {}
        for slot in dict.fromkeys(base for wanted in self.insert.at for base in slots_of(wanted)):
            effect, problems = check(equation, slot, leaves, self.technique.settings, locate)
            self.problems += [problem for problem in problems if not self._known(problem)]
            if effect is not None:
                effects[slot] = effect
        if not self.problems:
            self._use(leaves, effects)
        if self.problems:
            return None
        return Insertion(self.insert.at, self.insert.layers, self.insert.stacks, leaves, equation, effects)

    def _known(self, problem: Problem) -> bool:
        return any((problem.code, problem.place) == (known.code, known.place) for known in self.problems)

    def _leaf(self, name: str) -> Leaf | None:
        leaf = self.insert.leaves[name]
        path = (*self.path, "leaves", name)
        if name in TABLE or name in SIZES or name in self.technique.settings:
            what = "an op" if name in TABLE else "a size" if name in SIZES else "a setting"
            self._add("shadowed-name", f"the leaf {name} has the name of {what}", path, hint="choose another name")
        known = [*SIZES, *(key for key, value in self.technique.settings.items() if isinstance(value, int))]
        dims: list[Size] = []
        for position, text in enumerate(leaf.shape):
            try:
                dims.append(parse_size(text, known, self._locate((*path, "shape", position), text)))
            except PeftrefError as error:
                self.problems += error.problems
        if len(dims) < len(leaf.shape):
            return None
        return Leaf(name, tuple(dims), leaf.init.name, leaf.init.arguments, not leaf.frozen, leaf.scope)

    def _use(self, leaves: Mapping[str, Leaf], effects: Mapping[str, Effect]) -> None:
        values = [value for effect in effects.values() for value in effect.values.values()]
        read = frozenset().union(*(names(value) for value in values))
        learned = frozenset().union(*(learning(value) for value in values))
        for name, leaf in leaves.items():
            path = (*self.path, "leaves", name)
            if name not in read:
                self._add(
                    "unused-leaf", f"the leaf {name} is not read by the equation", path, hint="use it, or remove it"
                )
            elif leaf.trainable and name not in learned:
                self._add(
                    "no-gradient",
                    f"the leaf {name} is trained, but no gradient reaches it",
                    path,
                    hint="say frozen: true, or read it outside stop_gradient",
                )

    def _add(self, code: str, text: str, path: tuple[str | int, ...], *, hint: str | None = None) -> None:
        self.problems.append(Problem(code, text, self.place(path), (), hint))

    def _locate(self, path: tuple[str | int, ...], text: str) -> Locate:
        if self.locate_in is not None:
            return self.locate_in(path)
        return plain_locate(text, f"{self.technique.name}: {'.'.join(str(part) for part in path)}")


def _unused_settings(technique: Technique, found: list[Insertion], place: PlaceOf | None) -> list[Problem]:
    used: set[str] = set()
    for insert, insertion in zip(technique.insert, found, strict=True):
        used |= insert.layers.settings()
        for leaf in insertion.leaves.values():
            used |= frozenset().union(*(dim.symbols() for dim in leaf.dims))
            used |= {value for _, value in leaf.init_args if isinstance(value, str)}
        for effect in insertion.effects.values():
            for value in effect.values.values():
                used |= names(value)
                used |= {TABLE[node.op].setting or "" for node in walk(value) if isinstance(node, Call)}
    return [
        Problem(
            "unused-setting",
            f"the setting {name} is used nowhere",
            place(("settings", name)) if place else None,
            (),
            "use it, or remove it",
        )
        for name in technique.settings
        if name not in used and not technique.procedures
    ]
