"""Records are whole or not there: nothing torn is read, nothing is half-written, and nobody else writes meanwhile."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftref.core.problem import PeftrefError
from peftref.study.store import DamagedError, Store, parse, render

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(), VALUES, max_size=5)


@given(BODIES)
def test_what_is_written_is_read(body: dict[str, Any]) -> None:
    assert parse(render(body).encode()) == json.loads(json.dumps(body))


@given(BODIES, st.data())
def test_a_flipped_byte_or_a_torn_end_is_noticed(body: dict[str, Any], data: st.DataObject) -> None:
    text = bytearray(render(body).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    torn = bytes(text[:at])
    text[at] ^= data.draw(st.integers(1, 255))
    for damaged in (torn, bytes(text)):
        with pytest.raises(DamagedError):
            parse(damaged)


@given(st.binary(max_size=60))
def test_a_damaged_record_goes_into_quarantine(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.prepare()
        store.write("good", {"a": 1})
        for _ in range(2):
            (store.runs / "bad.json").write_bytes(content)
            assert store.read("bad") is None
        kept = sorted((store.folder / "quarantine").iterdir())
        assert [each.read_bytes() for each in kept] == [content, content]
        assert not (store.runs / "bad.json").exists()
        assert store.read("good") == {"a": 1}


@pytest.mark.parametrize("breaks", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_record(breaks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.prepare()
    store.write("one", {"a": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, breaks, full)
        with pytest.raises(PeftrefError, match="disk-full"):
            store.write("one", {"a": 2})
    assert store.read("one") == {"a": 1}
    assert [each.name for each in store.runs.iterdir()] == ["one.json"]


def test_a_study_is_held_by_one_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    (store.runs / ".one.json.1.tmp").write_text("half")
    with store.locked():
        assert not list(store.runs.iterdir())
        with pytest.raises(PeftrefError, match="study-locked"), Store(tmp_path).locked():
            pass
    with store.locked():
        pass
