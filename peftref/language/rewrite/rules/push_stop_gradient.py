"""A gradient is stopped at the names below, so that nothing is kept for a derivative that nobody takes.

Law: `stop_gradient(f(A)) => f(stop_gradient(A))`.
"""

from __future__ import annotations

from peftref.language.expr import Call, Expr, Name, call, rebuild
from peftref.language.rewrite.rule import Rule


def push_stop_gradient(expr: Expr, learning: frozenset[str]) -> Expr:
    """The expression with every stop of a gradient at the names below it that learn.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
    >>> show(push_stop_gradient(parse_expression("h + stop_gradient(norm(W + B @ A)) * x"), frozenset("AB")))
    'h + norm(W + stop_gradient(B) @ stop_gradient(A)) * x'
    """
    if isinstance(expr, Call) and expr.op == "stop_gradient":
        return _stopped(expr.args[0], learning)
    return rebuild(expr, lambda child: push_stop_gradient(child, learning)) if isinstance(expr, Call) else expr


def _stopped(expr: Expr, learning: frozenset[str]) -> Expr:
    match expr:
        case Name(name):
            return call("stop_gradient", expr) if name in learning else expr
        case Call("stop_gradient" | "steered", (inner, *_)):
            return _stopped(inner, learning)
    return rebuild(expr, lambda child: _stopped(child, learning))


RULE = Rule(
    "stop gradients early", "form", lambda expr, meter: push_stop_gradient(expr, meter.load.learning), preferred=True
)
