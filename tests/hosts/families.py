"""Tiny seeded hosts of several families."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

from peftref.design.names import known_slots
from peftref.design.technique import Technique
from peftref.host.locate.resolve import resolve
from tests.hosts.configs import FAMILIES

CONFIGS: dict[str, Any] = {
    name: FAMILIES[name] for name in ("llama", "bert", "gpt2", "gpt_neox", "phi3", "xlnet", "t5", "bart", "vit")
}


def build(family: str, head: str | None = None, **config: Any) -> tf.PreTrainedModel:
    """A tiny host in evaluation mode; `head` names the task class (CausalLM, SequenceClassification ...)."""
    torch.manual_seed(0)
    made = CONFIGS[family]()
    for key, value in config.items():
        setattr(made, key, value)
    auto = tf.AutoModel if head is None else getattr(tf, f"AutoModelFor{head}")
    model: tf.PreTrainedModel = auto.from_config(made).eval()
    return model


def stands(technique: Technique, model: tf.PreTrainedModel) -> bool:
    """Whether a host lets a technique stand at attention itself, where it has to."""
    needs = any("attention.core" in known_slots(insert) and not insert.optional for insert in technique.insert)
    return not needs or "attention.core" in resolve(model).slots()


def inputs(model: tf.PreTrainedModel, rows: int = 2, length: int = 7) -> dict[str, torch.Tensor]:
    """Token ids, or an image, that suit a host."""
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(rows, 3, 16, 16, generator=generator)}
    ids = torch.randint(3, 99, (rows, length), generator=generator)
    found = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        found["decoder_input_ids"] = ids[:, :4]
    return found
