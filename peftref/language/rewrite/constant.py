"""The parts of an equation that are the same for every input: what is left to store when training is over."""

from __future__ import annotations

from peftref.language.expr import Call, Expr, Name, Text
from peftref.language.ops import TABLE
from peftref.language.scope import Scope


def depends(expr: Expr, scope: Scope) -> bool:
    """Whether a value depends on a quantity of the host.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import scope_at
    >>> depends(parse_expression("2 * h"), scope_at("ffn", {}, {}))
    True
    """
    match expr:
        case Name(name):
            entry = scope.entry(name)
            return entry is None or entry.role == "quantity"
        case Call(_, args):
            return any(depends(arg, scope) for arg in args)
    return False


def constants(expr: Expr, scope: Scope) -> list[Expr]:
    """The largest parts that depend on leaves and settings alone, each once, in their order."""
    if not depends(expr, scope):
        return [] if isinstance(expr, Text) else [expr]
    found: dict[Expr, None] = {}
    if isinstance(expr, Call):
        for arg in expr.args:
            found.update(dict.fromkeys(constants(arg, scope)))
    return list(found)


def foldable(expr: Expr, scope: Scope) -> list[Expr]:
    """The largest constant parts that cost more than an elementwise step: made once where they do not change.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> leaves = {name: Leaf(name, (parse_size("d_model"), parse_size("d_model"))) for name in "UD"}
    >>> [len(foldable(parse_expression(text), scope_at("ffn", leaves, {}))) for text in ("2 * U @ h", "tanh(U @ D) @ h")]
    [0, 1]
    """
    return [part for part in constants(expr, scope) if _costs(part)]


def _costs(part: Expr) -> bool:
    if not isinstance(part, Call):
        return False
    op = TABLE[part.op]
    return op.costly or any(_costs(arg) for i, arg in enumerate(part.args) if i not in op.aside)
