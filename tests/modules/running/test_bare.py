"""A technique on parameters that a module multiplies with by itself, against the same host with these parameters changed by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import XLNetConfig, XLNetForSequenceClassification, XLNetLMHeadModel, XLNetModel

from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.restore import restore
from tests.modules.running.techniques import shake
from tests.tiny import TEXT

torch.set_num_threads(1)
SCALE = 16 / 3
SLOTS = {"query": "q", "key": "k", "value": "v", "output": "o"}
SIZES: dict[str, Any] = {**TEXT, "d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 48, "dropout": 0.0}
SAMPLES, LENGTH = 2, 5


def host(kind: Any = XLNetModel) -> Any:
    """A small XLNet in double precision; its projections are [d_model, heads, d_head]."""
    torch.manual_seed(0)
    model = kind(XLNetConfig(**SIZES)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def lora(model: Any, *roles: str) -> Attached:
    at = [f"attention.{role}" for role in roles or ("query", "value")]
    found = attach(model, load("lora", r=3, alpha=16.0).moved(*at))
    shake(found)
    return found


def given(what: str) -> dict[str, Tensor | list[Tensor]]:
    """Arguments of a call: tokens alone, behind memories, padded, in two streams, or in two streams of which one is shorter."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 99, (SAMPLES, LENGTH), generator=draw)
    if what == "memories":
        return {"input_ids": ids, "mems": [torch.randn(3, SAMPLES, 24, generator=draw).double() for _ in range(2)]}
    if what == "padded":
        return {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])}
    if what == "streams":
        seen = torch.ones(LENGTH, LENGTH).triu().expand(SAMPLES, -1, -1).double()
        last = torch.eye(LENGTH).double()[-2:].expand(SAMPLES, -1, -1)
        return {"input_ids": ids, "perm_mask": seen, "target_mapping": last}
    return {"input_ids": ids}


def changed(model: Any, found: Attached) -> dict[str, Tensor]:
    """The host's parameters with B @ A of every site added by hand, in the axes in which the host keeps them."""
    made = {}
    for name, parameter in model.named_parameters():
        if name.startswith("peftref") or ".peftref." in name:
            continue
        made[name] = parameter.detach()
        layer, role = next(
            ((i, r) for i in range(2) for r, p in SLOTS.items() if name.endswith(f"{i}.rel_attn.{p}")), (0, "")
        )
        names = [f"encoder.{layer}.attention.{role}.{leaf}" for leaf in "AB"]
        if role and names[0] in dict(found.module.leaves.named_parameters()):
            down, up = map(found.module.leaf, names)
            added = SCALE * up @ down  # [d_out, d_in]
            made[name] = made[name] + (added if role == "output" else added.T).reshape(parameter.shape)
    return made


@pytest.mark.parametrize("what", ["tokens", "memories", "padded", "streams"])
@pytest.mark.parametrize("roles", [("query", "value"), ("key", "output")])
def test_outputs_and_gradients_are_those_of_a_host_whose_parameters_were_changed_by_hand(
    roles: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = XLNetModel.relative_positional_encoding
    doubled = lambda *args, **kwargs: positions(*args, **kwargs).double()  # noqa: E731
    monkeypatch.setattr(XLNetModel, "relative_positional_encoding", doubled)  # in two streams they stay single
    model, plain = host(XLNetLMHeadModel).train(), host(XLNetLMHeadModel).train()
    found = lora(model, *roles)
    leaves = list(found.parameters())
    out = model(**given(what))[0]
    expected = functional_call(plain, changed(model, found), (), given(what))[0]
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert (out - plain(**given(what))[0]).abs().max() > 1e-2
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
    here, there = (torch.autograd.grad((weights * each.square()).sum(), leaves) for each in (out, expected))
    for one, other in zip(here, there, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_is_merged_is_what_was_changed_by_hand_and_comes_back_bit_by_bit() -> None:
    model = host()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = lora(model, *SLOTS)
    expected = changed(model, found)
    out = model(**given("tokens"))[0]
    found.merge()
    for name, value in expected.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(**given("tokens"))[0], out, rtol=1e-10, atol=1e-10)
    found.unmerge()
    assert all(model.state_dict()[name].equal(value) for name, value in before.items())
    found.detach()
    assert list(model.state_dict()) == list(before)


def test_the_host_has_its_parameters_outside_of_calls_and_after_one_that_fails() -> None:
    model = host()
    facts = {name: dict(vars(module)) for name, module in model.named_modules()}
    base = model(**given("tokens"))[0]
    found = lora(model, *SLOTS)
    attention = model.layer[0].rel_attn

    def check() -> None:
        assert "q" not in vars(attention)
        assert attention.q is attention._parameters["q"]
        assert model.get_parameter("layer.0.rel_attn.q") is attention.q

    check()
    with pytest.raises(RuntimeError):
        model(input_ids=given("tokens")["input_ids"], mems=[torch.ones(3, SAMPLES, 7).double()] * 2)
    check()
    found.disable()
    assert model(**given("tokens"))[0].equal(base)
    found.detach()
    assert {name: dict(vars(module)).keys() for name, module in model.named_modules()} == {
        name: each.keys() for name, each in facts.items()
    }
    assert model(**given("tokens"))[0].equal(base)


def test_a_copy_acts_by_itself() -> None:
    model = host()
    found = lora(model)
    out = model(**given("tokens"))[0]
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    assert other(**given("tokens"))[0].equal(out)
    found.detach()
    assert other(**given("tokens"))[0].equal(out)


def test_a_saved_host_and_a_saved_technique_come_back(tmp_path: Path) -> None:
    model = host(
        XLNetForSequenceClassification
    ).float()  # transformers reads its bare parameters in single precision only
    found = lora(model)
    out = model(**given("padded"))[0]
    model.save_pretrained(tmp_path / "host")
    found.save(tmp_path / "technique")
    again = XLNetForSequenceClassification.from_pretrained(tmp_path / "host").eval()
    assert {name for name in model.state_dict() if "peftref" not in name} == set(again.state_dict())
    restore(again, tmp_path / "technique")
    assert again(**given("padded"))[0].equal(out)


def test_parameters_can_be_trained_themselves() -> None:
    model = host()
    technique = read("{name: m, title: M, tune: [attention.query, attention.output]}")
    found = attach(model, technique)
    assert {name for name, each in model.named_parameters() if each.requires_grad} == {
        f"layer.{layer}.rel_attn.{name}" for layer in (0, 1) for name in ("q", "o")
    }
    model(**given("tokens"))[0].square().sum().backward()
    assert all(each.grad is not None for each in found.parameters())
    found.detach()


def test_a_compiled_host_has_no_break_and_gives_the_same() -> None:
    model = host().train()
    found = lora(model, *SLOTS)
    out = model(**given("tokens"))[0]
    expected = torch.autograd.grad(out.square().sum(), list(found.parameters()))
    torch._dynamo.reset()
    made = torch.compile(model, backend="eager", fullgraph=True)
    for _ in range(2):
        again = made(**given("tokens"))[0]
        torch.testing.assert_close(again, out, rtol=1e-12, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad(again.square().sum(), list(found.parameters())), expected, strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        assert "q" not in vars(model.layer[0].rel_attn)
    torch._dynamo.reset()


def test_a_prompt_is_refused_where_pairs_of_tokens_are_told_apart() -> None:
    model = host(XLNetLMHeadModel)
    attach(model, load("prompt", tokens=3))
    assert model(**given("padded"))[0].shape == (SAMPLES, LENGTH, 99)
    with pytest.raises(PeftrefError, match="mask-fixed"):
        model(**given("streams"))


def test_of_two_streams_a_change_of_a_layer_is_made_in_the_first() -> None:
    model = host(XLNetLMHeadModel).float()
    told = {name: value.float() if name != "input_ids" else value for name, value in given("streams").items()}  # type: ignore[union-attr]  # no memories
    technique = read(
        "{name: m, title: M, insert: [{at: layer, layers: [LAYER], equation: h' = 2 * h}]}".replace("LAYER", "1")
    )
    base, first = model(**told)[0], model(told["input_ids"])[0]
    attach(model, technique)
    assert model(**told)[0].equal(base)
    assert not model(told["input_ids"])[0].equal(first)


def test_peft_has_no_such_module(tmp_path: Path) -> None:
    with pytest.raises(PeftrefError, match="peer-refuses"):
        write_peft(lora(host().float()), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_padding_is_not_among_what_a_technique_begins_from() -> None:
    """The directions of what enters are those of the samples without their padding."""
    padded = given("padded")
    ids = padded["input_ids"]
    assert isinstance(ids, Tensor)
    one, other = (
        attach(host(), load("eva", r=2), batches=batches)
        for batches in ([padded], [{"input_ids": ids[:1, 2:]}, {"input_ids": ids[1:]}])
    )
    for here, there in zip(one.module.leaves.parameters(), other.module.leaves.parameters(), strict=True):
        torch.testing.assert_close(here.abs(), there.abs(), rtol=1e-6, atol=1e-8)
    assert any(each.abs().max() > 0 for each in one.module.leaves.parameters())
