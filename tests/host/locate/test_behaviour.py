"""Every slot that is found is what it is called, by what it does to a live model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from torch import Tensor

from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.host.site import Port, Site
from peftref.modules.running.bare import module_at
from tests.host.locate.spy import attention, hooked, pick
from tests.hosts.configs import FAMILIES, MAPPED, PROBED
from tests.hosts.shaken import build, inputs

ATTENTIONS = ("attention", "cross_attention")
CROSSED = {"t5", "t5_gated", "bart"}
"""Families whose layers read another stack."""


@cache
def live(family: str) -> tuple[tf.PreTrainedModel, Host]:
    """A model and its host."""
    model = build(family)
    return model, resolve(model)


def run(
    model: tf.PreTrainedModel, change: tuple[Port, Callable[[Tensor], Tensor]] | None, *see: Port
) -> tuple[Tensor, list[Tensor]]:
    """The model's output and the values at some ports, the last call of each, where one value is changed."""
    found: dict[int, Tensor] = {}
    with ExitStack() as stack, torch.no_grad():
        if change:
            stack.enter_context(hooked(model, *change))
        for at, port in enumerate(see):
            stack.enter_context(hooked(model, port, lambda value, at=at: found.update({at: value.clone()})))  # type: ignore[misc]
        out = model(**inputs(model))[0]
    return out, [found[at] for at in range(len(see))]


def shift(value: Tensor) -> Tensor:
    """A change that is seen everywhere."""
    return value + torch.linspace(0.5, 1.5, value.shape[-1])


def uneven(value: Tensor) -> Tensor:
    """A change that differs from token to token."""
    return value * torch.linspace(0.2, 3, value[0].numel()).view_as(value[0])


def at(host: Host, slot: str) -> list[Site]:
    """The sites of a slot."""
    return [site for site in host.sites if site.slot == slot]


def one(host: Host, like: Site, slot: str) -> Site | None:
    """The site of a slot in the same layer."""
    return next((s for s in at(host, slot) if (s.stack, s.layer) == (like.stack, like.layer)), None)


def test_decoders_of_two_stacks_alone_read_another() -> None:
    assert {family for family in PROBED if at(live(family)[1], "cross_attention.core")} == CROSSED


@pytest.mark.parametrize(
    ("family", "component"),
    [*((family, "attention") for family in PROBED), *((family, "cross_attention") for family in sorted(CROSSED))],
)
def test_each_projection_moves_its_own_part_of_attention(family: str, component: str) -> None:
    model, host = live(family)
    cores = at(host, f"{component}.core")
    assert cores
    with attention(model) as seen:
        run(model, None)
        base = {path: qkv for path, *qkv in seen}
        for core in cores:
            for number, part in enumerate(("query", "key", "value")):
                site = one(host, core, f"{component}.{part}")
                assert site is not None
                seen.clear()
                run(model, (site.ports["h"], shift))
                after = {path: qkv for path, *qkv in seen}
                moved = [not torch.equal(x, y) for x, y in zip(base[core.path], after[core.path], strict=True)]
                assert moved == [number == each for each in range(3)], (site.slot, site.layer, moved)
                for other in cores:
                    if other.stack == core.stack and other.layer is not None and core.layer is not None:
                        same = all(map(torch.equal, base[other.path], after[other.path]))
                        assert same or other.layer >= core.layer


@pytest.mark.parametrize("family", FAMILIES)
def test_the_value_goes_through_attention_linearly(family: str) -> None:
    model, host = live(family)
    for component in ATTENTIONS:
        for value in at(host, f"{component}.value"):
            out = one(host, value, f"{component}.output")
            assert out is not None
            _, (base,) = run(model, None, out.ports["x"])
            _, (doubled,) = run(model, (value.ports["h"], lambda h: 2 * h), out.ports["x"])
            torch.testing.assert_close(doubled, 2 * base, rtol=1e-4, atol=1e-5)
            for part in ("query", "key"):
                site = one(host, value, f"{component}.{part}")
                assert site is not None
                _, (moved,) = run(model, (site.ports["h"], uneven), out.ports["x"])
                assert (moved - base).abs().max() > 1e-5, site.slot


@pytest.mark.parametrize("family", sorted(MAPPED.keys() - {"falcon", "deberta-v2"}))
def test_a_constant_key_is_lost_in_the_softmax_and_a_constant_query_is_not(family: str) -> None:
    """Not so where positions act on keys, as in the two left out: a constant key is no constant score there."""
    model, host = live(family)
    core = at(host, "attention.output")[0]
    _, (base,) = run(model, None, core.ports["x"])
    moved = {}
    for part in ("query", "key"):
        site = one(host, core, f"attention.{part}")
        assert site is not None
        _, (after,) = run(model, (site.ports["h"], shift), core.ports["x"])
        moved[part] = float((after - base).abs().max())
    assert moved["key"] < 1e-5 < 1e-3 < moved["query"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_feed_forward(family: str) -> None:
    model, host = live(family)
    assert at(host, "ffn.down")
    for down in at(host, "ffn.down"):
        hidden, up, gate = (one(host, down, f"ffn.{part}") for part in ("hidden", "up", "gate"))
        assert hidden is not None
        assert up is not None
        _, (h, x) = run(model, None, hidden.ports["h"], down.ports["x"])
        assert torch.equal(h, x)
        _, (grown,) = run(model, (hidden.ports["h"], shift), down.ports["h"])
        weight = matrix(model, down)
        bias = 0 if "b" in down.lacks else model.get_submodule(down.path).bias
        torch.testing.assert_close(grown, shift(h) @ weight.T + bias, rtol=1e-4, atol=1e-5)
        _, (turned,) = run(model, (up.ports["h"], torch.neg), hidden.ports["h"])
        linear = torch.allclose(turned, -h, rtol=1e-4, atol=1e-5)
        assert linear == (gate is not None)
        if gate is not None:
            _, (zero,) = run(model, (gate.ports["h"], torch.zeros_like), hidden.ports["h"])
            assert zero.abs().max() < 1e-6
            _, (bent,) = run(model, (gate.ports["h"], lambda value: 2 * value), hidden.ports["h"])
            assert not torch.allclose(bent, 2 * h, rtol=1e-3)


def matrix(model: tf.PreTrainedModel, site: Site) -> Tensor:
    """The weight of a linear site as [d_out, d_in]."""
    weight = module_at(model, site.path).weight.detach()
    assert isinstance(weight, Tensor)
    whole = weight.T if site.form in ("transposed", "table") else weight.flatten(1)
    return pick(whole.T, site.ports["h"].rows).T


def as_rows(site: Site, module: Any, x: Tensor) -> Tensor:
    """What a linear site reads as rows: token ids as unit vectors, an image as its patches."""
    if site.form == "table":
        return torch.eye(site.sizes["d_in"])[x]
    if site.form == "convolution":
        return F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride).mT
    return x


@pytest.mark.parametrize("family", FAMILIES)
def test_a_linear_slot_is_its_rows_times_what_it_reads(family: str) -> None:
    model, host = live(family)
    for site in host.sites:
        if (
            ".".join((site.slot,)) == "head"
            or "x" not in site.ports
            or "h" not in site.ports
            or "d_in" not in site.sizes
        ):
            continue
        weight = matrix(model, site)
        assert tuple(weight.shape) == (site.sizes["d_out"], site.sizes["d_in"]), site.slot
        module = module_at(model, site.path)
        bias = getattr(module, "bias", None)
        assert (bias is None) == ("b" in site.lacks)
        _, (x, h) = run(model, None, site.ports["x"], site.ports["h"])
        x, h = as_rows(site, module, x), h.flatten(2).mT if site.form == "convolution" else h
        h = h / getattr(module, "embed_scale", 1) if site.form == "table" else h
        shift_by = 0 if bias is None else pick(bias.detach(), site.ports["h"].rows)
        torch.testing.assert_close(h, x @ weight.T + shift_by, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("component", [*ATTENTIONS, "ffn"])
def test_a_sublayer_gives_what_is_added_to_the_residual(family: str, component: str) -> None:
    model, host = live(family)
    for site in at(host, component):
        last = one(host, site, f"{component}.output" if component != "ffn" else "ffn.down")
        post = one(host, site, f"{component}.post_norm")
        layer = one(host, site, "layer")
        assert last is not None
        assert layer is not None
        _, (h, given, base) = run(model, None, site.ports["h"], last.ports["h"], layer.ports["h"])
        if post is None:
            torch.testing.assert_close(h, given)
        _, (moved, grown) = run(model, (site.ports["h"], shift), site.ports["h"], layer.ports["h"])
        assert (grown - base).abs().max() > 1e-3
        pre_norm = one(host, site, f"{component}.norm")
        reads_stream = pre_norm is not None and (one(host, site, "ffn") or site).slot == component
        norm_after = pre_norm is not None and torch.equal(run(model, None, pre_norm.ports["h"])[1][0], base)
        if component == "ffn" and reads_stream and not norm_after:
            torch.testing.assert_close((grown - base).view_as(h), moved - h, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_follow_one_another_and_norms_stand_where_they_are_called(family: str) -> None:
    model, host = live(family)
    for stack in host.stacks:
        layers = [site for site in at(host, "layer") if site.stack == stack.name]
        assert [site.layer for site in layers] == list(range(stack.n_layers))
        values = run(model, None, *(port for site in layers for port in (site.ports["x"], site.ports["h"])))[1]
        for out, into in zip(values[1::2][:-1], values[2::2], strict=True):
            assert torch.equal(out, into)
        final = next((site for site in at(host, "final.norm") if site.stack == stack.name), None)
        if final is not None:
            _, (x,) = run(model, None, final.ports["x"])
            torch.testing.assert_close(x, values[-1])
        entered = next(site for site in at(host, "embedding") if site.stack == stack.name)
        assert entered.sizes["d_model"] == values[0].shape[-1] or family == "electra"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_counts_its_parameters_once(family: str) -> None:
    model, host = live(family)
    assert host.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_live_model_is_left_as_it_was(family: str) -> None:
    model = build(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = [(name, sorted(vars(module)), len(module._forward_hooks)) for name, module in model.named_modules()]
    config = model.config.to_json_string(use_diff=False)
    found = resolve(model)
    assert resolve(model) is found
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert state == [(name, sorted(vars(module)), len(module._forward_hooks)) for name, module in model.named_modules()]
    assert config == model.config.to_json_string(use_diff=False)
    assert resolve(FAMILIES[family]()).sites == found.sites
