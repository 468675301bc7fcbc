"""The proof of a host's slots as a table: one row for each slot of a stack and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from peftref.host.fold import layer_text
from peftref.proof.record import Proof, tally
from peftref.report.table import Column, Table


def proofs_table(proofs: Sequence[Proof], host: str) -> Table:
    """Rows of equal findings in several layers together, in the order in which data flows."""
    groups: dict[tuple[str, ...], list[Proof]] = {}
    for proof in proofs:
        groups.setdefault((proof.stack, proof.slot, proof.verdict, proof.why), []).append(proof)
    rows = [
        {
            "stack": stack,
            "layers": layer_text(proof.layer for proof in found if proof.layer is not None),
            "slot": slot,
            "verdict": verdict,
            "why": why,
        }
        for (stack, slot, verdict, why), found in groups.items()
    ]
    count = tally(proofs)
    note = ", ".join(f"{count[verdict]} {verdict}" for verdict in ("proved", "refuted", "untried") if count[verdict])
    columns = tuple(Column(name, name) for name in ("stack", "layers", "slot", "verdict", "why"))
    return Table(columns, tuple(rows), title=f"{host}, on a small random instance", notes=(note,))


def proofs_json(proofs: Sequence[Proof]) -> list[dict[str, object]]:
    """One mapping for each site that was tried."""
    return [asdict(proof) for proof in proofs]
