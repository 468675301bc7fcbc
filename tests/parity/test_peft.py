"""Every technique that its file says peft has: same parameters in, same counts, outputs, gradients and merged weights out."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

from peftref.analyse.identity import identity
from peftref.compile.attach import attach
from peftref.design.load import load, techniques
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.parity import Pair, beside, parity
from peftref.host.resolve import resolve
from tests.compile.hosts import build, inputs
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore:.*invalid shape")  # peft takes a bias for an incomplete matrix
FAMILIES = ("llama", "bert", "t5", "vit")
NAMES = [
    technique.name
    for technique in techniques()
    if exchange.LIBRARY in technique.peers
    and technique.peers[exchange.LIBRARY].keys
    and not exchange.in_front(technique, resolve("bert-base"))
]

SINGLE = {"psoft": 1e-5, "waveft": 1e-5, "osf": 1e-5, "deft": 1e-5, "c3a": 1e-5, "fourierft": 1e-5, "para": 1e-5}
"""What peft computes in single precision on any host, and how near that comes."""

WRONG = {"c3a"}
"""What peft has a wrong gradient of, as tests/parity/test_defects.py shows."""


def single(family: str) -> Any:
    """A small host with an offset on every parameter."""
    model = build(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def pair(family: str, name: str) -> Pair:
    """The technique on two copies of one host, here and in peft, with the same parameters."""
    return beside(single(family), small(load(name)))


def gradients(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The output, after a backward pass that reaches every parameter."""
    out: torch.Tensor = model(**batch)[0]
    (out * torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_counts_outputs_and_gradients(family: str, name: str) -> None:
    both = pair(family, name)
    ours, theirs = both.ours, both.theirs
    assert sum(each.numel() for each in ours.parameters()) == sum(
        each.numel() for each in theirs.parameters() if each.requires_grad
    )
    batch = inputs(ours.model)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    base = ours.model
    ours.disable()
    before = base(**batch)[0].detach()
    ours.enable()
    here, there = gradients(ours.model, batch), gradients(theirs, batch)
    exact = SINGLE.get(name, 1e-9)
    torch.testing.assert_close(here, there, rtol=exact, atol=exact)
    assert (here - before).abs().max() > 1e-4
    found = both.leaves()
    for copied in ours.module.copies:
        if copied.leaf.trainable and name not in WRONG:
            own = ours.module.leaf(copied.name).grad
            assert own is not None
            other = found[copied.name].grad
            assert other is not None, copied.name
            largest = max(1.0, other.abs().max().item())
            torch.testing.assert_close(own, other.reshape(own.shape), rtol=100 * exact, atol=exact * largest)


BIASED = {"beft", "lora_bias", "road"}
"""What needs a bias to be merged into, which llama has not."""


@pytest.mark.parametrize(
    ("family", "name"), [("bert", name) for name in NAMES] + [("llama", name) for name in NAMES if name not in BIASED]
)
def test_merged_weights(family: str, name: str) -> None:
    both = pair(family, name)
    ours, theirs = both.ours, both.theirs
    ours.merge()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = theirs.merge_and_unload().state_dict()
    own = {key: value for key, value in ours.model.state_dict().items() if not key.startswith("peftref.")}
    assert set(own) == set(merged)
    for key, value in own.items():
        exact = SINGLE.get(name, 1e-9)
        torch.testing.assert_close(value, merged[key], rtol=100 * exact, atol=exact)


@pytest.mark.parametrize("name", NAMES)
def test_the_host_at_the_start(name: str) -> None:
    """Identity at init, here and there: where peft begins elsewhere, the technique's file says so."""
    base = build("llama")
    technique = small(load(name))
    batch = inputs(base)
    with torch.no_grad():
        before = base(**batch)[0]
        attach(base, technique)
        tolerance = {"yes": 1e-5, "near": 0.05}.get(identity(technique).answer, torch.inf)
        torch.testing.assert_close(base(**batch)[0], before, rtol=1e-4, atol=tolerance)


def single_type(base: Any, kind: str, **fields: Any) -> Any:
    """Peft's own module of a type on a copy of a host, in double precision."""
    made = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**fields)
    return get_peft_model(copy.deepcopy(base), made, autocast_adapter_dtype=False).double().eval()


def test_rows_of_the_embedding_matrix() -> None:
    base = build("llama").double()
    theirs = single_type(base, "TRAINABLE_TOKENS", token_indices=[5, 6, 7], target_modules=["embed_tokens"])
    ours = attach(base, load("trainable_tokens", tokens=3, first=5))
    change = 0.5 * torch.randn(3, 32, dtype=torch.double)
    with torch.no_grad():
        next(each for each in theirs.parameters() if each.requires_grad).add_(change)
        next(iter(ours.parameters())).copy_(change)
    batch = {"input_ids": torch.arange(3, 12)[None]}
    here, there = gradients(base, batch), gradients(theirs, batch)
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    own, other = (next(each for each in one.parameters() if each.requires_grad).grad for one in (ours, theirs))
    torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-9)


def test_copies_of_the_norms() -> None:
    base = single("bert").double()
    theirs = single_type(base, "LN_TUNING", target_modules=["LayerNorm"])
    ours = attach(base, load("layernorm"))
    moves = {copied.sites[0].path: {} for copied in ours.module.copies}
    torch.manual_seed(3)
    with torch.no_grad():
        for copied in ours.module.copies:
            change = 0.3 * torch.randn(copied.shape, dtype=torch.double)
            ours.module.leaf(copied.name).copy_(change)
            moves[copied.sites[0].path]["weight" if copied.leaf.name == "dg" else "bias"] = change
        for name, value in theirs.named_parameters():
            if value.requires_grad:
                path, _, kind = name.removeprefix(exchange.PREFIX).partition(".ln_tuning_layers.default.")
                value.add_(moves[path][kind])
    batch = inputs(base)
    torch.testing.assert_close(base(**batch)[0], theirs(**batch)[0], rtol=1e-9, atol=1e-9)


def test_the_distance_is_seen() -> None:
    """Parity as one number: nothing between equal modules, and as much as there is between others."""
    batch = inputs(build("bert"))
    found = parity(pair("bert", "lora"), batch)
    assert found.merged is not None
    assert max(found.output, found.gradient, found.merged) < 1e-9
    other = pair("bert", "lora")
    with torch.no_grad():
        next(iter(other.ours.parameters())).add_(0.1)
    moved = parity(other, batch)
    assert min(moved.output, moved.gradient, moved.merged or 0.0) > 1e-6
