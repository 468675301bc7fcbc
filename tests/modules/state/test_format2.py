"""Modules that were saved when `attention` was self attention alone (format 2) come back at the same sites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.restore import refill, restore
from tests.hosts.families import build, inputs

SAVED = Path(__file__).parent / "format2/t5_lora"
"""LoRA of rank 2 on the tiny T5, as version 0.1.0 saved it before cross attention was a default."""


def older(folder: Path) -> Path:
    """A saved module with the record of format 2."""
    record = folder / "module.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "format": 2}))
    return folder


def test_it_stands_where_it_stood_with_the_numbers_that_it_had(tmp_path: Path) -> None:
    model = build("t5")
    attached = restore(model, SAVED, other_weights=True)
    assert not any("cross_attention" in placement.site.slot for placement in attached.module.placed)
    stored = load_file(SAVED / "module.safetensors")
    assert {f"leaves.{copy.name}" for copy in attached.module.copies} == stored.keys()
    assert all(torch.equal(attached.module.leaf(key.removeprefix("leaves.")), value) for key, value in stored.items())
    here = model(**inputs(model))[0]
    again = attached.save(tmp_path / "again")
    attached.detach()
    there = restore(model, again)
    assert there.technique.insert[0].at == ("self_attention.query", "self_attention.value")
    assert torch.equal(model(**inputs(model))[0], here)


def test_a_new_one_stands_at_cross_attention_too(tmp_path: Path) -> None:
    model = build("t5")
    place = attach(model, load("lora", r=2)).save(tmp_path / "new")
    attached = restore(build("t5"), place)
    crossed = [each.site for each in attached.module.placed if each.site.slot == "cross_attention.query"]
    assert {site.layer for site in crossed} == {0, 1}


def test_a_checkpoint_of_before_fills_a_module_where_no_layer_has_cross_attention(tmp_path: Path) -> None:
    model = build("bert")
    attached = attach(model, load("lora", r=2))
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.1)
    place, here = older(attached.save(tmp_path / "saved")), model(**inputs(model))[0]
    attached.detach()
    attached = attach(model, load("lora", r=2), seed=5)
    refill(attached, place)
    assert torch.equal(model(**inputs(model))[0], here)
    pair = build("t5")
    before = attach(pair, load("lora", r=2))
    with pytest.raises(PeftrefError, match="technique-differs"):
        refill(before, SAVED)
