"""Attached techniques act, learn, and leave no trace when they are taken off."""

from __future__ import annotations

import copy

import pytest
import torch

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.design.placement import copies, placements
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach, set_active
from tests.hosts.families import CONFIGS, build, inputs, stands

torch.set_num_threads(1)
MODULES = (
    "prompt",
    "lora",
    "ia3",
    "houlsby",
    "pfeiffer",
    "tiny_attention",
    "compacter",
    "bitfit",
    "layernorm",
    "prefix",
    "prefix_mlp",
)
SMALL = {
    "prompt": {"tokens": 3},
    "prefix": {"tokens": 3},
    "prefix_mlp": {"tokens": 3, "bottleneck": 4},
    "houlsby": {"bottleneck": 4},
    "pfeiffer": {"bottleneck": 4},
    "compacter": {"bottleneck": 8},
    "lora": {"r": 2},
}
IDENTITY = {"lora", "ia3", "tiny_attention", "bitfit", "layernorm"}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("family", CONFIGS)
def test_attach_acts_learns_and_detaches_without_a_trace(family: str, name: str) -> None:
    model = build(family)
    batch = inputs(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = [(key, dict(vars(module)).keys(), len(module._forward_hooks)) for key, module in model.named_modules()]
    with torch.no_grad():
        base = model(**batch)[0]
    technique = load(name, **SMALL.get(name, {}))
    if not stands(technique, model):
        with pytest.raises(PeftrefError, match="has no slot attention"):
            attach(model, technique)
        return
    attached = attach(model, technique)
    trained = list(attached.parameters())
    placed = copies(attached.technique, placements(attached.technique, resolve(build(family))))
    assert sum(parameter.numel() for parameter in trained) == sum(one.numel for one in placed)
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in trained}
    started = model(**batch)[0]
    if name in IDENTITY:
        torch.testing.assert_close(started, base, rtol=0, atol=1e-6)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1 * torch.randn_like(parameter))
    changed = model(**batch)[0]
    assert (changed - base).abs().max() > 1e-3
    changed.square().sum().backward()
    assert all(parameter.grad is not None for parameter in trained)
    assert all(value.grad is None for key, value in model.named_parameters() if not key.startswith("peftref."))
    attached.disable()
    with torch.no_grad():
        assert torch.equal(model(**batch)[0], base)
    attached.detach()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [
        (key, dict(vars(module)).keys(), len(module._forward_hooks)) for key, module in model.named_modules()
    ] == hooks
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_two_modules_stack_and_sum() -> None:
    model = build("bert")
    batch = inputs(model)
    one, two = attach(model, load("houlsby", bottleneck=4), "one"), attach(model, load("lora", r=2), "two", seed=1)
    with torch.no_grad():
        for parameter in (*one.parameters(), *two.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
        set_active(model, ["one", "two"])
        stacked = model(**batch)[0]
        set_active(model, ["two"])
        single = model(**batch)[0]
        assert not torch.allclose(stacked, single)
        one.detach()
        torch.testing.assert_close(model(**batch)[0], single)
    assert not one.modules.inserted().keys() - {"two"}


def test_a_deep_copy_lives_on_its_own() -> None:
    model = build("llama")
    attached = attach(model, load("lora", r=2))
    other = copy.deepcopy(model)
    batch = inputs(model)
    with torch.no_grad():
        before = other(**batch)[0]
        for parameter in attached.parameters():
            parameter.add_(1.0)
        assert torch.equal(other(**batch)[0], before)


@pytest.mark.parametrize(("name", "code"), [("1x", "name-taken"), ("default", "name-taken")])
def test_a_bad_name_leaves_the_host_alone(name: str, code: str) -> None:
    model = build("llama")
    attach(model, load("ia3"))
    keys = list(model.state_dict())
    with pytest.raises(PeftrefError, match=code):
        attach(model, load("ia3"), name)
    assert list(model.state_dict()) == keys


def test_a_leaf_may_learn_at_a_rate_of_its_own() -> None:
    attached = attach(build("bert"), load("lora_plus", r=2, ratio=4))
    groups = {group["lr"]: len(group["params"]) for group in attached.groups(0.5)}
    assert groups == {0.5: 4, 2.0: 4}
    optimizer = torch.optim.SGD(attached.groups(0.5))
    before = [parameter.detach().clone() for parameter in attached.parameters()]
    for parameter in attached.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    steps = {
        name.rpartition(".")[2]: float((old - new).max())
        for (name, new), old in zip(
            ((n, p) for n, p in attached.module.named_parameters() if p.requires_grad), before, strict=True
        )
    }
    assert steps == {"A": 0.5, "B": 2.0}


def test_random_leaves_follow_the_seed() -> None:
    model = build("llama")
    found = []
    for seed in (0, 1, 2, 0):
        attached = attach(model, load("lora", r=2), seed=seed)
        found.append(attached.module.leaf("decoder.0.attention.query.A").detach().clone())
        other = attached.module.leaf("decoder.1.attention.query.A").detach()
        assert not torch.equal(found[-1], other)
        attached.detach()
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
