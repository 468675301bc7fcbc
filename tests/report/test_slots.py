"""The drawing and the rows of a host: every site once, with its path."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from peftref.host.presets import load_preset, preset_names
from peftref.report.slots import slots_rows, slots_view


@pytest.mark.parametrize("name", preset_names())
def test_rows_unfold_to_the_sites(name: str) -> None:
    host = load_preset(name)
    unfolded = set()
    for row in slots_rows(host):
        layers = row["layers"] if row["layers"] is not None else [None]
        assert isinstance(layers, list)
        for layer in layers:
            path = str(row["path"]).replace("{layer}", str(layer))
            unfolded.add((row["stack"], layer, row["slot"], "" if path == "(the model itself)" else path))
    assert unfolded == {(site.stack, site.layer, site.slot, site.path) for site in host.sites}


def test_the_drawing_names_every_slot_and_what_is_lacking() -> None:
    host = load_preset("gpt2")
    console = Console(file=io.StringIO(), width=200)
    console.print(slots_view(host))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, as given
    assert all(slot in text for slot in host.slots())
    assert "rows [0:768]" in text
    assert "ffn.gate: the feed-forward is not gated" in text
