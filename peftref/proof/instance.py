"""A small random instance of a host: the same class, a shrunken config, weights that matter, inputs with which it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from peftref.core.problem import PeftrefError, fail
from peftref.host.host import Host
from peftref.host.locate.read_model import resolve_model
from peftref.host.observe.build import build, inputs_that_run, quiet, shake
from peftref.host.observe.shrink import SCALES, shrunken

MOST_PARAMETERS = 150_000_000


@dataclass(frozen=True, slots=True)
class Instance:
    """A live model on CPU, its host, and inputs that it takes."""

    model: PreTrainedModel
    host: Host
    inputs: Mapping[str, Tensor]


def instance_of(config: PreTrainedConfig, kind: type[PreTrainedModel], whole: Host | None = None) -> Instance:
    """The smallest instance that runs and, where a whole host is given, has the slots of that host.

    Where none has all of them, the smallest that runs. Where none runs, raises the PeftrefError of the smallest:
    `host-not-built`, `host-not-run`, `host-no-slots`.
    """
    best: Instance | None = None
    said: PeftrefError | None = None
    for scale in SCALES:
        try:
            small = shrunken(config, scale)
            if _size(kind, small) > MOST_PARAMETERS:
                said = said or fail("host-not-run", f"a small {kind.__name__} still has too many parameters")
                continue
            found = _live(kind, small)
        except PeftrefError as error:
            said = said or error
            continue
        best = best or found
        if whole is None or _slots(whole) <= _slots(found.host):
            return found
    if best is None:
        assert said is not None
        raise said
    return best


def _slots(host: Host) -> frozenset[tuple[str, str]]:
    return frozenset((site.stack, site.slot) for site in host.sites)


def _size(kind: type[PreTrainedModel], config: PreTrainedConfig) -> int:
    return sum(parameter.numel() for parameter in build(kind, config).parameters())


def _live(kind: type[PreTrainedModel], config: PreTrainedConfig) -> Instance:
    torch.manual_seed(0)
    model = build(kind, config, device="cpu")
    host = resolve_model(model)
    shake(model)
    with quiet():
        return Instance(model, host, inputs_that_run(model))
