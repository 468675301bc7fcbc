"""A batch in which samples have modules of their own, beside peft's `adapter_names`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.leaves import put_leaves
from peftref.modules.per_sample import per_sample
from tests.hosts.families import build, inputs

NAMES = ["a", None, "b", "a", "b"]
THEIRS = ["__base__" if name is None else name for name in NAMES]
RANKS = {"a": 2, "b": 4}


def both() -> tuple[Any, Any, dict[str, Attached]]:
    """Peft's model and ours, with two LoRA modules of the same numbers on each."""
    theirs: Any = None
    for name, rank in RANKS.items():
        config = LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        if theirs is None:
            theirs = get_peft_model(build("llama", "CausalLM"), config, name, autocast_adapter_dtype=False)
        else:
            theirs.add_adapter(name, config)
    theirs = theirs.double().eval()
    model = build("llama", "CausalLM").double()
    ours = {name: attach(model, load("lora", r=rank, alpha=8), name) for name, rank in RANKS.items()}
    generator = torch.Generator().manual_seed(3)
    for name, handle in ours.items():
        values = {}
        for copy in handle.module.copies:
            layer = theirs.base_model.model.get_submodule(copy.sites[0].path)
            weight = {"A": layer.lora_A, "B": layer.lora_B}[copy.leaf.name][name].weight
            with torch.no_grad():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.double))
            weight.requires_grad_(True)
            values[copy.name] = weight.detach()
        put_leaves(handle, values)
    return theirs, model, ours


def test_outputs_and_gradients_are_peft_s() -> None:
    theirs, model, ours = both()
    ids = inputs(model, rows=5)["input_ids"]
    wanted = theirs(input_ids=ids, adapter_names=THEIRS).logits
    wanted.square().sum().backward()
    with per_sample(model, NAMES):
        found = model(input_ids=ids).logits
    found.square().sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    for name, handle in ours.items():
        for copy in handle.module.copies:
            layer = theirs.base_model.model.get_submodule(copy.sites[0].path)
            weight = {"A": layer.lora_A, "B": layer.lora_B}[copy.leaf.name][name].weight
            torch.testing.assert_close(handle.module.leaf(copy.name).grad, weight.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beams", [1, 3])
def test_generated_tokens_are_peft_s(beams: int) -> None:
    theirs, model, _ = both()
    ids = inputs(model, rows=5)["input_ids"]
    given = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(ids)
    wanted = theirs.generate(input_ids=ids, attention_mask=mask, adapter_names=THEIRS, **given)
    with per_sample(model, NAMES):
        found = model.generate(input_ids=ids, attention_mask=mask, **given)
    assert torch.equal(found, wanted)
