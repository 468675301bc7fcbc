"""The table of model types as markdown, and the figures of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Record = Mapping[str, Any]
GROUPS: dict[str, tuple[str, ...]] = {
    "q k v": ("attention.query", "attention.key", "attention.value"),
    "core": ("attention.core",),
    "output": ("attention.output",),
    "attention": ("attention",),
    "cross": ("cross_attention.query", "cross_attention.key", "cross_attention.value"),
    "up": ("ffn.up",),
    "gate": ("ffn.gate",),
    "hidden, down": ("ffn.hidden", "ffn.down"),
    "ffn": ("ffn",),
    "norms": ("attention.norm", "ffn.norm"),
    "layer": ("layer",),
    "embedding": ("embedding",),
    "head": ("head",),
}
NO_ATTENTION = "host-no-slots"


def resolved(records: Iterable[Record]) -> list[Record]:
    """The records of model types whose slots were found."""
    return [record for record in records if "slots" in record]


def is_proved(record: Record) -> bool:
    """Whether something is proved of a model type, and nothing refuted or left untried."""
    count = record["proof"]
    return count["proved"] > 0 and not count["refuted"] and not count["untried"]


def figures(records: Sequence[Record]) -> list[str]:
    """How many were tried, resolved and proved, and the times to resolve."""
    have = resolved(records)
    proved = [record for record in have if is_proved(record)]
    partly = [record for record in have if not is_proved(record) and not record["proof"]["refuted"]]
    none = [record for record in records if record.get("kind") == NO_ATTENTION]
    unbuilt = [record for record in records if record.get("kind") in ("host-not-built", "no-model-class", "not-built")]
    rows = [
        f"{len(records)} model types: {len(have)} resolved, {len(none)} without attention, {len(unbuilt)} that cannot be "
        f"built from their default configuration here, {len(records) - len(have) - len(none) - len(unbuilt)} that do not run",
        f"of the {len(have)} resolved, {len(proved)} are proved in every slot, {len(partly)} in part, "
        f"{len(have) - len(proved) - len(partly)} have a slot that is refuted",
        "found by "
        + ", ".join(f"{how}: {count}" for how, count in sorted(Counter(record["how"] for record in have).items())),
    ]
    times = {record["type"]: record["resolving"] for record in have if record["resolving"] > 0.001}
    if times:
        slowest = max(times, key=lambda name: times[name])
        rows.append(
            f"time to resolve a host: median {median(times.values()):.1f} s, slowest {times[slowest]:.1f} s ({slowest})"
        )
    return rows


def table(records: Sequence[Record], versions: Mapping[str, str], total: int) -> str:
    """The whole page. total: how many model types there are, tried or not."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# Model types",
        "",
        "Written by `python -m benchmarks.hosts --json FILE --out docs/hosts.md`; no cell is typed by hand. "
        + named
        + ".",
        "",
        "Each model type is built from its default configuration without weights and its slots are found; then each slot is",
        "changed on a small random instance of the same class, and what follows is looked at. `probe`: attention passes through",
        "transformers' attention interface; `walk`: the model computes attention itself, which is found in what it computes;",
        "`map`: a map in `catalog/hosts` says where the projections are. A slot has `+`, one that is not there `-`.",
        "",
        f"- of {total} model types {len(records)} were tried.",
        *(f"- {line}." for line in figures(records)),
        "",
        "## Resolved",
        "",
        "| " + " | ".join(("model type", "class", "stacks", "by", *GROUPS, "proved", "s")) + " |",
        "| " + " | ".join("---" for _ in range(len(GROUPS) + 6)) + " |",
        *(_row(record) for record in sorted(resolved(records), key=lambda each: str(each["type"]))),
        "",
        "## What is not proved, and why",
        "",
        "| model type | slot | what was seen |",
        "| --- | --- | --- |",
        *(
            f"| {record['type']} | {slot} | {_cell(why)} |"
            for record in sorted(resolved(records), key=lambda each: str(each["type"]))
            for slot, why in record["unproved"].items()
        ),
        "",
        "## Not resolved, and why",
        "",
        "| model type | class | why |",
        "| --- | --- | --- |",
        *(
            f"| {record['type']} | {record.get('class', '')} | {_cell(record['why'])} |"
            for record in sorted(records, key=lambda each: str(each["type"]))
            if "slots" not in record
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(record: Record) -> str:
    slots = set(record["slots"])
    marks = ["+" if slots >= set(group) else "part" if slots & set(group) else "-" for group in GROUPS.values()]
    count = record["proof"]
    proved = f"{count['proved']}/{sum(count.values())}" + (f", {count['refuted']} refuted" if count["refuted"] else "")
    stacks = ", ".join(f"{name} {layers}" for name, layers in record["stacks"])
    cells = (record["type"], record["class"], stacks, record["how"], *marks, proved, f"{record['resolving']:.1f}")
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """A text that fits a table, without a path of the machine."""
    return re.sub(r"(/[\w.+-]+){3,}", "...", text).replace("|", "\\|").replace("\n", " ")[:200]
