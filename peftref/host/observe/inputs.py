"""Inputs with which a model can run once, from its signature and the sizes in its config: on CPU, with real numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from peftref.host.observe.arguments import KNOWN, RARE, TOKENS, boxes, grid, part_of, patches
from peftref.host.observe.placeholders import with_placeholders

MOST_FORMS = 8


def inputs_of(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """The sets of inputs to try, the fullest first: token ids [batch, tokens], pixels [batch, channels, height, width], …

    Where token ids hold the places of an image's or a sound's vectors, there are as many as the model makes of it. Then the same in
    less usual forms, and with all that the model takes.
    """
    seen: list[dict[str, Tensor]] = []
    for inputs in chain(_usual(model), _rare(model)):
        if inputs and not any(_same(inputs, other) for other in seen):
            seen.append(inputs)
            yield with_placeholders(model, inputs, TOKENS)


def _usual(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    taken = _taken(model)
    kept = _kept(model)
    made = _made(model, 0)
    only = {name: each for name, each in made.items() if name in kept or name.startswith("decoder") or name in _GRIDS}
    masked = made | _masks(made, taken, _MASKS)
    made |= {name: mask for name, mask in masked.items() if "feature" in name}
    yield from (made, only, masked)


def _rare(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """All that the model takes, in one form after the other."""
    taken = _taken(model)
    main = any(name in taken for name in _kept(model))
    for form in range(MOST_FORMS):
        made = _made(model, form)
        names = [*RARE, *_BESIDE, *(() if main else _SENSED)]
        makers = {name: (KNOWN | RARE)[name] for name in names if name in taken}
        made = {name: _form(maker(part_of(model.config, name)), form) for name, maker in makers.items()} | made
        yield made | _masks(made, taken, {**_MASKS, **_FRAMES})


def _taken(model: PreTrainedModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def _kept(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of the main input and of what is required."""
    main = model.main_input_name
    required = (name for name, each in _taken(model).items() if each.default is each.empty and each.kind in (0, 1, 3))
    return (*([main] if isinstance(main, str) else main), *required)


def _made(model: PreTrainedModel, form: int) -> dict[str, Tensor]:
    """What is the main input, required, or described by a part of the config, each in a form or else in its first."""
    taken, kept = _taken(model), _kept(model)
    tiled = next((name for name in _GRIDS if name in taken), None)
    made: dict[str, Tensor] = {}
    for name, maker in (KNOWN | RARE).items():
        if name in taken and (name in kept or (name in KNOWN and _has_part(model.config, name))):
            part = part_of(model.config, name)
            forms = patches(part) if tiled and name in _PATCHED else maker(part)
            if form and name == "input_ids" and "decoder_input_ids" in taken:  # an encoder's ids have no codebooks
                forms = maker(getattr(model.config, "encoder_config", None) or part)[:1]
            made[name] = _form(forms, form)
    if tiled and any(name in made for name in _PATCHED):
        made[tiled] = grid(part_of(model.config, "pixel_values"))
    return made


def _form(forms: tuple[Tensor, ...], number: int) -> Tensor:
    return forms[number] if number < len(forms) else forms[0]


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return {name: each.shape for name, each in one.items()} == {name: each.shape for name, each in other.items()}


def _masks(made: Mapping[str, Tensor], taken: Mapping[str, Any], makers: Mapping[str, _Mask]) -> dict[str, Tensor]:
    masks = {name: maker(made) for name, maker in makers.items() if name in taken}
    return {name: mask for name, mask in masks.items() if mask is not None}


_Mask = Callable[[Mapping[str, Tensor]], Tensor | None]


def _mask_of(name: str, axis: int) -> _Mask:
    def mask(made: Mapping[str, Tensor]) -> Tensor | None:
        found = made.get(name)
        return None if found is None else torch.ones((found.shape[0], found.shape[axis]), dtype=torch.long)

    return mask


_MASKS: dict[str, _Mask] = {
    "attention_mask": _mask_of("input_ids", 1),
    "input_features_mask": _mask_of("input_features", -1),
    "feature_attention_mask": _mask_of("input_features", -1),
    "bbox": lambda made: boxes(None)[0] if "input_ids" in made else None,
}
"""What some models need though their signature does not say so."""
_FRAMES: dict[str, _Mask] = {
    "input_features_mask": _mask_of("input_features", 1),
    "attention_mask": lambda made: _mask_of("input_ids" if "input_ids" in made else "hidden_states", 1)(made),
}
_BESIDE = ("encoder_hidden_states",)
_SENSED = ("pixel_values", "input_features", "input_values")
_PATCHED = ("pixel_values", "hidden_states")
_GRIDS = ("image_grid_thw", "grid_thw")


def _has_part(config: PreTrainedConfig, name: str) -> bool:
    if name == "decoder_input_ids":
        return bool(getattr(config, "is_encoder_decoder", False))
    return part_of(config, name) is not config
