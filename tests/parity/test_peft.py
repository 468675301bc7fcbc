"""Every technique that its file says peft has: same parameters in, same counts, outputs, gradients and merged weights out."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

from benchmarks.parity import Pair, beside, parity
from peftref.analyse.identity import identity
from peftref.analyse.typology import typology
from peftref.design.load import load, techniques
from peftref.exchange.peft import form as exchange
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore:.*invalid shape")  # peft takes a bias for an incomplete matrix
FAMILIES = ("llama", "bert", "t5", "vit")
NAMES = [
    technique.name
    for technique in techniques()
    if exchange.LIBRARY in technique.peers
    and technique.peers[exchange.LIBRARY].keys
    and not technique.peers[exchange.LIBRARY].refused
    and technique.peers[exchange.LIBRARY].told
    and not exchange.in_front(technique, resolve("bert-base"))
]

ROWS = {"lily": 1}
"""How many samples are compared: peft lets those of a batch change one another, as tests/parity/test_linear.py shows."""

SINGLE = {
    "psoft": 1e-5,
    "waveft": 1e-5,
    "osf": 1e-5,
    "deft": 1e-5,
    "c3a": 1e-5,
    "fourierft": 1e-5,
    "para": 1e-5,
    **dict.fromkeys(("pissa", "olora", "kasa"), 1e-5),
    "poly": 1e-7,
}
"""What peft computes in single precision on any host, and how near that comes: the last take a part out of the weight in it."""

NOT_HERE = {("vit", "trainable_tokens"), ("t5", "lily"), ("llama", "randlora")}
"""Where a technique cannot stand, or peft shares a leaf or takes a side otherwise, as tests/parity/test_linear.py shows."""

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


def entered(model: Any) -> list[torch.Tensor]:
    """What enters the layers of a host, once it has been called, with its gradient."""
    found: list[torch.Tensor] = []

    def hook(_: Any, __: Any, out: torch.Tensor) -> None:
        (out.retain_grad if out.requires_grad else out.requires_grad_)()
        found.append(out)

    stack = model.encoder if model.config.is_encoder_decoder else model
    stack.get_input_embeddings().register_forward_hook(hook)
    return found


HERE = [(family, name) for family in FAMILIES for name in NAMES if (family, name) not in NOT_HERE]


@pytest.mark.parametrize(("family", "name"), HERE)
def test_counts_outputs_and_gradients(family: str, name: str) -> None:
    both = pair(family, name)
    ours, theirs = both.ours, both.theirs
    assert sum(each.numel() for each in ours.parameters()) == sum(
        each.numel() for each in theirs.parameters() if each.requires_grad
    )
    batch = inputs(ours.model, rows=ROWS.get(name, 2))
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    base = ours.model
    ours.disable()
    before = base(**batch)[0].detach()
    ours.enable()
    entering = [entered(ours.model), entered(both.theirs.base_model.model)]
    here, there = gradients(ours.model, batch), gradients(*both.beside(batch))
    exact = SINGLE.get(name, 1e-9)
    if name not in WRONG:
        own, other = (each[0].grad for each in entering)
        assert own is not None
        assert other is not None
        torch.testing.assert_close(own, other, rtol=100 * exact, atol=exact * max(1.0, other.abs().max().item()))
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


MERGED = [row.name for row in typology(NAMES) if row["mergeable"] == "yes"]
BIASED = {"beft", "lora_bias", "road"}
"""What needs a bias to be merged into, which llama has not."""


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (family, name)
        for family, name in HERE
        if name in MERGED and (family == "bert" or (family == "llama" and name not in BIASED))
    ],
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
