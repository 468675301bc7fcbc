"""Token ids that hold the places of what another tower makes: as many as the model makes vectors of the image or sound."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from peftref.host.observe.shadow import Knowing, Numbers, tensors_of

_MODALITIES = {
    "image": ("get_image_features", ("image_token_id", "image_token_index")),
    "audio": ("get_audio_features", ("audio_token_id", "audio_token_index")),
}


def with_placeholders(model: PreTrainedModel, inputs: dict[str, Tensor], text: int) -> dict[str, Tensor]:
    """The inputs with token ids [batch, places + text] where the model takes the vectors of another modality among them."""
    ids = inputs.get("input_ids")
    if ids is None or len(inputs) < 2:
        return inputs
    kinds = torch.zeros_like(ids)
    for number, (getter, names) in enumerate(_MODALITIES.values(), start=1):
        token = next((found for name in names if isinstance(found := getattr(model.config, name, None), int)), None)
        count = 0 if token is None else _count(model, getter, inputs) // len(ids)
        if token is not None and count:
            places = torch.full((len(ids), count), token)
            start = getattr(model.config, "vision_start_token_id", None) if number == 1 else None
            front = ids[:, :1] if start is None else torch.full_like(ids[:, :1], start)
            ids = torch.cat([front, places, ids], dim=1)
            kinds = torch.cat([torch.zeros_like(front), torch.full_like(places, number), kinds], dim=1)
    taken = inspect.signature(model.forward).parameters
    queries = getattr(model.config, "latent_query_num", None)
    if "image_embeds_position_mask" in taken and queries:
        ids, kinds = (
            torch.nn.functional.pad(ids, (queries, 0), value=3),
            torch.nn.functional.pad(kinds, (queries, 0), value=1),
        )
    made = {**inputs, "input_ids": ids}
    made |= {name: kinds for name in ("mm_token_type_ids", "image_embeds_position_mask") if name in taken}
    return made


def _count(model: PreTrainedModel, getter: str, inputs: Mapping[str, Tensor]) -> int:
    """How many vectors the model makes of what it is given, zero where that cannot be found out."""
    function = next((f for module in (model, *model.children()) if (f := getattr(module, getter, None))), None)
    if function is None:
        return 0
    taken = inspect.signature(function).parameters
    if next(iter(taken), None) not in inputs:
        return 0
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), Knowing() as mode, Numbers(mode.shadows):
            given = {name: mode.at(tensor, device) for name, tensor in inputs.items() if name in taken}
            features: Any = function(**given)
    except Exception:  # whatever the model says: then the text alone is tried
        return 0
    features = getattr(features, "pooler_output", features)
    return sum(tensor.shape[:-1].numel() for tensor in tensors_of(features))
