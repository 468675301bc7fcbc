"""The host's own parameters among those of its modules: their names when saved, and the host's fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from peftref.modules.container import CONTAINER, container
from peftref.modules.running.stored import plain
from peftref.modules.state.fingerprint import fingerprint
from peftref.modules.state.record import Fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def own_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The host's own parameters by name, without what is attached to it."""
    return ((name, each) for name, each in model.named_parameters() if CONTAINER not in name.split("."))


def saved_name(model: nn.Module, name: str) -> str:
    """The name under which a parameter of the host is saved: the same for a backbone and for the backbone within a task model.

    >>> saved_name(nn.Linear(1, 1), "weight")
    'host.weight'
    """
    base = getattr(model, "base_model_prefix", "")
    inner = bool(base) and isinstance(getattr(model, base, None), nn.Module)
    if inner and name.startswith(f"{base}."):
        return f"host.{name.removeprefix(base + '.')}"
    return f"head.{name}" if inner else f"host.{name}"


def host_fingerprint(model: PreTrainedModel) -> Fingerprint:
    """The fingerprint of a host as it is without what is attached to it."""
    modules = container(model)
    original: dict[str, Tensor] = {**modules.unmerged, **modules.ties.shared}
    for tuned in modules.tuned.values():
        original |= {name: tuned.aside[name] for name in tuned.names} if tuned.inside else {}
    backbone = {
        saved_name(model, name): original[name] if name in original else _plain(model, name, parameter)
        for name, parameter in own_parameters(model)
    }
    return fingerprint(modules.host, [(name, each) for name, each in backbone.items() if name.startswith("host.")])


def _plain(model: nn.Module, name: str, parameter: Tensor) -> Tensor:
    path, _, own = name.rpartition(".")
    return plain(model.get_submodule(path)) if own == "weight" else parameter
