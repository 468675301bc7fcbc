"""Layers that are compiled one by one share their graphs, as where a host breaks into one for each of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from tests.integrations.common import batches, pairs, stand
from tests.tiny import T5, TEXT, WIDE

LAYERS = 3
DEEP = WIDE | {"num_hidden_layers": LAYERS}
HOSTS: dict[str, Any] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**TEXT, **DEEP, num_key_value_heads=2, use_cache=False)),
    "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(**TEXT, **DEEP)),
    "t5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(**(T5 | {"num_layers": LAYERS, "num_decoder_layers": LAYERS}), use_cache=False)
    ),
}


def graphs(model: torch.nn.Module, family: str) -> int:
    """How many graphs torch makes of a training step, without a break in any layer."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model(**next(batches(family))).loss.backward()
    found: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch._dynamo.reset()
    return found


@pytest.mark.parametrize(("technique", "family"), [*pairs(0, tuple(HOSTS)), ("lora", "bert"), ("lora", "t5")])
def test_layers_compiled_one_by_one_share_a_graph(technique: str, family: str) -> None:
    """There is one more for the first layer of a stack, into which no gradient flows, and none for each layer."""
    torch.manual_seed(0)
    model = HOSTS[family]().train()
    stacks = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == LAYERS]
    for layers in stacks:
        for layer in layers:
            layer.compile(backend="eager", fullgraph=True)
    alone = graphs(model, family)
    stand(model, technique)
    assert graphs(model, family) <= alone + len(stacks)
