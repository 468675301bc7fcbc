"""On a host kept in 8 or 4 bits: what the same module computes on the plain numbers, made plain once a step at most."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.restore import restore
from peftref.modules.running import stored
from tests.hosts.quantised import WAYS, quantised, unpacked
from tests.small import small

torch.set_num_threads(1)
NEAR = {"torchao int8": 1e-4, "torchao int4": 1e-4, "bitsandbytes int8": 5e-2, "bitsandbytes nf4": 2e-2}
"""How near the library's own product comes to that of the plain numbers; bitsandbytes rounds the input as well."""
OUTPUT = ("lora", "houlsby", "ia3", "bitfit", "tiny_attention", "lokr", "vera", "prefix", "pissa", "loha", "svft")
WEIGHT = ("dora", "oft", "boft", "hira")


def grown(attached: Attached) -> Attached:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return attached


def batch() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(0, 96, (2, 6), generator=torch.Generator().manual_seed(1))}


def step(model: Any) -> torch.Tensor:
    out: torch.Tensor = model(**batch()).logits
    (out * torch.linspace(0.1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach()


@pytest.mark.parametrize("name", [*OUTPUT, *WEIGHT])
@pytest.mark.parametrize("way", WAYS)
def test_it_computes_what_it_does_on_the_plain_numbers(way: str, name: str) -> None:
    few = quantised(way)
    full = unpacked(few)
    alone = few(**batch()).logits
    here, there = (grown(attach(model, small(load(name)))) for model in (few, full))
    ours, theirs = step(few), step(full)
    near = NEAR[way] * float(theirs.abs().max())
    assert (ours - theirs).abs().max() < near
    assert (ours - alone).abs().max() > 4 * near or way.startswith("bitsandbytes")
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).abs().max() <= 2 * NEAR[way] * max(1.0, float(other.grad.abs().max()))


def test_every_technique_computes_what_it_does_on_the_plain_numbers() -> None:
    seen = 0
    few = quantised("torchao int8")
    full = unpacked(few)
    for technique in techniques():
        if technique.tune != "none" or not technique.insert:
            continue
        try:
            here, there = (grown(attach(model, small(technique))) for model in (few, full))
        except PeftrefError:
            continue
        with torch.no_grad():
            ours, theirs = few(**batch()).logits, full(**batch()).logits
        assert (ours - theirs).abs().max() < 1e-3 * float(theirs.abs().max()), technique.name
        here.detach()
        there.detach()
        seen += 1
    assert seen > 60


@pytest.fixture
def made_plain(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each module's weight was made plain."""
    found: Counter[int] = Counter()
    own = stored._dequantised

    def counted(module: Any, weight: Any) -> torch.Tensor:
        found[id(module)] += 1
        return own(module, weight)

    monkeypatch.setattr(stored, "_dequantised", counted)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_is_made_plain_once_a_step_where_it_is_read(way: str, made_plain: Counter[int]) -> None:
    model = quantised(way)
    for name in (*OUTPUT, *WEIGHT):
        attached = grown(attach(model, small(load(name))))
        model.train()
        made_plain.clear()
        step(model)
        sites = sum(len(runs) for runs in attached.module.runs.values())
        assert set(made_plain.values()) <= {1}, name
        assert len(made_plain) == (sites if name in WEIGHT else 0), name
        attached.detach()


def test_several_that_read_one_weight_share_it(made_plain: Counter[int]) -> None:
    model = quantised("torchao int8")
    for name in ("one", "two"):
        grown(attach(model, load("dora", r=2), name))
    set_active(model, ["one", "two"], combine="sum")
    made_plain.clear()
    step(model)
    assert len(made_plain) == 4
    assert set(made_plain.values()) == {1}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_not_merged_and_says_what_to_do(way: str) -> None:
    model = quantised(way)
    attached = grown(attach(model, load("lora", r=2)))
    before = model(**batch()).logits
    assert not attached.mergeable
    with pytest.raises(PeftrefError, match="full precision"):
        attached.merge()
    assert not attached.merged
    assert torch.equal(model(**batch()).logits, before)


@pytest.mark.parametrize("way", WAYS)
def test_a_module_trained_in_few_bits_merges_into_the_full_host(way: str, tmp_path: Path) -> None:
    few = quantised(way)
    attached = grown(attach(few, load("lora", r=2)))
    place = attached.save(tmp_path / "saved")
    attached.detach()
    restore(few, place).detach()
    full = unpacked(few)
    found = restore(full, place, other_weights=True)
    with torch.no_grad():
        changed = full(**batch()).logits
        found.merge()
        torch.testing.assert_close(full(**batch()).logits, changed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_detaching_leaves_the_bits(way: str) -> None:
    model = quantised(way)
    before = model(**batch()).logits
    grown(attach(model, load("dora", r=2))).detach()
    assert torch.equal(model(**batch()).logits, before)
    assert "peftref" not in model._modules
