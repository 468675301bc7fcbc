"""A technique alone at a linear map: its change is added to the weight first, and nothing is computed differently."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from peftref.analyse.alone import ROOM, spared
from peftref.analyse.alone import alone as alone_form
from peftref.analyse.explain import explain
from peftref.analyse.group import groups, meter
from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.design.placement import numbers, placements
from peftref.host.locate.resolve import resolve
from peftref.language.expr import names
from peftref.language.rewrite.computed import computed
from peftref.language.rewrite.cost import Load
from peftref.language.rewrite.optimise import optimise
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.running.run import Run
from tests.hosts.families import build, inputs
from tests.small import small

DENSE = (
    "adalora", "bat", "bd_lora", "c3a", "corda", "deft", "delora", "eva", "fourierft", "glora", "gralora", "kasa", "krona", "loha",
    "lokr", "lora", "lora_all", "lora_bias", "lora_plus", "lora_xs", "loretta", "melora", "mica", "milora", "miss", "mora", "nola", "olora", "osf",
    "para", "peanut", "pissa", "qalora", "randlora", "rslora", "s4", "shira", "spectral_adapter", "supertuning", "svdiff", "svft", "tinylora", "unilora",
    "vblora", "waveft",
)  # fmt: skip
"""What has the form on a tiny llama; on a gpt2, whose projections of attention are fused, what stands beside these has it too."""


def alone(found: Attached) -> list[Run]:
    return [run for runs in found.module.runs.values() for run in runs if run.alone is not None]


def moved(model, name: str, under: str = "default") -> Attached:  # type: ignore[no-untyped-def]
    found = attach(model, small(load(name)), under)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return found


def test_no_other_has_the_form() -> None:
    model = build("llama")
    for technique in techniques():
        if technique.name not in DENSE:
            with suppress(PeftrefError):  # not for this host
                found = attach(model, small(technique))
                assert not alone(found), technique.name
                found.detach()


@pytest.mark.parametrize(("name", "family"), [*((name, "llama") for name in DENSE), ("lora_all", "gpt2")])
def test_outputs_and_gradients_are_those_of_the_other_form(name: str, family: str) -> None:
    model = build(family).double()
    found = moved(model, name)
    runs = alone(found)
    assert runs
    results = []
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        out = model(**inputs(model))[0]
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in found.parameters() if p.grad is not None)])
        for run in runs:
            run.alone = None
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_it_is_taken_only_alone_and_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    first, second = moved(model, "shira", "first"), moved(model, "shira", "second")
    taken: list[int] = []
    for run in alone(first) + alone(second):
        assert run.alone is not None
        run.alone.forward.register_forward_hook(lambda *_: taken.append(1))
    batch = inputs(model)
    both_alone = {}
    for name in ("first", "second"):
        set_active(model, name)
        both_alone[name] = model(**batch)[0]
        assert taken
        taken.clear()
    set_active(model, ["first", "second"])
    model(**batch)
    set_active(model, ["first"])
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch)
    model.to(torch.bfloat16)
    model(**batch)
    assert not taken


def test_explain_says_so() -> None:
    steps = explain("shira", "bert-base").parts[0].steps
    assert [law for step in steps for law in step.laws] == ["add the change to the weight, one product in place of two"]
    assert explain("shira", "bert-base").costs.forward == 0
    part = explain("para", "llama-3.2-1b", batch=8, length=256).parts[0]
    assert part.chosen == "h - qr(P) @ (qr(P).T @ h)"
    assert [law for step in part.steps for law in step.laws] == ["take the host's own product, which is there already"]


@pytest.mark.parametrize("tokens", [16, 512, 4096])
@pytest.mark.parametrize(
    "name", ["shira", "supertuning", "fourierft", "svdiff", "deft", "osf", "randlora", "lora", "loha"]
)
def test_no_form_keeps_more_than_the_changed_weight_and_its_input_or_what_any_form_must(name: str, tokens: int) -> None:
    technique, host = load(name), resolve("bert-base")
    for group in groups(technique, placements(technique, host)):
        place = group[0]
        measure = meter(technique, place, Load(tokens, 16))
        sizes = numbers(place.site, technique.settings)
        found = alone_form(place.insertion, place.effect, place.site.lacks, sizes, measure)
        if found is not None:
            assert "h" in names(computed(place.effect, place.site.lacks, sizes)["h"])
            there = measure.cost(optimise(computed(place.effect, place.site.lacks, sizes)["h"], measure)[0])
            cost = measure.cost(found.value) - spared(measure, found.value)
            assert cost.saved <= ROOM * max(there.saved, 768 * 768 + tokens * 768)
            assert cost.saved <= there.saved or cost.score < there.score


def test_a_matrix_of_few_entries_is_added_to_the_weight_where_that_is_quicker() -> None:
    """SuperTuning at many tokens is one product with the changed weight; at few, its entries are applied beside the host's own."""
    many, few = (explain("supertuning", "bert-base", batch=batch).parts[0].chosen for batch in (8, 1))
    assert many == "(W + scatter(v, at, m=d_in, n=d_out)) @ x + b"
    assert few == "h + sparse(v, at, x, n=d_out)"
