"""What was found out about one slot at one place. Plain immutable data, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["proved", "refuted", "untried"]


@dataclass(frozen=True, slots=True)
class Proof:
    """One slot at one site: what its behaviour shows, and why.

    stack, layer and path are those of the small instance that was tried; layer is None for what a stack has once.
    """

    slot: str
    stack: str
    layer: int | None
    path: str
    verdict: Verdict
    why: str


def refuted(proofs: Iterable[Proof]) -> tuple[Proof, ...]:
    """Those that do not behave as their slot says."""
    return tuple(proof for proof in proofs if proof.verdict == "refuted")


def tally(proofs: Iterable[Proof]) -> Mapping[Verdict, int]:
    """How many were proved, refuted and not tried."""
    return Counter(proof.verdict for proof in proofs)
