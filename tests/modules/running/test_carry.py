"""What is carried from layer to layer beside the stream: held against plain torch with hooks, and run in every way hosts are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from peftref.analyse.cost import cost
from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs

HOSTS = {"llama": "CausalLM", "gpt2": "CausalLM", "bert": None, "vit": None, "t5": "Seq2SeqLM", "bart": "Seq2SeqLM"}
SMALL: dict[str, int] = {"width": 6, "heads": 2, "d": 3}

INNER = """name: inner
title: Inner
carries: {s: [4]}
insert:
  - at: attention
    leaves:
      D: {shape: [4, d_model], init: {normal: 0.3}}
      Q: {shape: [4, 4], init: {normal: 0.5}}
    equation: s' = tanh(s + attend(Q @ D @ h, D @ h, D @ h))
  - at: ffn
    leaves:
      U: {shape: [d_model, 4], init: {normal: 0.3}}
    equation: h' = h + U @ s
"""

PLAIN = """name: plain
title: Plain
carries: {s: [4]}
insert:
  - at: layer
    stacks: [last]
    leaves:
      D: {shape: [4, d_model], init: {normal: 0.3}}
    equation: s' = tanh(s + D @ h)
  - at: layer
    layers: {last: 1}
    stacks: [last]
    leaves:
      U: {shape: [d_model, 4], init: {normal: 0.3}}
    equation: h' = h + U @ s
"""


def ladder(model: PreTrainedModel, name: str = "default", seed: int = 2) -> Attached:
    """A ladder whose leaves are no longer at their init."""
    found = attach(model, load("lst", **SMALL), name, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return found


def streams(model: PreTrainedModel, found: Attached) -> tuple[list[Tensor], list[bool]]:
    """What enters the first layer of the laddered stack, and what each layer but the last gives, in the next call of the model."""
    stack = found.modules.host.stacks[-1]
    layers = list(model.get_submodule(stack.layers_path).children())
    kept: list[Tensor] = []
    needs: list[bool] = []

    def entering(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append(next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)))

    def given(_m: Any, _a: Any, result: Any) -> None:
        stream = result if isinstance(result, Tensor) else result[0]
        kept.append(stream)
        needs.append(stream.requires_grad)

    layers[0].register_forward_pre_hook(entering, with_kwargs=True)
    for layer in layers:
        layer.register_forward_hook(given)
    return kept, needs


def by_hand(found: Attached, xs: list[Tensor], *, causal: bool, padded: Tensor | None = None) -> Tensor:
    """What the ladder adds to the stream, from what the host's layers gave: plain torch, written from the paper's text."""
    stack = found.modules.host.stacks[-1].name
    leaf = found.module.leaf
    s = xs[0] @ leaf(f"{stack}.0.layer.D0").T
    for number, h in enumerate(xs[1:]):
        at = {
            name: leaf(f"{stack}.{number}.layer.{name}")
            for name in ("D", "alpha", "g1", "Q", "K", "V", "O", "g2", "F1", "F2")
        }
        gate = torch.sigmoid(at["alpha"] / 0.1)
        s = gate * s + (1 - gate) * (h @ at["D"].T)
        n = F.layer_norm(s, s.shape[-1:], at["g1"])
        q, k, v = ((n @ at[name].T).unflatten(-1, (2, 3)).transpose(1, 2) for name in "QKV")
        logits = q @ k.mT / 3**0.5
        if causal:
            logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), float("-inf"))
        if padded is not None:
            logits = logits.masked_fill(~padded.bool()[:, None, None], float("-inf"))
        s = s + (logits.softmax(-1) @ v).transpose(1, 2).flatten(2) @ at["O"].T
        s = s + F.relu(F.layer_norm(s, s.shape[-1:], at["g2"]) @ at["F1"].T) @ at["F2"].T
    last = len(xs) - 2
    return F.layer_norm(s, s.shape[-1:], leaf(f"{stack}.{last}.layer.g3")) @ leaf(f"{stack}.{last}.layer.U").T


@pytest.mark.parametrize("family", HOSTS)
def test_a_ladder_computes_what_plain_torch_does(family: str) -> None:
    model = build(family, HOSTS[family])
    found = ladder(model)
    kept, _ = streams(model, found)
    with torch.no_grad():
        found.disable()
        model(**inputs(model))
        alone = list(kept)
        kept.clear()
        found.enable()
        model(**inputs(model))
    added = by_hand(found, alone, causal=found.modules.host.stacks[-1].causal)
    assert added.abs().max() > 0.01
    torch.testing.assert_close(kept[-1], alone[-1] + added, rtol=1e-4, atol=1e-5)
    for before, after in zip(alone[:-1], kept[:-1], strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("family", HOSTS)
def test_no_gradient_passes_through_the_host(family: str) -> None:
    """No value of a layer needs a gradient, and nothing of the host's own layers is kept for the backward pass."""
    model = build(family, HOSTS[family]).train()
    found = ladder(model)
    _, needs = streams(model, found)
    inside: list[int] = []
    saved: list[int] = []

    def leave(*_: object) -> None:
        inside.pop()

    for layer in model.get_submodule(found.modules.host.stacks[-1].layers_path).children():
        for module in layer.children():
            module.register_forward_pre_hook(lambda *_: inside.append(1))
            module.register_forward_hook(leave)

    def pack(tensor: Tensor) -> Tensor:
        saved.append(len(inside))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(**inputs(model))[0]
    assert needs == [False] * (len(needs) - 1) + [True]
    assert saved
    assert not any(saved)
    out.square().mean().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in found.parameters())
    assert sum(each.grad.abs().max() > 0 for each in found.parameters() if each.grad is not None) > 20
    assert all(each.grad is None for name, each in model.named_parameters() if "peftref" not in name)


def test_what_is_given_back_to_the_stream_halfway_is_read_by_the_layers_above() -> None:
    """Disentangled transfer learning on four layers, by hand: each layer reads the stream that the ones below have changed."""
    model = build("vit", num_hidden_layers=4)
    found = attach(model, load("dtl", beta=3))
    kept, needs = streams(model, found)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(std=0.3)
    model(**inputs(model))
    s = torch.zeros(())
    for number, x in enumerate(kept[:4]):
        a, b = (found.module.leaf(f"encoder.{number}.layer.{name}") for name in "AB")
        s = s + x @ a.T @ b.T
        with torch.no_grad():
            found.disable()
            alone = list(model.get_submodule(found.modules.host.stacks[-1].layers_path).children())[number](x)
            found.enable()
        given = alone if isinstance(alone, Tensor) else alone[0]
        expected = given + s * torch.sigmoid(3 * s) if number >= 2 else given
        torch.testing.assert_close(kept[number + 1], expected, rtol=1e-4, atol=1e-5)
    assert needs[:4] == [False, False, True, True]
    assert cost("dtl", "vit-base").reaches == (("encoder", 6),)


def test_the_cost_says_so() -> None:
    found = cost("lst", "llama-3.1-8b")
    assert found.stops_early
    assert found.reaches == (("decoder", 31),)
    assert [stack for stack, _ in cost(load("lst", **SMALL), build("t5", "Seq2SeqLM")).reaches] == ["decoder"]


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bart"])
def test_generation_with_a_cache_gives_what_it_gives_without(family: str) -> None:
    model = build(family, HOSTS[family])
    ladder(model)
    ids = inputs(model)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    options = {"attention_mask": mask, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    for beams in (1, 3):
        slow = model.generate(ids, use_cache=False, num_beams=beams, **options)
        assert torch.equal(model.generate(ids, use_cache=True, num_beams=beams, **options), slow)


def test_padding_changes_nothing() -> None:
    model = build("bert")
    ladder(model)
    ids = inputs(model)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        alone = model(input_ids=ids[1:, :5])[0]
        torch.testing.assert_close(model(input_ids=ids, attention_mask=mask)[0][1:, :5], alone, rtol=1e-4, atol=1e-5)


def test_nothing_is_left_of_a_call() -> None:
    model = build("llama")
    found = ladder(model)
    batch = inputs(model)
    flow = found.modules.flow("decoder")
    with torch.no_grad():
        first = model(**batch)[0]
        assert flow.carried is None
        torch.testing.assert_close(model(input_ids=batch["input_ids"][:1, :3])[0], first[:1, :3], rtol=1e-4, atol=1e-5)
        broken = model.layers[1].register_forward_hook(_raise)
        with pytest.raises(RuntimeError, match="broken"):
            model(**batch)
        broken.remove()
        assert flow.carried is None
        assert torch.equal(model(**batch)[0], first)


def _raise(*_: object) -> None:
    raise RuntimeError("broken")


def test_a_layer_that_runs_outside_of_a_call_is_refused() -> None:
    model = build("gpt2")
    ladder(model)
    with pytest.raises(PeftrefError, match="carry-outside"):
        model.h[1](torch.zeros(1, 3, 32))


def test_two_on_one_host_do_not_mix() -> None:
    """Stacked, the second reads what the first added; summed, each adds what it adds alone."""
    model = build("bert")
    one, two = ladder(model, "one", 2), ladder(model, "two", 5)
    batch = inputs(model)
    with torch.no_grad():
        two.disable()
        base = model(**batch)[0]
        two.enable()
        alone = {}
        for name in ("one", "two"):
            set_active(model, name)
            alone[name] = model(**batch)[0] - base
        assert (alone["one"] - alone["two"]).abs().max() > 0.01
        set_active(model, ["one", "two"], combine="sum")
        torch.testing.assert_close(model(**batch)[0], base + alone["one"] + alone["two"], rtol=1e-4, atol=1e-5)
        set_active(model, ["one", "two"])
        stacked = model(**batch)[0]
        assert (stacked - base - alone["one"] - alone["two"]).abs().max() > 1e-4
        two.detach()
        set_active(model, "one")
        torch.testing.assert_close(model(**batch)[0], base + alone["one"], rtol=1e-4, atol=1e-5)
        one.detach()
        assert torch.equal(model(**batch)[0], base)


def test_beside_an_adapter_the_ladder_reads_the_changed_stream() -> None:
    model = build("llama")
    found = ladder(model, "ladder")
    adapter = attach(model, load("houlsby", bottleneck=4), "adapter")
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.3)
    kept, _ = streams(model, found)
    with torch.no_grad():
        set_active(model, "adapter")
        model(**inputs(model))
        alone = list(kept)
        kept.clear()
        set_active(model, ["adapter", "ladder"])
        model(**inputs(model))
    torch.testing.assert_close(kept[-1], alone[-1] + by_hand(found, alone, causal=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reentrant"), [("lst", False), ("lst", True), ("tiny_attention", False), ("inner", False)]
)
@pytest.mark.parametrize("family", ["llama", "bert", "bart"])
def test_gradient_checkpointing_gives_the_same_gradients(family: str, name: str, reentrant: bool) -> None:
    """Two calls of other lengths and masks before one backward pass, which must not mix; reentrant where nothing stands within layers."""
    gradients = []
    for checkpointing in (False, True):
        model = build(family)
        found = ladder(model) if name == "lst" else attach(model, read(INNER) if name == "inner" else load(name))
        with torch.no_grad():
            for parameter in found.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.attention_dropout = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        ids = inputs(model)["input_ids"]
        mask = torch.ones_like(ids)
        mask[1, 4:] = 0
        more = {"decoder_attention_mask": mask} if family == "bart" else {}
        loss = model(input_ids=ids, attention_mask=mask, **more)[0][:, :4].square().mean()
        other = torch.ones_like(mask[:, :5])
        other[0, 3:] = 0
        more = {"decoder_attention_mask": other} if family == "bart" else {}
        loss = loss + model(input_ids=ids[:, :5], attention_mask=other, **more)[0].square().mean()
        loss.backward()
        gradients.append([parameter.grad for parameter in found.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-6)


def test_reentrant_checkpointing_is_refused() -> None:
    model = build("llama")
    attach(model, read(INNER))
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(PeftrefError, match="checkpoint-reentrant"):
        model.train()(**inputs(model))


def test_it_is_saved_and_restored(tmp_path: Path) -> None:
    model = build("t5")
    found = ladder(model)
    with torch.no_grad():
        out = model(**inputs(model))[0]
        folder = found.save(tmp_path / "ladder")
        found.detach()
        restore(model, folder)
        assert torch.equal(model(**inputs(model))[0], out)


def test_zeros_are_carried_into_the_first_layer() -> None:
    model = build("gpt2")
    found = attach(model, read(PLAIN), seed=4)
    kept, _ = streams(model, found)
    with torch.no_grad():
        found.disable()
        model(**inputs(model))
        xs = kept[1:]
        found.enable()
        model(**inputs(model))
    s = torch.zeros(2, 7, 4)
    for number, h in enumerate(xs):
        s = torch.tanh(s + h @ found.module.leaf(f"decoder.{number}.layer.D").T)
    expected = xs[-1] + s @ found.module.leaf("decoder.1.layer.U").T
    torch.testing.assert_close(kept[-1], expected, rtol=1e-4, atol=1e-5)


def test_half_precision_and_autocast() -> None:
    model = build("llama").to(torch.bfloat16)
    found = ladder(model)
    out = model(**inputs(model))[0]
    assert out.dtype == torch.bfloat16
    exact = build("llama")
    ladder(exact)
    torch.testing.assert_close(out.float(), exact(**inputs(exact))[0], rtol=0.1, atol=0.15)
    out.float().square().mean().backward()
    assert all(each.grad is not None for each in found.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert exact(**inputs(exact))[0].isfinite().all()
