"""Beginning from data: held against peft's own initialisations, and against what defines them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import get_eva_state_dict

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.procedures.inputs import key, moments
from peftref.modules.procedures.work import Place, Work
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs

NAMES = ("eva", "corda")


def moved(family: str) -> Any:
    """A host whose parameters are all offset."""
    model = build(family)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("masked", [False, True])
def test_principal_directions_are_those_of_peft(masked: bool) -> None:
    model = moved("bert")
    batch = inputs(model, rows=8, length=9)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    if masked:
        batch["attention_mask"][:3, 5:] = 0
    config = LoraConfig(
        r=3, target_modules=["query", "value"], init_lora_weights="eva", eva_config=EvaConfig(rho=1.0, tau=0.999)
    )
    theirs = get_peft_model(moved("bert"), config, low_cpu_mem_usage=True)
    found = get_eva_state_dict(theirs, [batch], show_progress_bar=False)
    attached = attach(model, load("eva", r=3), batches=[batch])
    for placement in attached.module.placed:
        expected = found[f"base_model.model.{placement.site.path}"]
        own = attached.module.leaf(f"{placement.site.name}.A")
        torch.testing.assert_close(
            (own @ expected.float().T).abs(), torch.eye(3), rtol=0, atol=0.02
        )  # its decomposition is a random one


@pytest.mark.parametrize(("take", "method"), [("last", "kpm"), ("first", "ipm")])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_what_is_taken_out_of_the_weight_is_what_peft_takes(family: str, take: str, method: Any) -> None:
    model, theirs = moved(family), moved(family)
    batch = inputs(model, rows=1, length=40)
    targets = ["q_proj", "v_proj"] if family == "llama" else ["query", "value"]
    config = LoraConfig(
        r=4,
        lora_alpha=4,
        target_modules=targets,
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method=method),
    )
    preprocess_corda(theirs, config, run_model=lambda: theirs(**batch))
    peft_model = get_peft_model(theirs, config)
    attached = attach(model, load("corda", r=4, take=take), batches=[batch])
    for placement in attached.module.placed:
        layer = peft_model.base_model.model.get_submodule(placement.site.path)
        expected = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        own = {name: attached.module.leaf(f"{placement.site.name}.{name}") for name in ("A", "B", "A0", "B0")}
        found = own["B"] @ own["A"]
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=3e-3 * scale)
        assert torch.equal(own["A"], own["A0"])
        assert torch.equal(own["B"], own["B0"])
        assert scale > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_host_computes_as_before(name: str) -> None:
    model = moved("llama")
    batch = inputs(model)
    before = model(**batch)[0]
    attach(model, load(name, r=3), batches=[batch, batch])
    torch.testing.assert_close(model(**batch)[0], before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_training_without_data_is_refused(name: str, tmp_path: Path) -> None:
    model = build("llama")
    batch = inputs(model)
    attached = attach(model, load(name, r=3))
    assert attached.waiting
    model.train()
    with pytest.raises(PeftrefError) as caught:
        model(**batch)
    assert caught.value.problems[0].code == "no-batches"
    model.eval()
    model(**batch)
    attached.begin([batch])
    assert not attached.waiting
    model.train()
    model(**batch)[0].sum().backward()
    folder = attached.save(tmp_path / "saved")
    attached.detach()
    again = restore(model, folder)
    model(**batch)[0].sum().backward()
    assert not again.waiting


def test_batches_without_tokens_leave_the_host_as_it_was() -> None:
    model = build("llama")
    other = attach(model, load("lora", r=2), "other")
    with pytest.raises(PeftrefError, match="no tokens"):
        attach(model, load("eva", r=3), batches=[])
    assert other.modules.active == ("other",)
    assert set(other.modules.inserted()) == {"other"}


def test_the_host_alone_is_seen_in_evaluation_mode_and_left_as_it_was() -> None:
    model = build("llama", attention_dropout=0.5)
    batch = inputs(model)
    first = attach(model, load("lora", r=2), "first")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.fill_(0.5)
    model.train()
    model.layers[0].eval()
    second = attach(model, load("eva", r=3), "second", batches=[batch])
    assert model.training
    assert not model.layers[0].training
    found = {c.name: second.module.leaf(c.name).clone() for c in second.module.copies}
    second.detach()
    first.detach()
    model.eval()
    alone = attach(model, load("eva", r=3), "second", batches=[batch])
    assert all(torch.equal(alone.module.leaf(name), value) for name, value in found.items())
    set_active(model, "second")


def test_moments_do_not_depend_on_how_the_tokens_are_cut() -> None:
    model = moved("llama")
    batch = inputs(model, rows=6)
    attached = attach(model, load("eva", r=3))
    places = tuple(Place(each.site, {}, {}, lambda name: torch.zeros(1)) for each in attached.module.placed)
    attached.disable()
    whole = moments(Work(places, {}, model=model, batches=[batch]))
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 2), slice(2, 6))]
    cut = moments(Work(places, {}, model=model, batches=halves))
    assert {key(place) for place in places} == set(whole) == set(cut)
    assert len(whole) == 2, "query and value of a layer read one tensor"
    for name, each in whole.items():
        assert each.tokens == cut[name].tokens == 42
        torch.testing.assert_close(each.spread(centred=True), cut[name].spread(centred=True), rtol=1e-4, atol=1e-5)
