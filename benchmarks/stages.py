"""Where techniques are measured beside peft: two linear layers alone, whole classifiers, and a batch for each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from peftref.host.host import Host, Stack
from peftref.host.locate.resolve import resolve
from peftref.host.presets import preset_config
from peftref.host.site import Port, Site
from peftref.study.timing import Batch, Contender, contender
from peftref.study.train.classifier import Classifier, head_names
from peftref.study.yardstick import Yardstick


@dataclass(frozen=True)
class Stage:
    """A seeded model with its slots and a batch; also: parameters of its own that every contender trains; task: what peft calls it."""

    name: str
    model: Any
    host: Host
    batch: Batch
    samples: int
    length: int
    also: frozenset[str]
    task: str | None

    def frozen(self) -> Contender:
        """The model alone, with next to nothing trained, at its bottom: the least that a whole backward pass costs."""
        if isinstance(self.model, Layers):
            alone = copy.deepcopy(self.model)
            alone.query.requires_grad_(False)
            alone.value.requires_grad_(False)
            return contender("frozen", alone, [alone.vector])
        device = str(next(self.model.parameters()).device)
        stand = Yardstick(Classifier(self.model, self.also, True), device)
        return Contender("frozen", stand.model, stand.bottom)


class Layers(nn.Module):
    """Query and value as two linear layers that read one x; a trained vector is added to x, so that gradients go through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))
        self.query = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, **_: Any) -> SimpleNamespace:
        """The two outputs for x [batch, tokens, width], and a loss."""
        x = x + self.vector
        query, value = self.query(x), self.value(x)
        return SimpleNamespace(query=query, value=value, loss=query.square().mean() + value.square().mean())


def layers_host(width: int) -> Host:
    """The slots of `Layers`, written down by hand."""
    sizes = {"d_in": width, "d_out": width, "d_model": width}
    sites = tuple(
        Site(
            f"attention.{name}", "decoder", 0, name, sizes,
            {"x": Port(name, "input"), "h": Port(name, "output")}, frozenset("b"), reads="x",
        )
        for name in ("query", "value")
    )  # fmt: skip
    stack = Stack("decoder", 1, True, {"d_model": width, "n_layers": 1}, "", "", "")
    return Host(f"linear-{width}", "layers", (stack,), sites, {}, 2 * width * width)


def linear(width: int, samples: int, length: int, device: str, dtype: torch.dtype) -> Stage:
    """Two linear layers of a width."""
    torch.manual_seed(0)
    model = Layers(width).to(device, dtype)
    batch = {"x": torch.randn(samples, length, width, device=device, dtype=dtype)}
    return Stage(f"linear-{width}", model, layers_host(width), batch, samples, length, frozenset({"vector"}), None)


def whole(
    name: str, config: Any, samples: int, length: int, device: str, dtype: torch.dtype, task: str = "SEQ_CLS"
) -> Stage:
    """A whole host of random weights: with a classification head, or with its own head for the next token (CAUSAL_LM)."""
    import transformers

    causal = task == "CAUSAL_LM"
    torch.manual_seed(0)
    auto: Any = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
    model = auto.from_config(config).to(device, dtype).eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, config.vocab_size, (samples, length), generator=generator)
    labels = ids if causal else torch.arange(samples) % 2
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    batch = {key: tensor.to(device) for key, tensor in found.items()}
    also = frozenset() if causal else head_names(model)
    return Stage(name, model, resolve(model), batch, samples, length, also, task)


def _llama(width: int, layers: int, heads: int, inner: int) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=8192, pad_token_id=0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """A stage before it is built: a configuration, or the width of linear layers, and the batch."""

    config: Callable[[], Any] | int
    samples: int
    length: int

    def host(self) -> Host:
        """Its slots, from the configuration alone."""
        return layers_host(self.config) if isinstance(self.config, int) else resolve(self.config())


PLANS: Mapping[str, Plan] = {
    "linear-2048": Plan(2048, 8, 64),
    "bert-base": Plan(lambda: preset_config("bert-base"), 8, 64),
    "llama-4x512": Plan(lambda: _llama(512, 4, 8, 1408), 8, 64),
    "llama-4x2048": Plan(lambda: _llama(2048, 4, 16, 5504), 4, 256),
    "llama-1b": Plan(lambda: preset_config("llama-3.2-1b"), 8, 64),
    "llama-7b": Plan(lambda: _llama(4096, 32, 32, 11008), 4, 256),
}
"""By name; those beyond bert-base and llama-4x512 take seconds a step on a CPU."""


def stage(name: str, device: str, dtype: torch.dtype, task: str = "SEQ_CLS") -> Stage:
    """A stage by the name of its plan; task: SEQ_CLS or CAUSAL_LM, for whole hosts."""
    plan = PLANS[name]
    if isinstance(plan.config, int):
        return linear(plan.config, plan.samples, plan.length, device, dtype)
    return whole(name, plan.config(), plan.samples, plan.length, device, dtype, task)
