"""The run over model types keeps what it found and says what it does not find."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hosts import apart, main, model_types, read
from benchmarks.hosts_table import figures, table


def test_a_run_is_taken_up_where_it_was_broken_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, page = tmp_path / "records.json", tmp_path / "hosts.md"
    main(["bert", "--json", str(kept), "--small"])
    first = read(kept)
    assert first["bert"]["proof"]["refuted"] == 0 < first["bert"]["proof"]["proved"]
    main(["bert", "resnet", "--json", str(kept), "--small", "--out", str(page)])
    both = read(kept)
    assert both["bert"] == first["bert"]
    assert both["resnet"]["kind"] == "host-no-slots"
    text = page.read_text(encoding="utf-8")
    assert "| bert | BertForMaskedLM | encoder 2 | probe |" in text
    assert "2 model types: 1 resolved, 1 without attention" in text
    assert "1/2 " not in capsys.readouterr().out


def test_a_type_that_takes_too_long_is_said_to() -> None:
    record = apart("llama", whole=True, seconds=1)
    assert "more than 1 s" in record.get("why", "") + str(record.get("unproved", ""))


def test_the_figures_name_the_slowest() -> None:
    proof = {"proved": 3, "refuted": 0, "untried": 0}
    fast = {"type": "a", "slots": [], "how": "probe", "proof": proof, "resolving": 1.0}
    slow = {"type": "b", "slots": [], "how": "walk", "proof": {**proof, "refuted": 1}, "resolving": 3.0}
    unbuilt = {"type": "c", "why": "no", "kind": "host-not-built"}
    found = "\n".join(figures([fast, slow, unbuilt]))
    assert "3 model types: 2 resolved, 0 without attention, 1 that cannot be built" in found
    assert "median 2.0 s, slowest 3.0 s (b)" in found
    assert "1 are proved in every slot, 0 in part, 1 have a slot that is refuted" in found


def test_a_cell_shows_no_path_and_no_bar() -> None:
    page = table([{"type": "x", "why": "a | b in /home/someone/there/file.py", "kind": "host-not-run"}], {}, 1)
    assert "| x |  | a \\| b in ... |" in page


def test_every_model_type_of_transformers_is_gone_over() -> None:
    assert {"bert", "llama", "xlnet", "resnet"} <= set(model_types())
