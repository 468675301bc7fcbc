"""A host of a moment's pretraining and a small task, for studies that take seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from peftref.study.offline.grammar import task_rows
from peftref.study.offline.host import Pretraining, offline_host

TINY = Pretraining(width=16, layers=2, heads=2, inner=24, documents=400, steps=4, batch_size=8)


@pytest.fixture(scope="session")
def tiny_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a very small host with its tokenizer."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PEFTREF_CACHE", str(tmp_path_factory.mktemp("cache")))
    try:
        return offline_host(TINY)
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tsv files of the grammar's task."""
    folder = tmp_path_factory.mktemp("data")
    rows = task_rows()
    for split, many in (("train", 96), ("dev", 48), ("test", 64)):
        table = list(zip(rows[split]["text"], rows[split]["label"], strict=True))
        random.Random(0).shuffle(table)
        lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in table[:many])]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
