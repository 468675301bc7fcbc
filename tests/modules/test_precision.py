"""Leaves in single precision on a host in half: near the host in single, one rounding when merged, and autocast as it comes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.design.technique import Technique
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from tests.hosts.embedded import embedded
from tests.hosts.families import build, inputs
from tests.small import small

torch.set_num_threads(1)
HALVES = (torch.bfloat16, torch.float16)


def standing(model: Any, technique: Technique, **more: Any) -> Attached | None:
    """A technique with leaves of some size on a host; None where it cannot stand there."""
    try:
        attached = attach(model, small(technique), **more)
    except PeftrefError:
        return None
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_((0.1 * torch.randn(parameter.shape)).to(parameter.dtype))
    return attached


def step(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    out: torch.Tensor = model(**batch)[0]
    out.float().square().mean().backward()
    return out.detach()


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_every_technique_comes_near_the_host_in_single_precision(family: str) -> None:
    host = build(family)
    half = copy.deepcopy(host).to(torch.bfloat16)
    full = copy.deepcopy(half).to(torch.float32)
    batch = inputs(host)
    seen = 0
    for technique in techniques():
        if not technique.insert:
            continue
        here, there = (standing(model, technique) for model in (half, full))
        if here is None or there is None:
            continue
        assert {each.dtype for each in here.parameters()} == {torch.float32}, technique.name
        ours, theirs = step(half, batch), step(full, batch)
        assert ours.dtype == torch.bfloat16
        assert (ours - theirs).abs().max() < 0.15 * theirs.abs().max(), technique.name
        for parameter in here.parameters():
            assert parameter.grad is not None, technique.name
            assert parameter.grad.dtype == torch.float32
            assert torch.isfinite(parameter.grad).all(), technique.name
        for attached in (here, there):
            attached.detach()
        seen += 1
    assert seen > 60


@pytest.mark.parametrize("dtype", HALVES)
def test_the_leaves_are_as_they_are_asked_for(dtype: torch.dtype) -> None:
    model = build("llama").to(dtype)
    for asked, given in ((None, torch.float32), (dtype, dtype), (torch.float64, torch.float64)):
        attached = standing(model, load("lora"), dtype=asked)
        assert attached is not None
        assert {each.dtype for each in attached.parameters()} == {given}
        assert step(model, inputs(model)).dtype == dtype
        attached.detach()
    assert {each.dtype for each in model.parameters()} == {dtype}
    double = standing(build("llama").double(), load("lora"))
    assert double is not None
    assert {each.dtype for each in double.parameters()} == {torch.float64}


@pytest.mark.parametrize("dtype", HALVES)
def test_merging_rounds_once(dtype: torch.dtype) -> None:
    """Two modules on one weight: the sum in single precision is rounded, and not each of its parts."""
    model = build("llama").to(dtype)
    query = model.layers[0].self_attn.q_proj
    before, expected = query.weight.clone(), query.weight.double()
    leaves_of: dict[str, dict[str, torch.Tensor]] = {}
    for name in ("one", "two"):
        attached = attach(model, load("lora", r=4, alpha=4), name)
        torch.manual_seed(len(leaves_of) + 1)
        leaves = leaves_of[name] = {}
        with torch.no_grad():
            for copied in attached.module.copies:
                leaf = attached.module.leaf(copied.name)
                leaf.normal_(std=0.05)
                if copied.name.startswith("decoder.0.attention.query."):
                    leaves[copied.leaf.name] = leaf.double()
        expected = expected + leaves["B"] @ leaves["A"]
    set_active(model, ["one", "two"])
    for name in ("one", "two"):
        Attached(model, name).merge()
    wrong = query.weight != expected.to(dtype)
    assert wrong.double().mean() < 0.002  # single and double precision may fall on two sides of a half
    assert (query.weight.double() - expected).abs().max() <= torch.finfo(dtype).eps * expected.abs().max()
    for name in ("two", "one"):
        Attached(model, name).unmerge()
    assert torch.equal(query.weight, before)


@pytest.mark.parametrize("family", ["llama", "gpt2", "vit"])
@pytest.mark.parametrize(
    "name", ["lora", "dora", "oft", "houlsby", "ia3", "prefix", "loha", "hra", "psoft", "randlora"]
)
def test_autocast_decides(family: str, name: str) -> None:
    """A host in single precision under autocast computes in half, and its leaves learn in single."""
    model = build(family)
    attached = standing(model, load(name))
    assert attached is not None
    batch = inputs(model)
    with torch.no_grad():
        exact = model(**batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch)[0]
    out.float().square().mean().backward()
    assert (out - exact).abs().max() < 0.1 * exact.abs().max()
    for parameter in attached.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("kind", ["a table", "a table, scaled by a buffer", "patches of an image", "every other frame"])
@pytest.mark.parametrize("cast", [False, True])
def test_embeddings_in_half(kind: str, cast: bool) -> None:
    slot, model, batch = embedded(kind, torch.float32 if cast else torch.bfloat16)
    full = copy.deepcopy(model).float()
    technique = load("lora", r=2).moved(slot)
    here, there = standing(model, technique), standing(full, technique)
    assert here is not None
    assert there is not None
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        ours = step(model, batch)
    theirs = step(full, {key: each.float() if each.is_floating_point() else each for key, each in batch.items()})
    assert (ours - theirs).abs().max() < 0.1 * theirs.abs().max()
    assert all(torch.isfinite(each.grad).all() for each in here.parameters() if each.grad is not None)
    assert {each.dtype for each in here.parameters()} == {torch.float32}
