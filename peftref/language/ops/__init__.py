"""The ops of the equation language: one file each, or a family that shares everything; all of them are found by being here.

An op of others is one file too: a module with `OPS`, named by an entry point of the group `peftref.ops`, or a value that
is given to `register_op`.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module, metadata
from types import MappingProxyType
from typing import get_args

from peftref.core.problem import PeftrefError, fail
from peftref.language.op import Family, Op

GROUP = "peftref.ops"


class OpWarning(UserWarning):
    """An op of another package that cannot be used."""


def _shipped() -> Iterator[Op]:
    """Family by family, and within a family by file."""
    found = [each for file in pkgutil.iter_modules(__path__) for each in import_module(f"{__name__}.{file.name}").OPS]
    yield from sorted(found, key=lambda op: get_args(Family).index(op.family))


OPS: tuple[Op, ...] = tuple(_shipped())
"""Every op that ships with the package."""
_KNOWN: dict[str, Op] = {op.name: op for op in OPS}
TABLE: Mapping[str, Op] = MappingProxyType(_KNOWN)
"""Every op by name, those of others among them."""


def register_op(op: Op) -> Op:
    """Adds an op to the language, for this process. Raises PeftrefError `bad-op` where it cannot be one.

    >>> from peftref.language.op import Op
    >>> from peftref.language.rules import vector
    >>> flipped = Op(
    ...     name="flipped", family="structure", about="a vector from behind", example="flipped(h)", arity=(1, 1), rule=vector,
    ...     torch="{0}.flip(-1)", oracle="{0}[::-1]", linear=frozenset({0}), vanishes=frozenset({0}),
    ... )
    >>> register_op(flipped) is TABLE["flipped"]
    True
    """
    wrong = _wrong(op)
    if wrong:
        raise fail("bad-op", f"{op.name} is no op: {wrong}", hint="what an op says of itself stands in peftref.Op")
    _KNOWN[op.name] = op
    return op


def _wrong(op: Op) -> str | None:
    """What keeps a value from being an op."""
    from peftref.language.expr import Call, walk
    from peftref.language.parse import parse_expression
    from peftref.language.typeset.template import template

    if not op.name.isidentifier():
        return "its name is no name"
    if any(op.name == each.name for each in OPS):
        return "the language has an op of this name"
    if not (op.torch or op.function):
        return "it has neither torch source nor a function"
    named = op.linear | op.vanishes | op.literals | op.leaves | op.positions | op.still | op.aside
    if max(named, default=0) >= op.arity[1]:
        return f"operand {max(named) + 1} is named, and it has {op.arity[1]}"
    try:
        template(op.latex or "")
        called = [node for node in walk(parse_expression(op.example)) if isinstance(node, Call) and node.op == op.name]
    except ValueError as error:
        return f"its notation cannot be read: {error}"
    except PeftrefError as error:
        return f"its example cannot be read: {error.problems[0].text}"
    return None if called else f"its example, {op.example}, does not call it"


def _installed() -> None:
    """Adds what the entry points of other packages name."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            for op in entry.load().OPS:
                register_op(op)
        except Exception as error:  # whatever a plug-in raises must not stop the others
            text = f"the op plug-in {entry.name} ({entry.value}) is broken: {type(error).__name__}: {error}"
            warnings.warn(text, OpWarning, stacklevel=2)


_installed()
