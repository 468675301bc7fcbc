"""Query, key and value told apart by which tokens they reach, where attention itself cannot be looked into.

A query acts on its own token alone, a key and a value on others too; a value acts in proportion, a key does not. Where an
activation stands behind, nothing is in proportion, but one change of all tokens is lost in the softmax for a key, and for a value not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from peftref.host.site import Port, Site
from peftref.proof.trial import Change, Trial

TOKEN = 1
Finding = tuple[bool | None, str]


def across_tokens(trial: Trial, site: Site, component: str, role: str) -> Finding:
    """Whether a projection acts on the tokens of attention's output as its role says."""
    output = trial.site(site, f"{component}.output")
    if output is None:
        return None, "no output projection reads what attention gives"
    port = output.ports["x"]
    before, own = trial.base.ports.get(port), trial.base.ports.get(site.ports["h"])
    if before is None or own is None:
        return None, "its attention was not seen in the small instance"
    same = before.dim() == 3 and own.dim() == 3
    axes = [each for each in (0, 1) if same and before.shape[each] == own.shape[each] > 2]
    size = max(1.0, float(own.std()))
    once, twice = (
        trial.run(site.ports["h"], _at(axes[-1])(step) if axes else _everywhere(step)).ports[port]
        for step in (size, 2 * size)
    )
    scale = float((once - before).abs().max())
    if scale == 0:
        return False, "a change of its output does not change what attention gives"
    straight = float((twice - 2 * once + before).abs().max()) <= 1e-3 * scale
    if role == "value" and not straight and not (axes and _outlives_softmax(trial, site, port, before, size, scale)):
        return False, "what attention gives does not follow its output in proportion"
    if role != "value" and straight:
        return False, "what attention gives follows its output in proportion, as it follows a value"
    if not axes:
        if role == "value":
            return True, "what attention gives follows its output in proportion"
        if role == "query" or not same or own.shape[0] != before.shape[0]:
            return None, "which tokens it reaches cannot be seen"
        several = _reaches_several(trial, site, port, before)
        return (
            several,
            f"a change at one of its tokens changes what attention gives at {'several' if several else 'one'}",
        )
    others = any(_reaches_others(trial, site, port, before, axis) for axis in axes)
    says = f"a change at one token changes what attention gives at {'others too' if others else 'that one alone'}"
    if role == "query":
        return not others, says
    how = ", in proportion" if straight else ", and one at all tokens is not lost in the softmax"
    return others, says + (how if role == "value" else "")


def _outlives_softmax(trial: Trial, site: Site, port: Port, before: Tensor, step: float, scale: float) -> bool:
    """Whether the same change at all tokens changes what attention gives; weights of a softmax it leaves as they are."""
    after = trial.run(site.ports["h"], _everywhere(step)).ports[port]
    return float((after - before).abs().max()) > 1e-2 * scale


def _reaches_others(trial: Trial, site: Site, port: Port, before: Tensor, axis: int) -> bool:
    """Whether a change at one place along an axis moves what attention gives at others: along that of the tokens, or of the windows."""
    after = trial.run(site.ports["h"], _at(axis)(1.0)).ports[port]
    moved = (after - before).abs().amax([each for each in range(before.dim()) if each != axis])
    return bool((moved[[each for each in range(len(moved)) if each != TOKEN]] > 1e-6 * moved.max()).any())


def _reaches_several(trial: Trial, site: Site, port: Port, before: Tensor) -> bool:
    """Whether a change at one token of another sequence moves what attention gives at more than one token."""
    moved = (trial.run(site.ports["h"], _at(1)(1.0)).ports[port] - before).abs().amax([0, 2])
    return int((moved > 1e-6 * moved.max()).sum()) > 1


def _at(axis: int) -> Callable[[float], Change]:
    """A change of one token, of a given strength."""

    def by(step: float) -> Change:
        def change(value: Tensor) -> Tensor:
            changed = value.clone()
            changed.narrow(axis, TOKEN, 1).add_(step * _slope(value))
            return changed

        return change

    return by


def _everywhere(step: float) -> Change:
    return lambda value: value + step * _slope(value)


def _slope(value: Tensor) -> Tensor:
    return torch.linspace(0.5, 1.5, value.shape[-1]).to(value.dtype)
