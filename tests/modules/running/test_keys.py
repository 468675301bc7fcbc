"""A prefix on hosts that attend by themselves: what they give with the rows put into their cache by hand, and what it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

import peftref
from peftref.core.problem import PeftrefError
from peftref.modules.attached import Attached
from tests.modules.running.hosts import OWN, build, tokens
from tests.modules.running.techniques import CORE, KEYS, LENGTHENING, stand

torch.set_num_threads(1)
PREFIX, PROMPT = KEYS[0], LENGTHENING[0]


def by_hand(found: Attached, batch: int, heads: int = 4) -> DynamicCache:
    """A cache of the host alone that holds the rows."""
    cache = DynamicCache()
    for layer in range(2):
        rows = [found.module.leaf(f"decoder.{layer}.attention.core.{name}").detach() for name in ("Pk", "Pv")]
        wide = [
            each.transpose(0, 1).repeat_interleave(heads // each.shape[1], 0).expand(batch, -1, -1, -1) for each in rows
        ]
        cache.update(*wide, layer)
    return cache


@pytest.mark.parametrize("family", OWN)
def test_rows_are_a_past(family: str) -> None:
    model = build(family)
    found = stand(model, PREFIX)
    ids, mask = tokens(2, 7), torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    with torch.no_grad():
        here = model(input_ids=ids, attention_mask=mask).logits
        with found.disabled():
            longer = torch.cat([torch.ones(2, 3, dtype=torch.long), mask], 1)
            wanted = model(input_ids=ids, attention_mask=longer, past_key_values=by_hand(found, 2)).logits
            assert (model(input_ids=ids, attention_mask=mask).logits - here).abs().max() > 1e-3
    torch.testing.assert_close(here[mask.bool()], wanted[mask.bool()])


@pytest.mark.parametrize("family", OWN)
def test_training_keeps_no_cache_and_reaches_the_rows(family: str) -> None:
    model = build(family)
    found = stand(model, PREFIX)
    model.train()
    out = model(input_ids=tokens(2, 7), labels=tokens(2, 7), use_cache=False)
    assert out.get("past_key_values") is None
    out.loss.backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in found.parameters())


def test_a_prompt_and_a_prefix_together_and_in_turn_over_steps() -> None:
    model = build("bloom")
    stand_by = {name: stand_as(model, name) for name in (PREFIX, PROMPT)}
    peftref.set_active(model, list(stand_by))
    ids = tokens(2, 7)
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        out = model(input_ids=ids[:, :4], use_cache=True)
        rest = model(input_ids=ids[:, 4:], past_key_values=out.past_key_values).logits
    torch.testing.assert_close(torch.cat([out.logits, rest], 1), whole)


def stand_as(model: Any, name: str) -> Attached:
    """A technique under its own name."""
    from peftref.design.load import load
    from tests.modules.running.techniques import shake
    from tests.small import small

    found = peftref.attach(model, small(load(name)), name)
    shake(found)
    return found


def test_samples_with_and_without_rows_in_one_batch() -> None:
    model = build("falcon")
    stand_as(model, PREFIX)
    ids = tokens(3, 7)
    names = [PREFIX, None, PREFIX]
    with torch.no_grad():
        with peftref.per_sample(model, names=names):
            mixed = model(input_ids=ids).logits
        alone = []
        for row, name in zip(ids, names, strict=True):
            with peftref.per_sample(model, names=[name]):
                alone.append(model(input_ids=row[None]).logits)
    torch.testing.assert_close(mixed, torch.cat(alone))


def test_what_is_no_past_is_refused() -> None:
    model = build("bloom")
    with pytest.raises(PeftrefError, match="computes attention itself") as refused:
        peftref.attach(model, CORE[0])
    assert [problem.code for problem in refused.value.problems] == ["core-own"]
    found = stand(model, PREFIX)
    model.train()
    model.gradient_checkpointing_enable()
    with pytest.raises(PeftrefError, match="keeps none"):
        model(input_ids=tokens(2, 7))
    found.detach()
    model(input_ids=tokens(2, 7))


def test_packed_sequences_are_refused() -> None:
    model = build("gpt_neo")
    stand(model, PREFIX)
    packed = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    with pytest.raises(PeftrefError, match="packed into one row"):
        model(input_ids=tokens(1, 7), position_ids=packed, use_cache=False)
