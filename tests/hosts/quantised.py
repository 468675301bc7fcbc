"""A tiny host, kept in few bits by whichever library is there, and the same host with the plain numbers that these stand for."""

from __future__ import annotations

import copy
import tempfile
import warnings
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from peftref.modules.running.stored import is_plain, plain

WAYS = ("torchao int8", "torchao int4", "bitsandbytes int8", "bitsandbytes nf4")


def quantised(way: str, **config: Any) -> tf.PreTrainedModel:
    """A tiny Llama loaded in few bits as users load one; skips where the library is missing."""
    library, _, bits = way.partition(" ")
    pytest.importorskip(library)
    torch.manual_seed(0)
    made = tf.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attention_bias=True, **config,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.LlamaForCausalLM(made).save_pretrained(folder)
        model: tf.PreTrainedModel = tf.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=few_bits(library, bits), dtype=torch.float32, device_map="cpu"
        )
    return model.eval()


def few_bits(library: str, bits: str) -> Any:
    """How a library is asked for few bits."""
    if library == "bitsandbytes":
        if bits == "int8":
            return tf.BitsAndBytesConfig(load_in_8bit=True)
        return tf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=bits, bnb_4bit_compute_dtype=torch.float32)
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    few = Int8WeightOnlyConfig() if bits == "int8" else IntxWeightOnlyConfig(torch.int4, PerGroup(32))
    return tf.TorchAoConfig(few)


def unpacked(model: tf.PreTrainedModel) -> tf.PreTrainedModel:
    """An ordinary host with the numbers that the few bits of another stand for."""
    config = copy.deepcopy(model.config)
    vars(config).pop("quantization_config", None)
    torch.manual_seed(0)
    made: tf.PreTrainedModel = tf.AutoModelForCausalLM.from_config(config).eval()
    own: dict[str, nn.Module] = dict(model.named_modules())
    with torch.no_grad():
        for path, module in made.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                there: Any = own[path]
                few = name == "weight" and not is_plain(there)
                parameter.copy_(plain(there) if few else getattr(there, name))
    return made
