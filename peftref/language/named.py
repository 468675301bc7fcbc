"""Settings that are texts: each stands for the op or the quantity that it names."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.language.expr import Call, Equation, Expr, Name, Statement, rebuild


def named(equation: Equation, settings: Mapping[str, object]) -> Equation:
    """The equation with what its text settings name in their place: `f(x)` calls the op that the setting f names.

    >>> from peftref.language.parse import parse
    >>> from peftref.language.show import show
    >>> show(named(parse("h' = kept + f(D @ h)"), {"f": "relu", "kept": "x"}))
    "h' = x + relu(D @ h)"
    """
    texts = {name: value for name, value in settings.items() if isinstance(value, str)}
    if not texts:
        return equation
    return Equation(tuple(Statement(each.targets, _named(each.value, texts)) for each in equation.statements))


def _named(expr: Expr, texts: Mapping[str, str]) -> Expr:
    match expr:
        case Name(name, span):
            return Name(texts.get(name, name), span)
        case Call():
            inner = rebuild(expr, lambda child: _named(child, texts))
            assert isinstance(inner, Call)
            return Call(texts[inner.op], inner.args, inner.options, inner.span) if inner.op in texts else inner
    return expr
