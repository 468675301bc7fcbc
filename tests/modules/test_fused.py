"""Slots that share one fused weight: what the same techniques compute where every slot has a weight of its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as tf

from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.design.technique import Technique
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from tests.hosts.configs import FAMILIES
from tests.hosts.families import build, inputs
from tests.hosts.shaken import build as build_family
from tests.hosts.shaken import inputs as inputs_of
from tests.small import small

torch.set_num_threads(1)
FUSED = ("attention.query", "attention.key", "attention.value", "ffn.gate", "ffn.up")
LLAMA_LIKE = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def twins() -> tuple[tf.PreTrainedModel, tf.PreTrainedModel]:
    """A Llama, and a Phi-3 with its very weights, which keeps queries, keys and values in one, and gate and up in one."""
    apart, fused = build("llama").double(), build("phi3", rms_norm_eps=1e-6).double()
    own: dict[str, torch.Tensor] = dict(apart.named_parameters())
    with torch.no_grad():
        for name, parameter in fused.named_parameters():
            path, _, last = name.removesuffix(".weight").rpartition(".")
            parts = [own[f"{path}.{part}.weight"] for part in LLAMA_LIKE.get(last, ())]
            parameter.copy_(torch.cat(parts) if parts else own[name])
    torch.testing.assert_close(apart(**inputs(apart))[0], fused(**inputs(fused))[0], rtol=1e-9, atol=1e-9)
    return apart, fused


def grown(model: Any, technique: Technique, name: str = "default") -> Attached:
    attached = attach(model, technique, name)
    torch.manual_seed(len(name))
    with torch.no_grad():
        for copied in sorted(attached.module.copies, key=lambda each: each.name):
            leaf = attached.module.leaf(copied.name)
            if leaf.requires_grad:
                leaf.add_(0.1 * torch.randn_like(leaf))
    return attached


def step(model: Any) -> torch.Tensor:
    out: torch.Tensor = model(**inputs(model))[0]
    (out * torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach()


def at_fused(technique: Technique) -> Technique:
    """At every slot that one fused weight serves, where it can be moved there."""
    try:
        return technique.moved(*FUSED) if "linear" in str(technique.insert[0].at) else technique.moved(*FUSED[:3])
    except PeftrefError:
        return technique


def test_every_technique_computes_on_a_slice_what_it_does_on_a_whole() -> None:
    apart, fused = twins()
    seen = []
    for technique in techniques():
        if not technique.insert:
            continue
        moved = at_fused(small(technique))
        try:
            one = grown(apart, moved)
        except PeftrefError:
            continue
        other = grown(fused, moved)
        torch.testing.assert_close(step(apart), step(fused), rtol=1e-5, atol=1e-6, msg=technique.name)
        for copied in one.module.copies:
            mine, theirs = (each.module.leaf(copied.name) for each in (one, other))
            if mine.requires_grad:
                assert mine.grad is not None
                assert theirs.grad is not None
                largest = max(1.0, float(mine.grad.abs().max()))
                torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-4, atol=1e-4 * largest, msg=technique.name)
        assert one.mergeable == other.mergeable, technique.name
        if one.mergeable:
            merged_alike(apart, fused, one, other)
        one.detach()
        other.detach()
        seen.append(technique.name)
    assert len(seen) > 50, seen


def merged_alike(apart: Any, fused: Any, one: Attached, other: Attached) -> None:
    """Both merged, the fused weights are the others one after another; unmerged, they are what they were, bit by bit."""
    before = {name: value.clone() for name, value in fused.named_parameters() if "peftref" not in name}
    one.merge()
    other.merge()
    own = dict(apart.named_parameters())
    for name, parameter in fused.named_parameters():
        path, _, last = name.removesuffix(".weight").rpartition(".")
        if last in LLAMA_LIKE:
            whole = torch.cat([own[f"{path}.{part}.weight"] for part in LLAMA_LIKE[last]])
            torch.testing.assert_close(parameter, whole, rtol=1e-4, atol=1e-6, msg=one.technique.name)
    for each in (one, other):
        each.unmerge()
    assert all(torch.equal(value, before[name]) for name, value in fused.named_parameters() if name in before)


def test_other_techniques_on_other_slices() -> None:
    apart, fused = twins()
    names = {
        "low": ("lora", FUSED[0]),
        "turned": ("oft", FUSED[1]),
        "long": ("dora", FUSED[2]),
        "even": ("loha", FUSED[4]),
    }
    for model in (apart, fused):
        for name, (technique, slot) in names.items():
            grown(model, small(load(technique)).moved(slot), name)
        set_active(model, list(names))
    torch.testing.assert_close(step(apart), step(fused), rtol=1e-9, atol=1e-9)
    before = {name: value.clone() for name, value in fused.named_parameters() if "peftref" not in name}
    with torch.no_grad():
        together = fused(**inputs(fused))[0]
        for name in ("long", "low", "even", "turned"):
            Attached(fused, name).merge()
            torch.testing.assert_close(fused(**inputs(fused))[0], together, rtol=1e-5, atol=1e-6)
        for name in names:
            Attached(fused, name).unmerge()
    assert all(torch.equal(value, before[name]) for name, value in fused.named_parameters() if name in before)


SLICED = ("gpt2", "gpt_neox", "bloom", "falcon", "phi3")


@pytest.mark.parametrize("family", SLICED)
def test_a_merged_slice_leaves_the_others_alone(family: str) -> None:
    """Every technique at one of the slices in each family, and over the families at every one."""
    assert family in FAMILIES
    host = build_family(family).double()
    batch = inputs_of(host)
    merged = 0
    for number, technique in enumerate(each for each in techniques() if len(each.insert) == 1):
        slot = FUSED[(number + SLICED.index(family)) % 3]
        model = copy.deepcopy(host)
        try:
            attached = grown(model, small(technique).moved(slot))
        except PeftrefError:
            continue
        if not attached.mergeable:
            continue
        assert any(site.slot == slot for site in attached.modules.host.sites)
        others = [site for site in attached.modules.host.sites if site.slot in FUSED[:3] and site.slot != slot]
        rows = {site.name: _own(model, site) for site in others}
        with torch.no_grad():
            apart = model(**batch)[0]
            attached.merge()
            torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-4, atol=1e-5, msg=f"{technique.name} {slot}")
        assert all(torch.equal(_own(model, site), rows[site.name]) for site in others), (technique.name, slot)
        merged += 1
    assert merged > 30


def _own(model: Any, site: Any) -> torch.Tensor:
    """The rows of a slot in the fused weight, written out."""
    weight = model.get_submodule(site.path).weight.detach()
    whole = weight.T if site.form == "transposed" else weight
    rows = site.ports["h"].rows
    grid = torch.arange(whole.shape[0]).view(rows.shape)
    found: torch.Tensor = whole[grid.narrow(rows.axis, rows.start, rows.stop - rows.start).flatten()].clone()
    return found
