"""A technique checked as a whole: its names, the shapes of its leaves, its equations at every slot, and that it can learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from peftref.core.problem import PeftrefError, Problem, in_order, nearest
from peftref.design.carry import carry_problems
from peftref.design.learn import reached, stuck
from peftref.design.names import known_slots, name_problems
from peftref.design.procedures import PROCEDURES, settings_read
from peftref.design.technique import Insert, Technique
from peftref.design.yaml_document import Document, Path
from peftref.host.architecture import SIZES
from peftref.language.check import Effect, check
from peftref.language.expr import Call, Equation, Name, walk
from peftref.language.expr import names as read_names
from peftref.language.named import named
from peftref.language.ops import TABLE
from peftref.language.parse import Locate, parse
from peftref.language.read_size import parse_size
from peftref.language.scope import Carried, Leaf, scope_at
from peftref.language.siblings import read_at
from peftref.language.size import Size


def check_technique(technique: Technique, document: Document) -> list[Problem]:
    """Every problem of a technique whose fields are sound, in the order of the file. `document` is where it was read."""
    problems = name_problems(technique, document)
    used: set[str] = set(technique.size_settings())
    for procedure in technique.procedures:
        used |= settings_read(procedure, technique) if procedure.name in PROCEDURES else set()
    try:
        carried = carried_of(technique, lambda name, axis: document.locate("carries", name, axis))
    except PeftrefError as error:
        problems += error.problems
        carried = carried_of(technique, lenient=True)
    effects: list[tuple[int, Effect]] = []
    for number, insert in enumerate(technique.insert):
        used |= {setting for leaf in insert.leaves.values() for _, setting in leaf.init.settings()}
        used |= {said for said in (insert.counted, insert.stays) if isinstance(said, str)}
        used |= {leaf.lr for leaf in insert.leaves.values() if isinstance(leaf.lr, str)}
        problems += _insert(technique, insert, document, number, used, carried, effects)
    if not problems:
        problems += carry_problems(technique, effects, document)
    if not any(problem.code in ("syntax", "equation-folded", "unknown-slot") for problem in problems):
        problems += _unused_settings(technique, document, used)
    return sorted(_once(problems), key=in_order)


def leaves_of(
    technique: Technique,
    insert: Insert,
    locate: Callable[[str, int], Locate] | None = None,
    *,
    lenient: bool = False,
) -> dict[str, Leaf]:
    """The leaves of an insertion as the language has them, with symbolic shapes.

    `locate` gives the places of a leaf's axis. Raises PeftrefError with every size that is wrong; lenient: takes each of them for
    a size of its own.

    >>> insert = Insert(at="ffn", leaves={"c": {"shape": ["d_model"], "init": "zeros"}}, equation="h' = h + c")
    >>> leaves_of(Technique(name="mine", title="Mine"), insert)["c"].count().show()
    'd_model'
    """
    known = (*SIZES, *technique.settings)
    leaves: dict[str, Leaf] = {}
    problems: list[Problem] = []
    for name, leaf in insert.leaves.items():
        dims = tuple(_sizes(name, leaf.shape, known, locate, problems))
        init = leaf.init
        leaves[name] = Leaf(
            name, dims, init.name, init.arguments, not leaf.frozen, leaf.scope, leaf.fit, init.row.whole, leaf.lr
        )
    if problems and not lenient:
        raise PeftrefError(problems)
    return leaves


def carried_of(
    technique: Technique, locate: Callable[[str, int], Locate] | None = None, *, lenient: bool = False
) -> dict[str, tuple[Size, ...]]:
    """The shapes of what a technique carries from layer to layer, as the language has them; errors and options as `leaves_of`.

    >>> {name: dims[0].show() for name, dims in carried_of(Technique(name="mine", title="Mine", carries={"s": [4]})).items()}
    {'s': '4'}
    """
    problems: list[Problem] = []
    known = (*SIZES, *technique.settings)
    found = {name: tuple(_sizes(name, shape, known, locate, problems)) for name, shape in technique.carries.items()}
    if problems and not lenient:
        raise PeftrefError(problems)
    return found


def _sizes(
    name: str,
    shape: Iterable[str],
    known: tuple[str, ...],
    locate: Callable[[str, int], Locate] | None,
    problems: list[Problem],
) -> Iterator[Size]:
    """The sizes of a shape; for one that is wrong its problem, and a size of its own."""
    for axis, size in enumerate(shape):
        try:
            yield parse_size(size, known, locate(name, axis) if locate else None)
        except PeftrefError as error:
            problems += error.problems
            yield Size.symbol(f"{name}_{axis}")


def _insert(
    technique: Technique,
    insert: Insert,
    document: Document,
    number: int,
    used: set[str],
    carried: Carried,
    found: list[tuple[int, Effect]],
) -> Iterator[Problem]:
    path: Path = ("insert", number, "equation")
    sized = True
    try:
        leaves = leaves_of(
            technique, insert, lambda name, axis: document.locate("insert", number, "leaves", name, "shape", axis)
        )
    except PeftrefError as error:
        yield from error.problems
        leaves, sized = leaves_of(technique, insert, lenient=True), False
    if not document.keeps_columns(*path):
        text = "this equation is folded over several lines, so that no column in it can be told"
        hint = "write it on one line, or as a block that begins with |"
        yield Problem("equation-folded", text, document.locate(*path)(0, 1), hint=hint)
        return
    try:
        equation = parse(insert.equation, document.locate(*path))
    except PeftrefError as error:
        yield from error.problems
        return
    used |= _read(equation)
    equation = named(equation, technique.settings)
    read = _read(equation)
    used |= read
    yield from _positions(equation, leaves, document.locate(*path))
    for name in insert.leaves:
        if name not in read:
            place = document.key("insert", number, "leaves", name)
            yield Problem("unused-leaf", f"the leaf {name} is never read", place, hint=_unused_hint(name, read, insert))
    effects = []
    for slot in known_slots(insert):
        effect, wrong = check(
            read_at(equation, slot), slot, leaves, technique.settings, document.locate(*path), carried
        )
        yield from (problem for problem in wrong if sized or problem.code != "shape")
        if not sized:
            continue
        yield from _copies(technique, insert, leaves, slot, document, number)
        if effect is not None:
            effects.append(effect)
    if effects and len(effects) == len(known_slots(insert)):
        found += [(number, effect) for effect in effects]
        yield from _gradients(technique, insert, effects, read, document, number)


def _positions(equation: Equation, leaves: Mapping[str, Leaf], locate: Locate) -> Iterator[Problem]:
    """Operands that are positions must be leaves that hold positions, and such leaves are nothing else."""
    whole = {name for name, leaf in leaves.items() if leaf.whole}
    for statement in equation.statements:
        for node in walk(statement.value):
            if not isinstance(node, Call) or node.op not in TABLE:
                continue
            wanted = TABLE[node.op].positions
            for number, arg in enumerate(node.args):
                is_whole = isinstance(arg, Name) and arg.name in whole
                if number in wanted and not is_whole:
                    text = f"operand {number + 1} of {node.op} is positions, and no leaf of positions stands there"
                    hint = "positions are a leaf with an init such as random_positions, largest or consecutive"
                    yield Problem("positions", text, locate(*arg.span), hint=hint)
                elif is_whole and number not in wanted and isinstance(arg, Name):
                    text = f"{arg.name} holds positions, and {node.op} wants numbers"
                    yield Problem("positions", text, locate(*arg.span), hint="read it in scatter or gather")


def _read(equation: Equation) -> set[str]:
    """The names that an equation reads, the settings that its ops read by themselves among them."""
    found: set[str] = set()
    for statement in equation.statements:
        found |= read_names(statement.value)
        for node in walk(statement.value):
            if isinstance(node, Call):
                row = TABLE.get(node.op)
                own = node.op if row is None else row.setting
                found |= {own} if own else set()
    return found


def _unused_hint(name: str, read: set[str], insert: Insert) -> str:
    hint = nearest(name, read - set(insert.leaves))
    return f"the equation reads {hint.removeprefix('did you mean ')}" if hint else "use it in the equation or remove it"


def _copies(
    technique: Technique, insert: Insert, leaves: Mapping[str, Leaf], slot: str, document: Document, number: int
) -> Iterator[Problem]:
    """Inits that read a quantity: it must exist at the slot, and a copy must have the leaf's shape."""
    scope = scope_at(slot, leaves, technique.settings)
    for name, leaf in insert.leaves.items():
        place = document.place("insert", number, "leaves", name, "init")
        for quantity in leaf.init.reads():
            entry = scope.entry(quantity)
            if entry is None or entry.role != "quantity" or entry.kind.per != "none":
                fixed = [key for key, row in scope.entries.items() if row.role == "quantity" and row.kind.per == "none"]
                hint = f"an init can read {', '.join(fixed)} there" if fixed else "no init can read the host there"
                yield Problem("unknown-quantity", f"{slot} has no {quantity} for an init to read", place, hint=hint)
            elif leaf.init.name == "copy" and entry.kind.dims != scope.entries[name].kind.dims:
                text = f"{quantity} is {entry.kind.show()}, and {name} is {scope.entries[name].kind.show()}"
                yield Problem("shape", f"a copy has the shape of its origin: {text}", place)


def _gradients(
    technique: Technique, insert: Insert, effects: list[Effect], read: set[str], document: Document, number: int
) -> Iterator[Problem]:
    """Trained leaves that can never learn: no gradient flows back, or zeros around them stop it for good."""
    trained = [name for name, leaf in insert.leaves.items() if not leaf.frozen and name in read]
    zero = [name for name, leaf in insert.leaves.items() if leaf.init.exact(technique.settings) == 0.0]
    values = [value for effect in effects for value in effect.values.values()]
    reachable = reached(values)
    stopped = stuck(values, trained, zero)
    for name in trained:
        place = document.key("insert", number, "leaves", name)
        if name not in reachable:
            text = f"the leaf {name} is trained, but no gradient flows back to it"
            hint = "write frozen: true, or read it outside stop_gradient"
            yield Problem("no-gradient", text, place, hint=hint)
        elif name in stopped:
            text = f"the leaf {name} can never learn: it is multiplied with what begins and stays zero"
            others = " or ".join(stopped[name]) or name
            yield Problem("no-gradient", text, place, hint=f"give {others} another init")


def _unused_settings(technique: Technique, document: Document, used: set[str]) -> Iterator[Problem]:
    for name in technique.settings:
        if name not in used:
            place = document.key("settings", name)
            yield Problem("unused-setting", f"the setting {name} is never used", place, hint="use it or remove it")


def _once(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Each problem once: what is wrong at one slot is often wrong at the next in the same place."""
    seen = set()
    for problem in problems:
        place = problem.place
        key = (problem.code, place and (place.line, place.column), None if place else problem.text)
        if key not in seen:
            seen.add(key)
            yield problem
