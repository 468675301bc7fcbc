"""Build a model from its class and config on the meta device, give it numbers and inputs, and count its parameters."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from typing import Any

import torch
import transformers
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from peftref.core.problem import PeftrefError, fail
from peftref.host.observe.inputs import inputs_of
from peftref.host.observe.shrink import Scale, shrunken


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that a config names in `architectures`, else the one that AutoModel builds for its type.

    Raises PeftrefError `no-model-class` where transformers has none.
    """
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    try:
        found = AutoModel._model_mapping[type(config)]
    except KeyError:
        return _of_its_file(config)
    first: type[PreTrainedModel] = found[0] if isinstance(found, (tuple, list)) else found
    return first


def _of_its_file(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class for a part of a model, which no Auto class builds: the first that is made for it where the models of its kind are."""
    file = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        known = vars(importlib.import_module(file)).values() if file.startswith("transformers.models.") else ()
    except ImportError:
        known = ()
    for found in known:
        kind: Any = found
        made_for_it = (
            isinstance(found, type) and issubclass(found, PreTrainedModel) and kind.config_class is type(config)
        )
        if made_for_it and kind.forward is not torch.nn.Module.forward:
            return kind  # type: ignore[no-any-return]  # a class, found by its name in a module
    raise fail("no-model-class", f"transformers has no model for the config type {config.model_type}")


def build(kind: type[PreTrainedModel], config: PreTrainedConfig, device: str = "meta") -> PreTrainedModel:
    """A model in float32 with a copy of the config; on the meta device, so without weights, unless another is named.

    Raises PeftrefError `host-not-built` with what the class said.
    """
    own = copy.deepcopy(config)
    if hasattr(own, "use_cache"):
        own.use_cache = False
    own._attn_implementation = "eager"
    try:
        with torch.device(device), quiet():
            return kind(own).eval()
    except Exception as error:
        raise fail("host-not-built", f"{kind.__name__} cannot be built from this config: {said_by(error)}") from error


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a live model on the meta device, without its weights and hooks."""
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = torch.nn.Parameter(_shape_of(parameter), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _shape_of(buffer)
    copied: PreTrainedModel = copy.deepcopy(model, memo)
    for path, module in list(copied.named_modules()):
        if isinstance(module, torch.nn.Linear) and type(module).__module__.split(".")[0] not in (
            "torch",
            "transformers",
        ):
            plain = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
            copied.set_submodule(path, plain)  # a library's own, which keeps few bits and does not run without them
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied.eval()


@torch.no_grad()
def shake(model: PreTrainedModel) -> None:
    """Gives every parameter numbers that matter: a matrix keeps lengths, a vector departs a little from where it begins.

    A kernel (whatever has more than two axes) makes what it gives twice as large, since the activation behind it halves what is small.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel():
            noise = torch.randn_like(parameter)
            if parameter.dim() > 1:
                gain = 1.0 if parameter.dim() == 2 else 2.0
                parameter.copy_(noise * gain / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)


def small_models(model: PreTrainedModel, scales: Iterable[Scale], most: int) -> Iterator[PreTrainedModel]:
    """Small random models of a model's class on CPU, one for each scale whose config can be built with no more than `most` parameters.

    The model is not run, and random numbers go on as before.
    """
    for scale in scales:
        with suppress(PeftrefError):
            config = shrunken(model.config, scale)
            if sum(parameter.numel() for parameter in build(type(model), config).parameters()) <= most:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    small = build(type(model), config, device="cpu")
                    shake(small)
                yield small


def inputs_that_run(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The inputs with which a live model runs that leave least out. Raises PeftrefError `host-not-run` with what failed."""
    said = "it takes no input that is known here"
    names: Set[str] = set()
    best: dict[str, torch.Tensor] = {}
    for inputs in inputs_of(model):
        names = names or inputs.keys()
        if best and names - inputs.keys() >= names - best.keys():
            continue
        try:
            with torch.no_grad(), quiet():
                model(**{name: tensor.clone() for name, tensor in inputs.items()})
        except Exception as error:
            said = said_by(error)
            continue
        best = inputs
        if names <= best.keys():
            break
    if not best:
        raise fail("host-not-run", f"{type(model).__name__} cannot be run on CPU: {said}")
    return best


def count_parameters(model: PreTrainedModel, head: str | None) -> tuple[int, int]:
    """How many parameters the backbone has, and how many stand outside of it; tied tensors once.

    head: path of the vocabulary projection, for classes that hold backbone and head side by side.
    """
    base = getattr(model, model.base_model_prefix, None) if model.base_model_prefix else None
    if not isinstance(base, torch.nn.Module):
        top = head.split(".")[0] if head else None
        kept = [child for name, child in model.named_children() if name != top]
        direct = list(model.parameters(recurse=False))
        inside = {id(p): p.numel() for child in kept for p in child.parameters()} | {id(p): p.numel() for p in direct}
    else:
        inside = {id(p): p.numel() for p in base.parameters()}
    outside = {id(p): p.numel() for p in model.parameters() if id(p) not in inside}
    return sum(inside.values()), sum(outside.values())


def _shape_of(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


def said_by(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' and torch's warnings about a model without weights to ourselves."""
    import warnings

    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
