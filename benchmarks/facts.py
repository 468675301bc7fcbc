"""The table of the whole catalog: what is derived of every technique, and how it stands beside peft.

`python -m benchmarks.facts --peers RECORDS.json` writes `docs/catalog.md`; RECORDS.json is what `benchmarks.peers --json`
wrote. No cell of it is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.parity import Parity, beside, parity
from benchmarks.stages import PLANS
from peftref.analyse.explain import Explanation, explain
from peftref.analyse.row import Row
from peftref.analyse.rows import catalog_rows
from peftref.core.problem import PeftrefError
from peftref.design.catalog import technique_files
from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.exchange.peft.form import LIBRARY
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from peftref.study.machine import environment

TARGET = Path(__file__).resolve().parents[1] / "docs" / "catalog.md"


def facts(peers: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """A record for every technique of the catalogs; peers: records of `benchmarks.peers`."""
    files, found = technique_files(), []
    rows = catalog_rows()
    for number, row in enumerate(rows):
        print(f"{row.name} ({number + 1} of {len(rows)})", file=sys.stderr, flush=True)
        found.append(
            _facts(load(row.name), row, files[row.name], [each for each in peers if each["technique"] == row.name])
        )
    return found


def _facts(technique: Technique, row: Row, file: Path, measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    peer = technique.peers.get(LIBRARY)
    beside_peft = None if peer is None or peer.refused else _parity(technique)
    near, host = beside_peft or (None, _encoder if peer is not None and not (peer.refused or peer.told) else None)
    refused = f"refused: {peer.refused}" if peer and peer.refused else None
    lines = [
        line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    ]
    return {
        "name": row.name,
        "lines": len(lines),
        "trained": row["trained"],
        "identity": row["identity at init"],
        "mergeable": row["mergeable"],
        "peft": None if peer is None else peer.type,
        "output": None if near is None else near.output,
        "gradient": None if near is None else near.gradient,
        "merged": None if near is None else near.merged,
        "exchange": _exchange(technique, host) if host else refused,
        "step": {each["host"]: each["ratio_to_peft"] for each in measured},
        "saved": {each["host"]: each["saved_ratio"] for each in measured},
        "frozen": {each["host"]: each["ratio_to_frozen_host"] for each in measured},
    }


def _encoder() -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=500
    )
    return BertModel(config)


def _decoder() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=500
    )
    return LlamaForCausalLM(config)


def _made(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return make().eval()


def _batch() -> dict[str, torch.Tensor]:
    """One sample: peft has techniques with which the samples of a batch change one another."""
    return {"input_ids": torch.arange(3, 27)[None]}


def _parity(technique: Technique) -> tuple[Parity, Callable[[], Any]] | None:
    """How near peft is, on the first host on which it has the technique; None where it keeps it in another form."""
    for make in (_encoder, _decoder):
        try:
            return parity(beside(_made(make), technique), _batch()), make
        except (PeftrefError, ValueError):
            continue
    return None


def _exchange(technique: Technique, make: Callable[[], Any]) -> str:
    """both ways, or how far a module gets: here to peft and back again, with the same outputs."""
    model, batch = _made(make), _batch()
    attached = attach(model, technique)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        out = model(**batch)[0]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            place = write_peft(attached, Path(folder) / "there")
        except PeftrefError as error:
            return f"import only ({error.problems[0].code})"
        attached.detach()
        back = read_peft(place, model).technique.name
    with torch.no_grad():
        apart = (model(**batch)[0] - out).abs().max() / out.abs().max()
    if float(apart) >= 1e-4:
        return f"differs by {float(apart):.1e}"
    return "both ways" if back == technique.name else f"both ways, kept as {back}"


def _explained(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, Explanation]]:
    """How what was measured in a whole model is computed there."""
    hosts = {name: plan.host() for name, plan in PLANS.items() if any(each["host"] == name for each in records)}
    for each in records:
        plan = PLANS[each["host"]]
        if not isinstance(plan.config, int):
            told = explain(each["technique"], hosts[each["host"]], batch=plan.samples, length=plan.length)
            yield each["host"], each["ratio_to_frozen_host"], told


def main() -> None:
    """Computes the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts", description=main.__doc__)
    parser.add_argument("--peers", type=Path, help="records that benchmarks.peers wrote with --json")
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args()
    from benchmarks.dearer import dearer_table
    from benchmarks.facts_table import facts_table
    from peftref.report.forms import to_markdown

    warnings.simplefilter("ignore")
    records = json.loads(given.peers.read_text()) if given.peers else {"records": [], "environment": None}
    table = facts_table(facts(records["records"]), environment("cpu"), records["environment"])
    dearer = dearer_table(_explained(records["records"]))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(to_markdown(table) + "\n" + to_markdown(dearer), encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    main()
