"""Attentions from a family's map: the projections are looked up by path, everything else is still followed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from peftref.core.problem import fail
from peftref.host.expression import compute
from peftref.host.family import AttentionMap, Expression, Family, PartMap, RowMap
from peftref.host.locate.attention import Attention, Part
from peftref.host.locate.flow import Flow, Projection
from peftref.host.locate.ports import calls_within
from peftref.host.observe.graph import Attend, Call
from peftref.host.site import Rows


def mapped_attentions(flow: Flow, family: Family, fields: Mapping[str, Any]) -> tuple[Attention, ...]:
    """The attentions that a family's map describes. fields: the config's. Raises PeftrefError `host-map-wrong`."""
    try:
        found = tuple(
            _Reader(flow, family, each, fields).attention(call)
            for each in family.attentions
            if _number(each.when, fields)
            for call in flow.graph.calls
            if each.pattern().fullmatch(call.path)
        )
    except ValueError as error:
        raise fail("host-map-wrong", f"the map of {family.model_type} does not fit this config: {error}") from error
    if not found:
        raise fail("host-map-wrong", f"the map of {family.model_type} matches no module of this class")
    return found


class _Reader:
    """One entry of a map on one config."""

    def __init__(self, flow: Flow, family: Family, entry: AttentionMap, fields: Mapping[str, Any]) -> None:
        self._flow, self._family, self._map, self._fields = flow, family, entry, fields

    def attention(self, call: Call) -> Attention:
        """The attention of one call of a module. Raises ValueError where the map does not fit it."""
        query, key, value, output = (
            self._part(call, part) for part in (self._map.query, self._map.key, self._map.value, self._map.output)
        )
        d_head = _number(self._map.d_head, self._fields)
        sizes = {
            "n_heads": _number(self._map.n_heads, self._fields),
            "n_kv_heads": _number(self._map.n_kv_heads, self._fields),
            "d_head": d_head,
            "d_value": d_head if self._map.d_value is None else _number(self._map.d_value, self._fields),
        }
        if query.d_out != sizes["n_heads"] * d_head or value.d_out != sizes["n_kv_heads"] * sizes["d_value"]:
            raise ValueError(f"the heads of {call.path} do not fit its projections")
        q, k, v, o = (self._projection(part) for part in (query, key, value, output))
        attend = Attend(q.event, call.index, call.path, q.h, k.h, v.h, o.x, self._map.causal)
        reason = "" if self._map.cached else self._family.why
        return Attention(attend, query, key, value, output, sizes, reason, self._map.cached)

    def _part(self, call: Call, part: PartMap) -> Part:
        path = f"{call.path}.{part.path}" if part.path else call.path
        inner = {other.index for other in calls_within(self._flow, call)} | {call.index}
        graph = self._flow.graph
        for event, projection in self._flow.projections.items():
            if projection.path == path and graph.events[event].call in inner:
                return Part(projection, self._rows(part.rows, projection) if part.rows else None)
        raise ValueError(f"{path} is no linear module that was called")

    def _rows(self, rows: RowMap, projection: Projection) -> Rows:
        shape = tuple(_number(size, self._fields) for size in rows.shape)
        start, stop = _number(rows.start, self._fields), _number(rows.stop, self._fields)
        if prod(shape) != projection.d_out or rows.axis >= len(shape) or not 0 <= start < stop <= shape[rows.axis]:
            raise ValueError(f"rows {start}:{stop} of {shape} are no part of {projection.path}")
        return Rows(shape, rows.axis, start, stop)

    @staticmethod
    def _projection(part: Part) -> Projection:
        assert part.projection is not None
        return part.projection


def _number(expression: Expression, fields: Mapping[str, Any]) -> int:
    return expression if isinstance(expression, int) else compute(expression, fields)
