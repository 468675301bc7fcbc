"""A sequence gives beside others what it gives alone: padded on either side, or packed with others into one line."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from tests.modules.running.hosts import CAUSAL, ENCODERS, OWN, PAIRS, build, tokens
from tests.modules.running.techniques import AVERAGING, FIRST, KEYS, KINDS, LENGTHENING, REST, shake, stand
from tests.small import small

torch.set_num_threads(1)
CASES = [
    *((family, name) for family in (*CAUSAL, *ENCODERS) for name in FIRST),
    *zip(cycle(("llama", "gpt2", "mistral", "bert")), (*REST, *AVERAGING), strict=False),
]
CASES = [case for case in CASES if case[0] not in OWN or case[1] in (*LENGTHENING, *KEYS)]
PACKING = ("llama", "gpt2", "mistral", "gemma2")
"""Families whose hosts take packed sequences by their positions."""


def close(here: Tensor, wanted: Tensor) -> None:
    """Equal up to rounding, and nothing is lost."""
    assert here.shape == wanted.shape
    torch.testing.assert_close(here, wanted, rtol=1e-4, atol=1e-4)


def positions(mask: Tensor, model: Any) -> dict[str, Tensor]:
    """Positions counted from a mask, for hosts that take them."""
    if model.config.model_type == "bloom":
        return {}
    first = 1 + model.config.pad_token_id if model.config.model_type == "roberta" else 0
    return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0) + first}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_padded_sequence_gives_what_it_gives_alone(family: str, name: str) -> None:
    model = build(family)
    stand(model, name)
    ids = tokens(2, 9)
    right, left = torch.ones_like(ids), torch.ones_like(ids)
    right[1, 6:], left[1, :3] = 0, 0
    with torch.no_grad():
        alone = model(input_ids=ids[1:, :6])[0]
        close(model(input_ids=ids, attention_mask=right)[0][1:, :6], alone)
        behind = torch.cat([ids[:, :3], ids[:, :6]], 1)
        close(model(input_ids=behind, attention_mask=left, **positions(left, model))[0][1:, 3:], alone)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("family", [family for family in PAIRS if family != "whisper"])
def test_pairs_of_sequences_give_what_they_give_alone(family: str, name: str, side: str) -> None:
    model = build(family)
    stand(model, name, side)
    ids, given = tokens(2, 7), tokens(2, 6, seed=3)
    read, written = torch.ones_like(ids), torch.ones_like(given)
    read[1, 4:], written[1, 5:] = 0, 0
    with torch.no_grad():
        alone = model(input_ids=ids[1:, :4], decoder_input_ids=given[1:, :5])[0]
        both = model(input_ids=ids, attention_mask=read, decoder_input_ids=given, decoder_attention_mask=written)[0]
    close(both[1:, :5], alone)


def pack(lines: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Lines of sequences as token ids and as positions that start anew."""
    ids = torch.stack([torch.cat(line) for line in lines])
    return ids, torch.stack([torch.cat([torch.arange(len(each)) for each in line]) for line in lines])


@pytest.mark.parametrize(
    ("family", "name"),
    [*((family, name) for family in PACKING for name in FIRST), *zip(cycle(PACKING), REST, strict=False)],
)
def test_packed_sequences_give_what_they_give_alone(family: str, name: str) -> None:
    """Lines of two and of three sequences, with the losses' gradients of the technique."""
    model = build(family)
    found = stand(model, name)
    a, b, c, d, e = (tokens(1, length, seed=length)[0] for length in (5, 4, 2, 3, 4))
    lines = [[a, b], [c, d, e]]
    ids, places = pack(lines)
    here = model(input_ids=ids, position_ids=places, use_cache=False)[0]
    alone = torch.stack([torch.cat([model(input_ids=each[None])[0][0] for each in line]) for line in lines])
    close(here.detach(), alone.detach())
    leaves = list(found.parameters())
    for one, other in zip(*(torch.autograd.grad(out.square().mean(), leaves) for out in (here, alone)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_several_at_once_in_packed_sequences() -> None:
    model = build("llama")
    names = list(FIRST)
    for name in names:
        shake(attach(model, small(load(name)), name))
    for order in (names, names[::-1]):
        set_active(model, order)
        a, b = tokens(1, 5)[0], tokens(1, 4, seed=2)[0]
        ids, places = pack([[a, b]])
        with torch.no_grad():
            here = model(input_ids=ids, position_ids=places, use_cache=False)[0]
            alone = torch.cat([model(input_ids=each[None])[0] for each in (a, b)], 1)
        close(here, alone)


@pytest.mark.parametrize("name", [LENGTHENING[0], KEYS[0], KINDS[3][0]])
def test_a_mask_of_pairs_tells_sequences_apart(name: str) -> None:
    model = build("llama", "sdpa")
    stand(model, name)
    a, b = tokens(1, 5)[0], tokens(1, 4, seed=2)[0]
    ids, places = pack([[a, b]])
    number = (torch.arange(9) >= 5).long()
    mask = (torch.ones(9, 9).tril().bool() & (number[:, None] == number))[None, None]
    with torch.no_grad():
        for given in (mask, torch.zeros(1, 1, 9, 9).masked_fill(~mask, torch.finfo(torch.float32).min)):
            here = model(input_ids=ids, position_ids=places, attention_mask=given)[0]
            close(here, torch.cat([model(input_ids=each[None])[0] for each in (a, b)], 1))


@pytest.mark.parametrize("name", AVERAGING)
def test_packed_sequences_have_no_mean(name: str) -> None:
    model = build("llama")
    stand(model, name)
    ids, places = pack([[tokens(1, 5)[0], tokens(1, 4)[0]]])
    with pytest.raises(PeftrefError, match="packed"):
        model(input_ids=ids, position_ids=places, use_cache=False)
    model(input_ids=ids)
