"""The oracle: every op by its definition, literally, in double precision, column by column, forming every matrix.

It shares nothing with the emitter and is slow on purpose; compiled modules, merges and rewrites are held against it.
A value per token is an array [batch, tokens, *shape], one per sample [batch, 1, *shape], any other [*shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from peftref.language import einsum
from peftref.language.expr import Call, Expr, Name, Number, Text
from peftref.language.kind import Kind
from peftref.language.scope import Scope
from peftref.modules.compile.definitions import DEFINITIONS
from peftref.modules.compile.definitions import Array as Array


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
        operands = [arg for arg in expr.args if not isinstance(arg, Text)]
        kinds = [self.scope.kind(arg) for arg in operands]
        values = [self.evaluate(arg) for arg in operands]
        if expr.op == "concat":
            return self._concat(values, kinds)
        if expr.op == "attend":
            heads = dict(expr.options).get("heads", Number(1))
            return self._attend(values, kinds, int(float(self.evaluate(heads))))
        if expr.op == "by_task":
            return np.broadcast_to(values[0][0], (values[1].shape[0], 1, *values[0].shape[1:]))
        if expr.op == "edges":
            return self._edges(values[0], **{name: float(self.evaluate(value)) for name, value in expr.options})
        if expr.op == "mean_tokens":
            return np.asarray(values[0].mean(axis=1, keepdims=True))
        return self._each(expr, values, kinds)

    def _each(self, expr: Call, values: list[Array], kinds: list[Kind]) -> Array:
        """An op that acts on each token by itself: applied in a loop, one column at a time."""
        define = self._definition(expr)
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

    @staticmethod
    def _edges(h: Array, first: float = 0, last: float = 0) -> Array:
        tokens = h.shape[1]
        return np.asarray([[float(i < first or i >= tokens - last) for i in range(tokens)]] * h.shape[0])

    def _definition(self, expr: Call) -> Callable[..., Any]:
        if expr.op != "einsum":
            options = {name: round(float(self.evaluate(value))) for name, value in expr.options}
            return partial(DEFINITIONS[expr.op], **options)
        text = expr.args[0]
        if not isinstance(text, Text):
            raise ValueError("an einsum begins with its pattern")
        pattern = einsum.parse_pattern(text.value)
        given = {name: round(float(self.evaluate(value))) for name, value in expr.options}
        return lambda *operands: _einsum(pattern, operands, given)

    @staticmethod
    def _concat(values: list[Array], kinds: list[Kind]) -> Array:
        batch = next(value.shape[0] for value, kind in zip(values, kinds, strict=True) if kind.per == "token")
        parts = [
            value
            if kind.per == "token"
            else value[:, 0]
            if kind.per == "sample"
            else np.broadcast_to(value, (batch, *value.shape))
            for value, kind in zip(values, kinds, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _attend(self, values: list[Array], kinds: list[Kind], heads: int) -> Array:
        query, key, value = values
        flat = len(kinds[0].dims) == 1
        batch, tokens = query.shape[:2]
        if kinds[1].per == "none":
            key, value = (np.broadcast_to(each, (batch, *each.shape)) for each in (key, value))
        if flat:
            query, key, value = (each.reshape(*each.shape[:2], heads, -1) for each in (query, key, value))
        groups = query.shape[2] // key.shape[2]
        result = np.zeros((batch, tokens, query.shape[2], value.shape[-1]))
        for i in range(batch):
            for n in range(query.shape[2]):
                for t in range(tokens):
                    seen = t + 1 if self.causal and kinds[1].per == "token" else key.shape[1]
                    logits = key[i, :seen, n // groups] @ query[i, t, n] / math.sqrt(query.shape[-1])
                    weights = np.exp(logits - logits.max())
                    result[i, t, n] = weights / weights.sum() @ value[i, :seen, n // groups]
        return np.asarray(result.reshape(batch, tokens, -1) if flat else result)


def _einsum(pattern: einsum.Pattern, operands: tuple[Array, ...], given: Mapping[str, int]) -> Array:
    """Groups of axes are cut by the sizes of single ones; then numpy's own einsum; then the result is grouped."""
    sizes: dict[str, int] = dict(given)
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            if len(axis) == 1:
                sizes[axis[0]] = extent
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            missing = [name for name in axis if name not in sizes]
            if missing:
                known = math.prod(sizes[name] for name in axis if name in sizes)
                sizes[missing[0]] = extent // known
    cut = [
        value.reshape([sizes[name] for axis in axes for name in axis])
        for axes, value in zip(pattern.operands, operands, strict=True)
    ]
    letters = {name: chr(97 + i) for i, name in enumerate(pattern.indices())}
    words = ["".join(letters[name] for axis in axes for name in axis) for axes in (*pattern.operands, pattern.result)]
    result = np.einsum(",".join(words[:-1]) + "->" + words[-1], *cut)
    return np.asarray(result).reshape([math.prod(sizes[name] for name in axis) for axis in pattern.result])
