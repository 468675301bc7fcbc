"""Prompts and prefixes of peft under padding and in generation: the same outputs and tokens, and where peft counts padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.parity import beside, of_tokens
from peftref.design.load import load
from tests.modules.running.hosts import build, tokens
from tests.modules.running.techniques import KEYS, LENGTHENING
from tests.modules.running.test_generate import WAYS, generated
from tests.small import small

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing", "ignore:Position ids are not supported")
PROMPT, PREFIX = LENGTHENING[0], KEYS[0]
ONE_STACK: dict[str, dict[str, Any]] = {
    "llama": {}, "gpt2": {}, "opt": {}, "bloom": {}, "falcon": {"num_kv_heads": 4}, "gpt_neo": {}, "mistral": {"sliding_window": None},
}  # fmt: skip
CASES = [(family, name) for family in ONE_STACK for name in (PROMPT, PREFIX)]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_padding_on_either_side_and_generation(family: str, name: str) -> None:
    both = beside(build(family, **ONE_STACK[family]), small(load(name)))
    ids = tokens(2, 9)
    model: Any = both.ours.model
    for place in (slice(0, 0), slice(0, 3), slice(6, 9)):
        mask = torch.ones_like(ids)
        mask[1, place] = 0
        given = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            here = model(**given).logits
            wanted = of_tokens(both.theirs(**given).logits, here)
        torch.testing.assert_close(here[mask.bool()], wanted[mask.bool()], rtol=1e-6, atol=1e-6)
        if name == PREFIX or bool(mask.all()):
            for options in WAYS.values():
                assert torch.equal(
                    generated(model, given, **options)[:, 9:], generated(both.theirs, given, **options)[:, 9:]
                )


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_padding_of_what_is_read(family: str) -> None:
    both = beside(build(family), small(load(PROMPT)))
    ids = tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    model: Any = both.ours.model
    with torch.no_grad():
        here, there = (each(**given, decoder_input_ids=ids[:, :4]).logits for each in (model, both.theirs))
    torch.testing.assert_close(here, there, rtol=1e-6, atol=1e-6)
    for options in WAYS.values():
        assert torch.equal(generated(model, given, **options), generated(both.theirs, given, **options))


def test_peft_forgets_that_a_cache_may_keep_a_head_several_times() -> None:
    """Falcon's newer form computes keys for a few heads and keeps them for each; peft's prefix has only the few."""
    both = beside(build("falcon"), small(load(PREFIX)))
    ids = tokens(2, 9)
    model: Any = both.ours.model
    assert model(input_ids=ids).logits.shape[:2] == ids.shape
    with pytest.raises(RuntimeError, match="must match"):
        both.theirs(input_ids=ids)


def test_peft_counts_the_padding_behind_a_prompt() -> None:
    """In generation the host tells positions without padding, and peft drops them: a padded line is not what it is alone."""
    both = beside(build("gpt2"), small(load(PROMPT)))
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    found: list[torch.Tensor] = []
    for model in (both.ours.model, both.theirs):
        out: Any = generated(
            model, {"input_ids": ids, "attention_mask": mask}, return_dict_in_generate=True, output_logits=True
        )
        single = {"input_ids": ids[1:, 3:], "attention_mask": mask[1:, 3:]}
        alone: Any = generated(model, single, return_dict_in_generate=True, output_logits=True)
        found.append((out.logits[0][1] - alone.logits[0][0]).abs().max())
    assert found[0] < 1e-6 < 1e-2 < found[1]
