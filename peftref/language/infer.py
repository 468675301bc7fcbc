"""The kind of an expression that may be wrong: every problem in it is reported, with who set each size and what would fit."""

from __future__ import annotations

from collections.abc import Callable

from peftref.core.problem import nearest
from peftref.host.architecture import ARCHITECTURE
from peftref.language.expr import Call, Expr, Name, Number, Text, names
from peftref.language.kind import SCALAR, Kind, KindError
from peftref.language.ops import TABLE
from peftref.language.scope import Scope, apply_rule, quantities
from peftref.language.show import show

Report = Callable[[str, str, Expr, tuple[str, ...], str | None], None]


def infer(expr: Expr, scope: Scope, report: Report) -> Kind | None:
    """The kind of an expression, with every problem in it reported; None where it has none."""
    match expr:
        case Number():
            return SCALAR
        case Text():
            report("op-arguments", "a text may only be the pattern of an einsum", expr, (), None)
            return None
        case Name(name):
            entry = scope.entry(name)
            if entry is None:
                known = list(scope.entries)
                hint = nearest(name, known) or _elsewhere(name, scope.slot)
                readable = sorted(key for key, value in scope.entries.items() if value.role in ("quantity", "leaf"))
                report(
                    "unknown-name",
                    f"there is no {name} at {scope.slot}",
                    expr,
                    (f"readable here: {', '.join(readable)}",),
                    hint,
                )
                return None
            return entry.kind
        case Call(op_name, args, options):
            op = TABLE.get(op_name)
            if op is None:
                report("unknown-op", f"there is no op {op_name}", expr, (), nearest(op_name, TABLE))
                for arg in args:
                    infer(arg, scope, report)
                return None
            operands = args[1:] if op.pattern and args and isinstance(args[0], Text) else args
            kinds = [infer(arg, scope, report) for arg in operands]
            for key, value in () if op.pattern else options:
                if key not in op.options:
                    has = f"it has: {', '.join(op.options)}" if op.options else "it has none"
                    report("op-arguments", f"{op_name} has no option {key}", expr, (has,), nearest(key, op.options))
                elif infer(value, scope, report) not in (SCALAR, None):
                    report("op-arguments", f"the option {key} of {op_name} is a number", expr, (), None)
            least, most = op.arity
            if not least <= len(args) <= most:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                report(
                    "op-arguments",
                    f"{op_name} takes {wanted} operands, not {len(args)}",
                    expr,
                    (),
                    f"for example {op.example}",
                )
                return None
            for number in sorted(op.leaves):
                arg = args[number]
                if not (isinstance(arg, Name) and (entry := scope.entry(arg.name)) and entry.role == "leaf"):
                    text = f"operand {number + 1} of {op_name} is a leaf as it stands"
                    report("op-arguments", text, arg, (), f"for example {op.example}")
            if op.setting and len(args) < most and op.setting not in scope.entries:
                report(
                    "op-arguments",
                    f"{op_name} needs a setting {op.setting}",
                    expr,
                    (),
                    f"add {op.setting}: 0.0 to the settings",
                )
            known_kinds = tuple(kind for kind in kinds if kind is not None)
            if len(known_kinds) < len(kinds):
                return None
            try:
                return apply_rule(expr, known_kinds)
            except KindError as error:
                report("shape", str(error), expr, _who(expr, scope, error), error.hint or _bridge(expr, scope, error))
                return None


def _who(expr: Expr, scope: Scope, error: KindError) -> tuple[str, ...]:
    """Who set each size: the names that the expression reads, and the sizes that clash."""
    notes = []
    for name in sorted(names(expr)):
        entry = scope.entry(name)
        if entry is not None and entry.kind.dims:
            notes.append(f"{name} is {entry.kind.show()}: {entry.about}")
    for symbol in sorted({symbol for size in error.clash for symbol in size.symbols()}):
        entry = scope.entries.get(symbol)
        if entry is not None:
            notes.append(f"{symbol} is {entry.about}")
    return tuple(notes)


def _elsewhere(name: str, slot: str) -> str | None:
    """The other slots of the same component where a quantity of this name can be read."""
    component = ARCHITECTURE.slot(slot).component
    found = [
        each.name
        for each in ARCHITECTURE.slots
        if each.component == component and each.kind == "linear" and name in quantities(each.name) and each.name != slot
    ]
    return f"{name} can be read at {', '.join(found)}" if found else None


def _bridge(expr: Call, scope: Scope, error: KindError) -> str | None:
    """For a product whose inner sizes differ: the leaf that fits between."""
    if expr.op != "matmul" or len(error.clash) != 2:
        return None
    for name, entry in scope.entries.items():
        if entry.role == "leaf" and entry.kind.dims == error.clash:
            left, right = expr.args
            return f"did you mean {show(Call('matmul', (Call('matmul', (left, Name(name))), right)))}?"
    return None
