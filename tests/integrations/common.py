"""What every way of training is tried with: techniques, tiny hosts with a loss, their data, and a bare loop as the measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.own_parameters import own_parameters
from peftref.modules.running.stored import plain
from tests.tiny import T5, TEXT
from tests.tiny import WIDE as NARROW

WIDE = NARROW | {"intermediate_size": 64}

TECHNIQUES: dict[str, dict[str, Any]] = {
    "lora": {"r": 2},
    "houlsby": {"bottleneck": 4},
    "prefix": {"tokens": 3},
    "prompt": {"tokens": 3},
    "ia3": {},
    "compacter": {"bottleneck": 8},
    "bitfit": {},
}
"""The techniques that are tried, with their settings."""

Way = Callable[[str, str, Path], None]
"""A way of training: it is given a technique, a host and a folder, and raises where something is not as it should be."""

HOSTS: dict[str, Any] = {
    "llama": lambda **more: tf.LlamaForCausalLM._from_config(
        tf.LlamaConfig(**TEXT, **WIDE, num_key_value_heads=2, use_cache=False), **more
    ),
    "bert": lambda **more: tf.BertForSequenceClassification._from_config(
        tf.BertConfig(**TEXT, **WIDE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), **more
    ),
    "t5": lambda **more: tf.T5ForConditionalGeneration._from_config(
        tf.T5Config(**(T5 | {"d_ff": 64}), dropout_rate=0.0, use_cache=False), **more
    ),
    "gpt2": lambda **more: tf.GPT2LMHeadModel._from_config(
        tf.GPT2Config(
            **TEXT, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            use_cache=False,
        ),
        **more,
    ),
    "vit": lambda **more: tf.ViTForImageClassification._from_config(
        tf.ViTConfig(**WIDE, image_size=16, patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        **more,
    ),
}  # fmt: skip
"""One host of each kind, with a task head and without dropout, so that every way has the same numbers."""

CAUSAL = ("llama", "gpt2")
STEPS, ROWS, LENGTH, RATE = 4, 4, 6, 0.05


def pairs(way: int, families: tuple[str, ...] = tuple(HOSTS)) -> list[tuple[str, str]]:
    """Every technique once, on one host each: over the ways of training, each technique meets each host."""
    return [(name, families[(i + way) % len(families)]) for i, name in enumerate(TECHNIQUES)]


def host(family: str, **more: Any) -> Any:
    """A tiny host, the same every time, with weights of some size."""
    torch.manual_seed(0)
    model = HOSTS[family](**more)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def stand(model: Any, technique: str, name: str = "default", **more: Any) -> Attached:
    """A technique on a host, its leaves no longer at their init."""
    found = attach(model, load(technique, **TECHNIQUES[technique]), name, seed=1, **more)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in found.parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter.device, parameter.dtype))
    return found


def rows(family: str, number: int = STEPS * ROWS) -> list[dict[str, torch.Tensor]]:
    """Examples with labels that suit a host, as a data set holds them."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for i in range(number):
        if family == "vit":
            found.append({"pixel_values": torch.randn(3, 16, 16, generator=generator), "labels": torch.tensor(i % 2)})
            continue
        ids = torch.randint(3, 99, (LENGTH,), generator=generator)
        label = torch.tensor(i % 2) if family == "bert" else ids.flip(0) if family == "t5" else ids
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": label})
    return found


def batch(examples: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Examples as one batch."""
    found = list(examples)
    return {key: torch.stack([each[key] for each in found]) for key in found[0]}


def batches(family: str, size: int = ROWS) -> Iterator[dict[str, torch.Tensor]]:
    """The examples of a host in batches, in their order."""
    given = rows(family)
    for first in range(0, len(given), size):
        yield batch(given[first : first + size])


def optimizer(attached: Attached) -> torch.optim.Optimizer:
    """An optimizer with a state of its own, whose steps do not blow up rounding as Adam's first ones do."""
    return torch.optim.SGD(attached.parameters(), lr=RATE, momentum=0.9)


@dataclass(frozen=True)
class Trained:
    """What training gave: the loss of every step, and the trained values by name."""

    losses: tuple[float, ...]
    values: dict[str, torch.Tensor]

    def near(self, other: Trained, rtol: float = 1e-4, atol: float = 1e-5) -> None:
        """Holds another training against this one: the same losses, the same values."""
        torch.testing.assert_close(torch.tensor(other.losses), torch.tensor(self.losses), rtol=rtol, atol=atol)
        assert self.values.keys() == other.values.keys()
        for name, value in self.values.items():
            torch.testing.assert_close(
                other.values[name], value, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )


def values(attached: Attached) -> dict[str, torch.Tensor]:
    """The leaves by name, as they are now."""
    return {copy.name: attached.module.leaf(copy.name).detach().clone() for copy in attached.module.copies}


def own(model: Any) -> dict[str, torch.Tensor]:
    """The host's own tensors, as they are now."""
    found = {name: _plain(model, name, each).detach().clone() for name, each in own_parameters(model)}
    return found | {name: each.clone() for name, each in model.named_buffers() if "peftref" not in name}


def _plain(model: Any, name: str, parameter: torch.Tensor) -> torch.Tensor:
    path, _, last = name.rpartition(".")
    return plain(model.get_submodule(path)) if last == "weight" else parameter


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Holds two sets of tensors against each other, bit by bit."""
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


def bare(model: Any, attached: Attached, given: Iterable[dict[str, torch.Tensor]], scale: float = 1.0) -> Trained:
    """The measure: a bare loop in one process. The host's own weights must be the same bits after it. scale: of the loss."""
    before, losses = own(model), []
    chosen = optimizer(attached)
    model.train()
    for each in given:
        loss = scale * model(**each).loss
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        losses.append(float(loss.detach()))
    same(own(model), before)
    return Trained(tuple(losses), values(attached))


def reference(technique: str, family: str, scale: float = 1.0) -> Trained:
    """What the bare loop gives for a technique on a host."""
    model = host(family)
    return bare(model, stand(model, technique), batches(family), scale)
