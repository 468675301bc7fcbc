"""An equation against a slot: what each statement means there, and everything that is wrong with it, at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from peftref.core.problem import Problem, nearest
from peftref.host.architecture import ARCHITECTURE, Quantity
from peftref.language.expr import Call, Equation, Expr, Number, Statement, Target, names, substitute, walk
from peftref.language.infer import infer
from peftref.language.ops import TABLE
from peftref.language.parse import Locate
from peftref.language.scope import CARRIES, Carried, Leaf, Scope, scope_at

GROUPS: Mapping[str, tuple[frozenset[str], ...]] = {
    "linear": (frozenset({"h"}), frozenset({"x", "W", "b"})),
    "sublayer": (frozenset({"h"}),),
    "activation": (frozenset({"h"}),),
    "norm": (frozenset({"h"}), frozenset({"g", "b"})),
    "core": (frozenset({"q", "k", "v", "o"}),),
    "sequence": (frozenset({"h"}), frozenset({"E"})),
}
"""Which quantities of a slot may be replaced together: the inputs of the component, or its output, not both."""

LENGTHENS = {"core": ("k", "v"), "sequence": ("h",)}


@dataclass(frozen=True)
class Effect:
    """What an equation does at a slot: each replaced quantity with its value over quantities, leaves, settings and sizes.

    Intermediates are written out; `labels` keeps the names that the author gave to them. carried: the names among them that stand
    for what is carried from layer to layer, and are no quantities of the slot.
    """

    slot: str
    values: Mapping[str, Expr]
    scope: Scope
    labels: Mapping[Expr, str]
    carried: frozenset[str] = frozenset()

    @property
    def sets(self) -> frozenset[str]:
        """What it sets of what is carried."""
        return self.carried & self.values.keys()

    @property
    def own(self) -> Mapping[str, Expr]:
        """The replaced quantities of the slot itself."""
        return {name: value for name, value in self.values.items() if name not in self.carried}

    @property
    def carries(self) -> frozenset[str]:
        """What it reads or sets of what is carried."""
        return self.sets.union(*(self.carried & names(value) for value in self.values.values()))

    @property
    def kind(self) -> str:
        """The kind of the slot."""
        return ARCHITECTURE.slot(self.slot).kind


def check(
    equation: Equation,
    slot: str,
    leaves: Mapping[str, Leaf],
    settings: Mapping[str, object],
    locate: Locate,
    carried: Carried = MappingProxyType({}),
) -> tuple[Effect | None, list[Problem]]:
    """The effect of an equation at a slot, or every problem with it.

    >>> from peftref.language.parse import parse, plain_locate
    >>> from peftref.language.size import Size
    >>> text = "h' = l * h"
    >>> effect, problems = check(parse(text), "attention.key", {"l": Leaf("l", (Size.symbol("d_out"),))}, {}, plain_locate(text))
    >>> sorted(effect.values), problems
    (['h'], [])
    """
    return _Check(slot, leaves, settings, locate, carried).run(equation)


class _Check:
    def __init__(
        self,
        slot: str,
        leaves: Mapping[str, Leaf],
        settings: Mapping[str, object],
        locate: Locate,
        carried: Carried,
    ) -> None:
        self.slot = slot
        self.kind = ARCHITECTURE.slot(slot).kind
        self.quantities = {quantity.name: quantity for quantity in ARCHITECTURE.kind(self.kind).quantities}
        self.carried = frozenset(carried if self.kind in CARRIES else ())
        for name in self.carried:
            self.quantities[name] = Quantity(name=name, shape=(), per="token", about="carried from layer to layer")
        self.scope = scope_at(slot, leaves, settings, carried)
        self.locate = locate
        self.problems: list[Problem] = []
        self.written: dict[str, Expr] = {}
        self.labels: dict[Expr, str] = {}
        self.values: dict[str, Expr] = {}
        self.unread: dict[str, Target] = {}

    def run(self, equation: Equation) -> tuple[Effect | None, list[Problem]]:
        for statement in equation.statements:
            self._statement(statement)
        first = equation.statements[0]
        if not self.values and not self.problems:
            replaceable = ", ".join(f"{name}'" for name, row in self.quantities.items() if row.replaceable)
            self._add(
                "no-effect", "the equation replaces nothing", first.targets[0].span,
                hint=f"set one of {replaceable} at {self.slot}",
            )  # fmt: skip
            return None, self.problems
        for name, target in self.unread.items():
            self._add("unused-intermediate", f"{name} is never read", target.span, hint="remove the statement")
        self._conflicts(equation)
        if self.problems:
            return None, self.problems
        return Effect(self.slot, self.values, self.scope, self.labels, self.carried), []

    def _statement(self, statement: Statement) -> None:
        def report(code: str, text: str, expr: Expr, notes: tuple[str, ...], hint: str | None) -> None:
            self._add(code, text, expr.span, notes, hint)

        value = statement.value
        targets = statement.targets
        for name in names(value):
            self.unread.pop(name, None)
        parts: list[Expr] = [value]
        if len(targets) > 1:
            parts = self._split(statement)
        for target, part in zip(targets, parts, strict=False):
            kind = infer(part, self.scope, report)
            full = substitute(part, self.written)
            if target.primed:
                self._replace(target, part, full)
            elif self.scope.entry(target.name) is not None or target.name in TABLE:
                what = self.scope.entry(target.name)
                self._add(
                    "shadowed-name", f"{target.name} already has a meaning here", target.span,
                    (f"{target.name} is {what.about}",) if what else (),
                    f"write {target.name}' to replace it" if target.name in self.quantities else "choose another name",
                )  # fmt: skip
            elif kind is not None:
                self.scope = self.scope.with_intermediate(target.name, kind, f"the intermediate {target.name}")
                self.written[target.name] = full
                self.labels.setdefault(full, target.name)
                self.unread[target.name] = target

    def _split(self, statement: Statement) -> list[Expr]:
        value, count = statement.value, len(statement.targets)
        if not (isinstance(value, Call) and value.op == "split" and len(value.args) == 1):
            self._add(
                "op-arguments",
                f"{count} names stand on the left, but one value on the right",
                value.span,
                hint="a, b = split(z)",
            )
            return []
        inner = value.args[0]
        return [Call("part", (inner, Number(i), Number(count)), (), value.span) for i in range(count)]

    def _replace(self, target: Target, part: Expr, full: Expr) -> None:
        quantity = self.quantities.get(target.name)
        if quantity is None or not quantity.replaceable:
            replaceable = [name for name, row in self.quantities.items() if row.replaceable]
            self._add(
                "not-replaceable", f"{target.name}' cannot be set at {self.slot}", target.span,
                (f"{self.slot} lets you replace: {', '.join(replaceable)}",), nearest(target.name, replaceable),
            )  # fmt: skip
            return
        if target.name in self.values:
            self._add("set-twice", f"{target.name}' is set twice", target.span, hint="one statement for each quantity")
            return
        self.values[target.name] = full
        self._fits(target, part, quantity)

    def _fits(self, target: Target, part: Expr, quantity: Quantity) -> None:
        wanted = self.scope.entries[target.name].kind
        kind = infer(part, self.scope, lambda *_: None)
        if kind is None:
            return
        if kind.dims != wanted.dims or (kind.per != wanted.per and not (kind.per == "none" and wanted.per == "token")):
            self._add(
                "shape", f"{target.name}' is {kind.show()}, but {target.name} is {wanted.show()}", part.span,
                (f"{target.name} is {quantity.about}",),
            )  # fmt: skip
        if _lengthens(self.values[target.name]) and target.name not in LENGTHENS.get(self.kind, ()):
            self._add(
                "length-change", f"{target.name}' would have more tokens than {target.name}", part.span,
                hint="concat lengthens h at embedding, or k and v at attention.core",
            )  # fmt: skip

    def _conflicts(self, equation: Equation) -> None:
        primed = [target for statement in equation.statements for target in statement.targets if target.primed]
        together = {target.name for target in primed if target.name in self.quantities}
        if together and not any(
            together <= (group | self.carried if "h" in group else group) for group in GROUPS[self.kind]
        ):
            choices = " or ".join(
                "{" + ", ".join(f"{name}'" for name in sorted(group)) + "}" for group in GROUPS[self.kind]
            )
            self._add(
                "prime-conflict",
                f"{' and '.join(sorted(f'{n}' + chr(39) for n in together))} cannot be set together",
                primed[-1].span,
                hint=f"set some of {choices}",
            )
        longer = {name for name, value in self.values.items() if _lengthens(value)}
        if self.kind == "core" and longer in ({"k"}, {"v"}):
            self._add(
                "length-change", "k' and v' must be lengthened together", primed[-1].span, hint="concat rows to both"
            )

    def _add(
        self, code: str, text: str, span: tuple[int, int], notes: Iterable[str] = (), hint: str | None = None
    ) -> None:
        self.problems.append(Problem(code, text, self.locate(*span), tuple(notes), hint))


def _lengthens(value: Expr) -> bool:
    """Whether a value has more tokens than what it is made of."""
    return any(isinstance(node, Call) and node.op in TABLE and TABLE[node.op].lengthens for node in walk(value))
