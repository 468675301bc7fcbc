"""The tap at positions: tokens counted after the rows that a technique puts in front of the keys, as after a cache of the past.

A host adds positions in one of two places: a module in front of the layers is told how long the past is, or the stack hands
`position_ids` on. A host whose stack has neither (relative distances, patches) counts nothing, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from peftref.design.placement import Placement, numbers
from peftref.design.technique import Technique
from peftref.host.host import Stack
from peftref.language.expr import Call
from peftref.language.ops import TABLE
from peftref.modules.running.override import Override, arguments
from peftref.modules.running.table import PAST, enough, first_position

Added = int | Tensor
"""After how many rows the tokens are counted; or for each sample, [batch, 1]."""
POSITIONS = "position_ids"


def counted_rows(technique: Technique, placed: Iterable[Placement], stack: str) -> int:
    """How many rows a technique puts in front of the keys of a stack, after which its tokens are counted; 0 where they are not."""
    return max([0, *(_counted(each, technique) for each in placed if each.site.stack == stack)])


def _counted(placement: Placement, technique: Technique) -> int:
    keys = placement.values.get("k")
    if (
        placement.site.slot != "attention.core"
    ):  # the keys of cross attention are another stack's, whose tokens stay where they are
        return 0
    if not placement.insertion.counted or not isinstance(keys, Call) or not TABLE[keys.op].lengthens:
        return 0
    kinds = [placement.effect.scope.kind(arg) for arg in keys.args]
    sizes = {k: v for k, v in numbers(placement.site, technique.settings).items() if isinstance(v, int)}
    return sum(kind.dims[0].evaluate(sizes) for kind in kinds if kind.per == "none")


class PositionTap:
    """What one stack of a host does differently: its positions are moved by what `added` tells of so many samples."""

    def __init__(self, model: nn.Module, stack: Stack, added: Callable[[int], Added]) -> None:
        self.added = added
        entry = model.get_submodule(stack.entry)
        self.first = first_position(entry)
        told = [each for each in entry.modules() if each is not entry and PAST in arguments(each)]
        at_entry = not told and POSITIONS in arguments(entry)
        self.entry, self.moves = entry, at_entry
        self.overrides = [*(_Shift(each, self._told) for each in told), _Shift(entry, self._entered)]

    def remove(self) -> None:
        """Takes every override off."""
        for override in self.overrides:
            override.remove()

    def _told(self, call: Callable[..., Any], given: dict[str, Any]) -> Any:
        vectors = given.get("inputs_embeds")
        count = next(each.shape[0] for each in given.values() if isinstance(each, Tensor))
        added = self.added(count)
        name = POSITIONS if isinstance(given.get(POSITIONS), Tensor) else PAST
        before = given.get(name, 0)
        if name == PAST and isinstance(vectors, Tensor) and given.get("input_ids") is None:
            first = self.first + before  # with vectors, some forget the past
            name, before = POSITIONS, torch.arange(first, first + vectors.shape[1], device=vectors.device)[None]
        if isinstance(added, int):
            return call(**given | {name: before + added})
        made = {rows: call(**given | {name: before + rows}) for rows in set(added.flatten().tolist())}
        return torch.stack(
            [_of_sample(made[rows], sample, count) for sample, rows in enumerate(added.flatten().tolist())]
        )

    def _entered(self, call: Callable[..., Any], given: dict[str, Any]) -> Any:
        ids, vectors, cache = (given.get(name) for name in ("input_ids", "inputs_embeds", "past_key_values"))
        tokens: Any = ids if vectors is None else vectors
        if tokens is None:
            return call(**given)
        added, positions = self.added(tokens.shape[0]), given.get(POSITIONS)
        if self.moves:
            if not isinstance(positions, Tensor):
                past = 0 if cache is None else cache.get_seq_length()
                positions = (torch.arange(tokens.shape[1], device=tokens.device) + past)[None]
            given[POSITIONS] = positions + added
        with enough(self.entry, given, added):
            return call(**given)


class _Shift(Override):
    """A call that is changed by the names of its arguments, after all else that changes them: rows in front are moved too."""

    def __init__(self, module: nn.Module, change: Callable[[Callable[..., Any], dict[str, Any]], Any]) -> None:
        names = arguments(module)

        def call(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return change(original, {**dict(zip(names, args, strict=False)), **kwargs})

        super().__init__(module, call, first=True)


def _of_sample(positions: Tensor, sample: int, count: int) -> Tensor:
    """The positions of one sample, [tokens, d], out of those of all or out of what serves all."""
    return positions if positions.dim() == 2 else positions[sample if positions.shape[0] == count else 0]
