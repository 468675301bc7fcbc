"""Rows of different lengths in front of the samples of one batch: the shorter ones are padded in front."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.modules.running.override import arguments
from peftref.modules.running.run import Run, by_part
from peftref.modules.running.samples import Part
from peftref.modules.running.table import PAST, first_position

Lengths = dict[str | None, int]
"""How many rows each technique put in front, by its name."""


def lengthened(before: Tensor, runs: list[Run], call: Callable[[list[Run], Tensor], Tensor]) -> tuple[Tensor, Lengths]:
    """What all runs make of [batch, tokens, ...], and how much longer it has become for each part of the batch.

    call: gives what the runs of one part make of its samples.
    """
    made: list[tuple[Part, Tensor]] = []
    for part, mine in by_part(runs):
        if part is None:
            after = call(mine, before)
            return after, {None: after.shape[1] - before.shape[1]}
        with part.alone():
            made.append((part, call(mine, part.take(before))))
    return joined(before, made), {part.name: after.shape[1] - before.shape[1] for part, after in made}


def joined(before: Tensor, made: list[tuple[Part, Tensor]]) -> Tensor:
    """[batch, tokens, ...] with the samples of each part replaced by what was made of them, which may be longer in front."""
    longest = max(after.shape[1] for _, after in made)
    whole = in_front(before, longest)
    for part, after in made:
        whole = part.put(whole, in_front(after, longest))
    return whole


def in_front(value: Tensor, length: int) -> Tensor:
    """[batch, tokens, ...] with zeros in front, up to a length."""
    more = length - value.shape[1]
    return nn.functional.pad(value, (*((0, 0) * (value.dim() - 2)), more, 0)) if more else value


def padding(runs: list[Run], lengths: Lengths, count: int) -> Tensor | None:
    """How many rows of padding stand in front of each of so many samples, [count]; None where there are none."""
    part = next((run.part for run in runs if run.part), None)
    if part is None:
        return None
    found = max(lengths.values()) - part.samples.spread(lengths, count)
    return found if bool(found.any()) else None


def unpadded(pads: Tensor, length: int, count: int, device: torch.device) -> Tensor:
    """Which of the first rows are no padding, [count, length]; a batch may hold each sample several times in a row, as for beams."""
    seen = torch.arange(length) >= pads[:, None]
    return seen.repeat_interleave(count // len(pads), 0).to(device)


def told(
    given: dict[str, Any], pads: Tensor, added: int, past: int, entry: nn.Module, names: Collection[str]
) -> dict[str, Any]:
    """The arguments of a call whose sequence, or whose past, begins with padding: masks and positions leave it out.

    given: what the call would get if nothing were padded. past: tokens in the cache. names: the arguments that the stack knows.
    """
    count, length = batch_shape(given)
    assert length is not None
    mask = given.get("attention_mask")
    if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
        text = "some samples of the batch grow more than others, and the mask given is one of pairs"
        raise fail("samples-length", text, hint="give a mask [batch, tokens]")
    tokens = next(each for each in (given.get("inputs_embeds"), given.get("input_ids")) if isinstance(each, Tensor))
    given["attention_mask"] = hidden(mask, pads, added, count, past + length, tokens.device)
    if "position_ids" in names:
        positions, first = given.get("position_ids"), 0
        if not isinstance(positions, Tensor):
            first = first_position(entry)
            positions = torch.arange(past, past + length, device=tokens.device)[None] + first
        more = pads.repeat_interleave(count // len(pads)).to(positions.device)
        given["position_ids"] = (positions - more[:, None]).clamp(min=first)
    return given


def hidden(mask: Tensor | None, pads: Tensor, added: int, count: int, length: int, device: torch.device) -> Tensor:
    """A mask [batch, tokens] that does not count the padding in front."""
    whole = torch.ones(count, length, dtype=torch.long, device=device) if mask is None else mask
    return torch.cat([unpadded(pads, added, count, device).to(whole.dtype), whole[:, added:]], 1)


def counts_by_itself(entry: nn.Module, names: Collection[str], embedding: nn.Module, width: int) -> bool:
    """Whether a stack gives its tokens positions that it counts itself and cannot be told."""
    if "position_ids" in names:
        return False
    tables = [each for each in entry.modules() if isinstance(each, nn.Embedding) and each is not embedding]
    own = [each for each in entry.modules() if each is not entry and _is_told_the_past(each)]
    return bool(own) or any(each.embedding_dim == width for each in tables)


def batch_shape(given: Mapping[str, Any]) -> tuple[int, int | None]:
    """How many samples, and how many tokens where that can be told, a call of a stack has."""
    for name in ("inputs_embeds", "input_ids"):
        value = given.get(name)
        if isinstance(value, Tensor):
            return value.shape[0], value.shape[1]
    return next((value.shape[0] for value in given.values() if isinstance(value, Tensor) and value.dim()), 1), None


def _is_told_the_past(module: nn.Module) -> bool:
    return PAST in arguments(module)
