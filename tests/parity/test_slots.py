"""Linear slots that are no `nn.Linear`: the same parameters in, the same counts, outputs, gradients and merged weights as in peft."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from benchmarks.parity import Pair, beside, parity
from peftref.analyse.count import count
from peftref.design.load import load
from peftref.modules.attach import attach
from tests.hosts.embedded import HOSTS, embedded
from tests.hosts.families import inputs
from tests.modules.test_tied import BOTH, tied
from tests.small import small

warnings.filterwarnings("ignore", ".*Model has `tie_word_embeddings=True`.*")
TABLES = [kind for kind in HOSTS if kind.startswith("a table")]
TWO_AXES = ["patches of an image", "overlapping patches"]
CASES = [
    *((name, kind) for name in ("lora", "dora", "rslora") for kind in HOSTS),
    *((name, kind) for name in ("loha",) for kind in HOSTS if kind not in TABLES and kind != "patches of a film"),
    *((name, kind) for name in ("boft", "hra") for kind in TWO_AXES),
    *(("lokr", kind) for kind in ("frames, with a margin", "every other frame", "overlapping patches")),
]
"""A technique, and a way in which embeddings are stored: wherever peft has the one on the other. It has LoHa, LoKr, BOFT and HRA on
no table, BOFT and HRA on no convolution in one axis, none but LoRA in three."""


def pair(name: str, kind: str) -> tuple[Pair, dict[str, torch.Tensor]]:
    slot, model, batch = embedded(kind, torch.float)
    technique = small(load(name))
    if name == "lokr" and kind == "overlapping patches":
        technique = technique.with_settings(n=1)  # peft cuts the channels, and there is one
    both = beside(model, technique.moved(slot))
    with_strides(both.theirs)
    return both, {key: each.double() if each.is_floating_point() else each for key, each in batch.items()}


def with_strides(theirs: Any) -> None:
    """Whisper asks its convolutions for their strides, and peft's layers hide them (see test_defects.py)."""
    for layer in theirs.modules():
        if hasattr(layer, "base_layer") and hasattr(layer.base_layer, "stride"):
            layer.stride = layer.base_layer.stride


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_peft_computes_the_same(name: str, kind: str) -> None:
    both, batch = pair(name, kind)
    trained = sum(each.numel() for each in both.ours.parameters())
    assert trained == sum(each.numel() for each in both.theirs.parameters() if each.requires_grad)
    assert trained == count(both.ours.technique, both.ours.model).trained
    found = parity(both, batch)
    assert found.output < 1e-12
    assert found.gradient < 1e-9
    tied = kind == "a table, scaled by a number"
    assert (found.merged is None) == tied
    assert tied or found.merged is None or found.merged < 1e-12


def test_a_padding_token_learns_as_every_other() -> None:
    """Peft keeps the column of the padding token; where attention and loss leave it out, that is the same."""
    for masked in (False, True):
        both, batch = pair("lora", "a table")
        batch["input_ids"][0, -2:] = 0
        batch["attention_mask"] = (batch["input_ids"] != 0).long() if masked else torch.ones_like(batch["input_ids"])
        found, gradients = both.leaves(), {}
        for model in (both.ours.model, both.theirs):
            out = model(**batch)[0]
            (out * batch["attention_mask"][..., None]).square().sum().backward()
        for copied in both.ours.module.copies:
            gradients[copied.leaf.name] = [both.ours.module.leaf(copied.name).grad, found[copied.name].grad]
        ours, theirs = gradients["A"]
        assert ours is not None
        assert theirs is not None
        assert (theirs[:, 0] == 0).all()
        assert (ours[:, 0].abs().max() < 1e-12) == masked
        torch.testing.assert_close(ours[:, 1:], theirs[:, 1:], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(*gradients["B"], rtol=1e-9, atol=1e-9)


def test_a_rotation_of_patches_in_peft_is_not_what_it_merges() -> None:
    """Peft cuts windows at stride one and sums where they overlap; the windows that the convolution sees are the others."""
    both, batch = pair("oft", "patches of an image")
    with torch.no_grad():
        ours, theirs = both.ours.model(**batch)[0], both.theirs(**batch)[0]
        merged = both.theirs.merge_and_unload()(**batch)[0]
        torch.testing.assert_close(ours, merged, rtol=1e-9, atol=1e-9)
        assert (theirs - merged).abs().max() > 0.1


def test_whisper_does_not_run_with_a_convolution_of_peft() -> None:
    """Its encoder asks `conv1.stride`, which peft's layer hides; ours stands beside the convolution and not in its place."""
    slot, model, batch = embedded("frames, with a margin", torch.float)
    both = beside(model, small(load("lora")).moved(slot))
    batch = {key: each.double() if each.is_floating_point() else each for key, each in batch.items()}
    assert torch.isfinite(both.ours.model(**batch)[0]).all()
    with pytest.raises(AttributeError, match="stride"):
        both.theirs(**batch)


def test_windows_that_are_spread_are_lost_in_peft() -> None:
    """Peft's LoRA on a convolution leaves out its dilation; merged, it is what ours is."""
    slot, model, batch = embedded("every other frame", torch.float)
    conv: Any = model.encoder.conv2
    conv.dilation, conv.padding = (2,), (2,)
    both = beside(model, small(load("lora")).moved(slot))
    with_strides(both.theirs)
    batch = {key: each.double() if each.is_floating_point() else each for key, each in batch.items()}
    with torch.no_grad():
        ours = both.ours.model(**batch)[0]
        with pytest.raises(RuntimeError, match="size of tensor"):
            both.theirs(**batch)
        merged = both.theirs.merge_and_unload()
        torch.testing.assert_close(ours, merged(**batch)[0], rtol=1e-9, atol=1e-9)


def test_the_start_is_the_host() -> None:
    for kind in HOSTS:
        slot, model, batch = embedded(kind, torch.float)
        with torch.no_grad():
            before = model(**batch)[0]
            attached = attach(model, small(load("lora")).moved(slot))
            torch.testing.assert_close(model(**batch)[0], before, rtol=1e-5, atol=1e-6, msg=kind)
            attached.detach()


def test_one_change_of_a_tied_weight_is_both_of_its_uses_in_peft() -> None:
    """With the same leaves at the embedding and, transposed, at the head: the gradients of both uses add up."""
    host = tied("llama").double()
    config = LoraConfig(
        r=2, lora_alpha=2, target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True, init_lora_weights=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = get_peft_model(copy.deepcopy(host), config, autocast_adapter_dtype=False).double()  # type: ignore[arg-type]  # a copy of one
    ours = attach(host, BOTH)
    a, b = ours.module.leaf("A"), ours.module.leaf("B")
    table, head = theirs.base_model.model.model.embed_tokens, theirs.base_model.model.lm_head
    own = [table.lora_embedding_A["default"], table.lora_embedding_B["default"]]
    other = [head.lora_B["default"].weight, head.lora_A["default"].weight]
    with torch.no_grad():
        for one, two, leaf in zip(own, other, (a, b), strict=True):
            one.copy_(leaf)
            two.copy_(leaf.T)
    for model in (host, theirs):
        model(**inputs(host)).logits.square().sum().backward()
    torch.testing.assert_close(host(**inputs(host)).logits, theirs(**inputs(host)).logits, rtol=1e-9, atol=1e-9)
    for one, two, leaf in zip(own, other, (a, b), strict=True):
        torch.testing.assert_close(leaf.grad, one.grad + two.grad.T, rtol=1e-9, atol=1e-9)
