"""The techniques of the catalog for which it matters where a token stands and what it sees, chosen by what they do."""

from __future__ import annotations

import re
from typing import Any

import torch

from peftref.design.load import load, techniques
from peftref.design.technique import Technique
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from tests.small import small


def _text(technique: Technique) -> str:
    return " ".join(insert.equation for insert in technique.insert)


def _those(slot: str, pattern: str) -> tuple[str, ...]:
    """Techniques that have an equation of some form at some slot, those of the shortest equations first."""
    found = [
        each
        for each in sorted(techniques(), key=lambda each: len(_text(each)))
        if any(re.search(pattern, one.equation) and any(at.endswith(slot) for at in one.at) for one in each.insert)
    ]
    return tuple(each.name for each in found)


LENGTHENING = _those("embedding", r"h' = concat")
"""They put vectors in front of the sequence."""
KEYS = _those("attention.core", r"k' = concat")
"""They put rows in front of keys and values."""
CORE = tuple(name for name in _those("attention.core", r"'") if name not in KEYS)
"""They stand at attention otherwise."""
AVERAGING = _those("", r"mean_tokens\(")
"""They read the mean over the tokens of a sample."""
ATTENDING = tuple(name for name in _those("", r"attend\(") if name not in (*KEYS, *CORE, *AVERAGING))
"""They attend on their own."""
KINDS = (LENGTHENING, KEYS, CORE, ATTENDING)
FIRST = tuple(kind[0] for kind in KINDS)
"""One of each kind."""
REST = tuple(name for kind in KINDS for name in kind[1:] if name not in AVERAGING)
"""All others of these kinds."""


def stand(model: Any, name: str, at: str | None = None) -> Attached:
    """A small technique on a host, moved away from its init. at: the stack to which it goes, where the host has several."""
    technique = small(load(name))
    if at is not None:
        technique = technique.moved(f"{at}.{technique.insert[0].at[0]}")
    found = attach(model, technique)
    shake(found)
    return found


def shake(found: Attached) -> None:
    """Moves what is trained away from its init."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
