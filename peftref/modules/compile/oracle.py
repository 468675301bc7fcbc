"""The oracle: every op by its definition, literally, in double precision, column by column, forming every matrix.

It shares nothing with the emitter and is slow on purpose; compiled modules, merges and rewrites are held against it.
A value per token is an array [batch, tokens, *shape], one per sample [batch, 1, *shape], any other [*shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftref.language.expr import Call, Expr, Name, Number, Text
from peftref.language.kind import Kind
from peftref.language.op import Op
from peftref.language.ops import TABLE
from peftref.language.scope import Scope

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Oracle:
    """Evaluates expressions of a scope on given values; dropout is off, and `causal` says whether attend looks ahead.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import scope_at
    >>> oracle = Oracle(scope_at("attention.query", {}, {}), {"h": np.ones((1, 2, 3))})
    >>> oracle.evaluate(parse_expression("2 * h"))[0, 0].tolist()
    [2.0, 2.0, 2.0]
    """

    scope: Scope
    values: Mapping[str, Array | float]
    causal: bool = False

    def evaluate(self, expr: Expr) -> Array:
        """The value of an expression."""
        match expr:
            case Number(value):
                return np.asarray(value, dtype=np.float64)
            case Name(name):
                return np.asarray(self.values[name], dtype=np.float64)
            case Text():
                raise ValueError("a text has no value")
            case Call():
                return self._call(expr)

    def _call(self, expr: Call) -> Array:
        op, operands = TABLE[expr.op], [arg for arg in expr.args if not isinstance(arg, Text)]
        kinds = [self.scope.kind(arg) for arg in operands]
        values = [self.evaluate(arg) for arg in operands]
        patterns = [arg.value for arg in expr.args if isinstance(arg, Text)]
        options = {name: round(float(self.evaluate(value))) for name, value in expr.options}
        define = partial(definition(op), *patterns, **options)
        if op.mixes:
            return np.asarray(define(*values, kinds=kinds, causal=self.causal), dtype=np.float64)
        return _each(define, values, kinds)


def _each(define: Callable[..., Any], values: list[Array], kinds: list[Kind]) -> Array:
    """An op that acts on each token by itself: applied in a loop, one column at a time."""
    if all(kind.per == "none" for kind in kinds):
        return np.asarray(define(*values), dtype=np.float64)
    batch, tokens = np.broadcast_shapes(
        *(value.shape[:2] for value, kind in zip(values, kinds, strict=True) if kind.per != "none")
    )
    rows = []
    for i in range(batch):
        row = []
        for j in range(tokens):
            here = [
                value if kind.per == "none" else value[i % value.shape[0], j % value.shape[1]]
                for value, kind in zip(values, kinds, strict=True)
            ]
            row.append(define(*here))
        rows.append(row)
    return np.asarray(rows, dtype=np.float64)


@cache
def definition(op: Op) -> Callable[..., Any]:
    """The oracle of an op as a function of arrays, options by name.

    >>> from peftref.language.ops import TABLE
    >>> definition(TABLE["add"])(np.ones(2), np.zeros((2, 3))).shape
    (2, 3)
    """
    if callable(op.oracle):
        return op.oracle
    names = [f"v{i}" for i in range(op.arity[1])]
    options = {name: name for name in op.options}
    body = op.oracle.format(*names, operands="*values", **options)
    given = "".join(f", {name}={default!r}" for name, default in op.options.items())
    head = (
        "*values"
        if "{operands}" in op.oracle
        else ", ".join([*names[: op.arity[0]], *(f"{n}=None" for n in names[op.arity[0] :])])
    )
    found: Callable[..., Any] = eval(
        f"lambda {head}{given}: {body}", {"np": np, "math": math}
    )  # the text of a row of the op table
    return _by_columns(found) if op.elementwise else found


def _by_columns(define: Callable[..., Any]) -> Callable[..., Any]:
    """Elementwise with the rule for columns: [n] against [n, m] acts on every column."""

    def apply(*values: Array) -> Any:
        most = max(np.ndim(value) for value in values)
        return define(
            *(
                np.reshape(value, np.shape(value) + (1,) * (most - np.ndim(value))) if np.ndim(value) else value
                for value in values
            )
        )

    return apply
