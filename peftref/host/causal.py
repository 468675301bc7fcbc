"""Whether tokens see later ones, where nothing in the graph says so: a later token of a small random instance is changed, and looked back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from peftref.host.build import build, inputs_that_run, quiet, shake
from peftref.host.graph import Attend, Graph
from peftref.host.shadow import tensors_of
from peftref.host.shrink import SCALES, shrunken
from peftref.problem import PeftrefError

FAR = 1e-6
"""How far a number may be from another, as a share of the largest, and still be the same."""
MOST_PARAMETERS = 50_000_000


def with_causality(graph: Graph, model: PreTrainedModel) -> Graph:
    """The graph, in which attention that a model computes itself is said to be causal where its tokens do not see later ones."""
    within = _decoder(model)
    if not any(_open(attend, within) for attend in graph.attends):
        return graph
    causal = looks_back_only(model)
    told = (replace(attend, causal=causal) if _open(attend, within) else attend for attend in graph.attends)
    return replace(graph, attends=tuple(told))


def looks_back_only(model: PreTrainedModel) -> bool | None:
    """Whether what a model of this class gives for a token depends on no later one; None where no small instance runs.

    The model is not run, and random numbers go on as before.
    """
    name = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
    for scale in SCALES:
        try:
            config = shrunken(model.config, scale)
            if sum(parameter.numel() for parameter in build(type(model), config).parameters()) > MOST_PARAMETERS:
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                small = build(type(model), config, device="cpu")
                shake(small)
            inputs = inputs_that_run(small)
        except PeftrefError:
            continue
        return _unmoved(small, inputs, name) if name in inputs else None
    return None


def _unmoved(model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> bool | None:
    """Whether a change of the last token leaves what is given for those before it."""
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
