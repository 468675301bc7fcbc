"""What `peftref diff` compares, as plain data, so that a page compares any two techniques without all pairs of them."""

from __future__ import annotations

from typing import Any

from peftref.analyse.diff import effects, leaves_said, slots_said
from peftref.design.technique import Technique
from peftref.language.expr import Call, Expr, Name, Number, Text
from peftref.language.show import show

Plain = dict[str, Any]


def diff_data(technique: Technique) -> Plain:
    """The slots, leaves, settings and effects of a technique, as `peftref.analyse.diff` reads them."""
    return {
        "slots": slots_said(technique),
        "leaves": leaves_said(technique),
        "settings": {name: str(value) for name, value in technique.settings.items()},
        "effects": {key: tree(value) for key, value in effects(technique).items()},
    }


def tree(expr: Expr) -> Plain:
    """An expression as data: every call with its op, operands, options and text.

    >>> tree(Name("x")), tree(Call("neg", (Name("x"),)))["s"]
    ({'n': 'x'}, '-x')
    """
    match expr:
        case Name(name):
            return {"n": name}
        case Number(value):
            return {"v": value, "s": show(expr)}
        case Text(value):
            return {"t": value}
        case Call(op, args, options):
            more = {"k": [[key, tree(value)] for key, value in options]} if options else {}
            return {"o": op, "a": [tree(arg) for arg in args], "s": show(expr), **more}
