"""Resolve a config or a live model by observing its class on the meta device; what was resolved is kept."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from peftref.core.problem import PeftrefError, fail
from peftref.host.family import family_of
from peftref.host.host import Host
from peftref.host.locate.assemble import read_graph
from peftref.host.locate.flow import Flow
from peftref.host.locate.mapped import mapped_attentions
from peftref.host.observe.build import build, class_of, count_parameters, twin
from peftref.host.observe.causal import with_causality
from peftref.host.observe.observe import observe

_KEPT: dict[tuple[object, ...], Host] = {}
_LIMIT = 128


def resolve_config(config: PreTrainedConfig, model_class: type[PreTrainedModel] | None = None, name: str = "") -> Host:
    """The host of a config. Raises PeftrefError as `peftref.host.locate.resolve.resolve` says."""
    kind = model_class or class_of(config)
    name = name or str(getattr(config, "_name_or_path", "") or config.model_type)
    key = (kind, name, config.to_json_string(use_diff=False))
    if key not in _KEPT:
        _keep(key, _read(build(kind, config), name))
    return _KEPT[key]


def resolve_model(model: PreTrainedModel) -> Host:
    """The host of a live model, which is not touched: paths and sizes are its own."""
    kind, config = type(model), model.config
    name = str(getattr(config, "_name_or_path", "") or config.model_type)
    shapes = {path: _shape(parameter) for path, parameter in model.named_parameters()}
    key = (kind, name, config.to_json_string(use_diff=False), tuple(shapes.items()))
    if key not in _KEPT:
        _keep(key, _read(_meta(model, shapes), name))
    return _KEPT[key]


def _meta(model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> PreTrainedModel:
    """A meta model with the live model's structure: built from its config where that gives the same, else copied."""
    try:
        built = build(type(model), model.config)
    except PeftrefError:
        return twin(model)
    same = {path: tuple(parameter.shape) for path, parameter in built.named_parameters()} == shapes
    return built if same else twin(model)


def _shape(parameter: Any) -> tuple[int, ...]:
    """The shape of a parameter; of one that is packed to 4 bits, the shape of what it stands for."""
    return tuple(getattr(getattr(parameter, "quant_state", None), "shape", parameter.shape))


def _keep(key: tuple[object, ...], host: Host) -> None:
    if len(_KEPT) >= _LIMIT:
        _KEPT.pop(next(iter(_KEPT)))
    _KEPT[key] = host


def _read(model: PreTrainedModel, name: str) -> Host:
    flow = Flow(with_causality(observe(model), model))
    probed = any(not attend.own for attend in flow.graph.attends)
    family = None if probed else family_of(model.config.model_type)
    anatomy = read_graph(flow, mapped_attentions(flow, family, model.config.to_dict()) if family else None)
    if not anatomy.sites:
        raise fail(
            "host-no-slots",
            f"{type(model).__name__} has no attention that could be found: none passes through transformers' attention interface, "
            "and nowhere in what it computes does a softmax stand between two products of values",
            hint=f"describe it in catalog/hosts/{model.config.model_type}.yaml",
        )
    head = next((site.path for site in anatomy.sites if site.slot == "head"), None)
    backbone, beside = count_parameters(model, head)
    return Host(
        name=name,
        model_type=model.config.model_type,
        stacks=anatomy.stacks,
        sites=anatomy.sites,
        lacks=anatomy.lacks,
        parameters=backbone,
        head_parameters=beside,
        left_out=flow.graph.left_out,
    )
