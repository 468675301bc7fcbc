"""What nothing in the graph says of attention that a model computes itself, seen on a small random instance: whether tokens see later
ones, and whether rows can stand in its cache."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from peftref.core.problem import PeftrefError
from peftref.host.observe.build import inputs_that_run, quiet, small_models
from peftref.host.observe.graph import Attend, Graph
from peftref.host.observe.past import takes_past
from peftref.host.observe.shadow import tensors_of
from peftref.host.observe.shrink import SCALES

FAR = 1e-6
"""How far a number may be from another, as a share of the largest, and still be the same."""
MOST_PARAMETERS = 50_000_000
CACHES = {"past_key_values", "past_key_value", "layer_past"}
"""How attention modules call the cache that they are given."""


def with_causality(graph: Graph, model: PreTrainedModel) -> Graph:
    """The graph, in which attention that a model computes itself is said to be causal where its tokens do not see later ones.

    And cached, where its keys and values go through the cache.
    """
    within = _decoder(model)
    if not any(_open(attend, within) for attend in graph.attends):
        return graph
    small = small_instance(model)
    causal = None if small is None else looks_back_only(*small)
    cached = bool(causal) and within is None and small is not None and takes_past(*small)

    def told(attend: Attend) -> Attend:
        asks = not CACHES.isdisjoint(graph.modules[attend.path].arguments)
        return replace(attend, causal=causal, cached=cached and asks) if _open(attend, within) else attend

    return replace(graph, attends=tuple(map(told, graph.attends)))


def small_instance(model: PreTrainedModel) -> tuple[PreTrainedModel, dict[str, Tensor]] | None:
    """A small random instance of a model's class with what it can be called with; None where none runs.

    The model is not run, and random numbers go on as before.
    """
    for small in small_models(model, SCALES, MOST_PARAMETERS):
        with suppress(PeftrefError):
            return small, inputs_that_run(small)
    return None


def looks_back_only(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> bool | None:
    """Whether what a small model gives for a token depends on no later one: a change of the last token leaves those before it.

    None where it has no tokens, or gives no vector for each.
    """
    name = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
    if name not in inputs:
        return None
    ids = inputs[name]
    changed = ids.clone()
    changed[:, -1] = torch.where(ids[:, -1] == ids[0, 0], ids.max(), ids[0, 0])
    with torch.no_grad(), quiet():
        results = [_per_token(model(**{**inputs, name: each.clone()}), ids) for each in (ids, changed)]
    first, second = results
    if first is None or second is None:
        return None
    before, after = first[:, :-1], second[:, :-1]
    return bool((before - after).abs().max() <= FAR * before.abs().max())


def _per_token(result: Any, ids: Tensor) -> Tensor | None:
    """The first of a model's results that has a vector for every token."""
    found = (each for each in tensors_of(result) if each.dim() == 3 and each.shape[:2] == ids.shape)
    return next(found, None)


def _open(attend: Attend, within: str | None) -> bool:
    """Whether nothing says if an attention is causal. within: the module that holds the decoder, where there is another stack."""
    return attend.own and attend.causal is None and (within is None or attend.path.startswith(f"{within}."))


def _decoder(model: PreTrainedModel) -> str | None:
    if not model.config.is_encoder_decoder:
        return None
    decoder = model.get_decoder()
    return next((path for path, module in model.named_modules() if module is decoder), "decoder")
