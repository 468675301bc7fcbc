"""Costs against torch's own FLOP counter, on tiny hosts that compute attention by plain products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from peftref.analyse.cost import cost
from peftref.design.layers import Layers
from peftref.design.load import load
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs
from tests.modules.test_attach import SMALL

torch.set_num_threads(1)
ROWS, LENGTH = 2, 7
COUNTED = (
    "lora",
    "houlsby",
    "pfeiffer",
    "compacter",
    "ia3",
    "bitfit",
    "layernorm",
    "prompt",
    "prefix",
    "tiny_attention",
)
FAMILIES = ("bert", "llama", "gpt2", "gpt_neox", "phi3", "t5", "bart", "vit")


def host(family: str) -> Any:
    """A tiny host whose attention the counter sees, without a pooler."""
    model = build(family, _attn_implementation="eager")
    model.set_attn_implementation("eager")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def length(model: Any) -> int:
    """Tokens of a sample; an image makes one for each patch and one for the class."""
    return LENGTH if model.main_input_name == "input_ids" else 5


def measured(model: Any, *, bottom: bool = True) -> tuple[int, int]:
    """FLOPs of one pass, forward and backward; bottom: with a gradient all the way down to the token vectors."""
    for module in model.modules() if bottom else ():
        if isinstance(module, nn.Embedding) or type(module).__name__.endswith("PatchEmbeddings"):
            module.register_forward_hook(lambda module, args, out: out.requires_grad_())
    batch = inputs(model, ROWS, LENGTH)
    if "decoder_input_ids" in batch:
        batch["decoder_input_ids"] = batch["input_ids"]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = model(**batch)[0].sum()
        forward = _products(counter)
        result.backward()
    return forward, _products(counter) - forward


def _products(counter: FlopCounterMode) -> int:
    """All but the convolution that cuts an image into tokens."""
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" not in str(op))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_alone(family: str) -> None:
    model = host(family)
    tokens = ROWS * length(model)
    found = cost("lora", model, batch=ROWS, length=length(model))
    forward, backward = measured(model.requires_grad_(False))
    assert found.host_forward * tokens == forward
    assert found.host_backward * tokens == backward


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_technique_adds(family: str, name: str) -> None:
    technique = load(name, **SMALL.get(name, {}))
    model = host(family)
    tokens = ROWS * length(model)
    found = cost(technique, model, batch=ROWS, length=length(model))
    forward, backward = measured(host(family).requires_grad_(False))
    attach(model, technique, batch=ROWS, length=length(model))
    with_forward, with_backward = measured(model)
    assert round(found.forward * tokens) == with_forward - forward
    assert round(found.backward * tokens) == with_backward - backward


@pytest.mark.parametrize("name", ["lora", "houlsby", "compacter", "ia3", "bitfit"])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt_neox"])
def test_what_is_kept_for_backward(family: str, name: str) -> None:
    technique = load(name, **SMALL.get(name, {}))
    sizes = []
    for model in (host(family).requires_grad_(False), host(family)):
        if sizes:
            attach(model, technique, batch=ROWS, length=LENGTH)
        model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.requires_grad_())
        sizes.append(kept(model))
    assert sizes[1] - sizes[0] == cost(technique, host(family), batch=ROWS, length=LENGTH).saved_bytes


def kept(model: Any) -> int:
    """Bytes of all tensors that autograd keeps, each storage once, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(**inputs(model, ROWS, LENGTH))[0]
    assert out.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "phi3"])
def test_back_propagation_stops_below_the_lowest_layer(family: str) -> None:
    lora = load("lora")
    top = lora.model_copy(update={"insert": (lora.insert[0].model_copy(update={"layers": Layers("last", count=1)}),)})
    found, all_layers = (cost(each, host(family), batch=ROWS, length=LENGTH) for each in (top, lora))
    assert found.stops_early
    assert not all_layers.stops_early
    assert found.host_backward * 2 == all_layers.host_backward
    model = host(family)
    attach(model, top, batch=ROWS, length=LENGTH)
    _, backward = measured(model, bottom=False)
    assert 0 < backward <= round((found.host_backward + found.backward) * ROWS * LENGTH)
