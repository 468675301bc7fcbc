"""Rows from files to batches: every format gives the same rows, splits do not overlap, batches lose nothing."""

from __future__ import annotations

import csv
import gzip
import json
import string
from collections import Counter
from pathlib import Path

import pytest
import torch
from datasets import Dataset as Table
from hypothesis import given
from hypothesis import strategies as st

from peftref.study.train.carve import carve
from peftref.study.train.data import Encoded, batches, by_length, order
from peftref.study.train.metrics import accuracy, macro_f1
from peftref.study.train.read import local_task, read_task
from peftref.study.train.rows import Split

ROWS = [
    ("a good, long film", 1),
    ('he said "no"', 0),
    ("it's fine", 1),
    ("dull — very", 0),
    ("a,b,c", 1),
    ("null", 0),
] * 9


def write(folder: Path, kind: str) -> Path:
    """The rows as one file of a kind; every text is made different."""
    rows = [(f"{text} {number}", label) for number, (text, label) in enumerate(ROWS)]
    path = folder / f"train.{kind}"
    if kind == "parquet":
        Table.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]}).to_parquet(path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    elif kind == "csv":
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows([("text", "label"), *rows])
    else:
        text = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
        if kind == "tsv.gz":
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    return folder


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "tsv.gz"])
def test_every_format_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    task = local_task(tmp_path)
    one, two = (read_task(task, write(folder, each)) for folder, each in zip(folders, ("tsv", kind), strict=True))
    assert one.fingerprint() == two.fingerprint()
    assert sum(one.sizes().values()) == len(ROWS)
    assert one.labels == ("0", "1")


@given(st.lists(st.tuples(st.text(string.ascii_letters, min_size=1, max_size=3), st.integers(0, 1)), min_size=1))
def test_carved_splits_share_no_text(rows: list[tuple[str, int]]) -> None:
    whole = Split(tuple(text for text, _ in rows), (), tuple(label for _, label in rows))
    splits, notes = carve(whole, ("test", "dev"))
    kept = Counter(row for split in splits.values() for row in split)
    assert kept == Counter(whole)
    texts = [{text.lower() for text in split.texts} for split in splits.values()]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert len(notes) == 2


def encoded(lengths: list[int]) -> Encoded:
    """Rows of some lengths; the first token of a row is its number, plus one."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = row + 1
    return Encoded(ids, torch.tensor(lengths), torch.zeros(len(lengths), dtype=torch.long), None, 0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 3))
def test_every_row_comes_once_in_each_round(lengths: list[int], size: int, seed: int) -> None:
    rows = len(lengths)
    steps = -(-2 * rows // size)
    seen = torch.cat(list(order(rows, size, steps, seed))).tolist()
    assert sorted(seen[:rows]) == list(range(rows))
    assert Counter(by for batch in by_length(encoded(lengths), size) for by in batch.tolist()) == Counter(range(rows))
    many = list(batches(encoded(lengths), size, steps, seed))
    assert [len(batch) for batch in many] == [size] * steps
    assert torch.equal(torch.cat(many), torch.cat(list(batches(encoded(lengths), size, steps, seed))))
    counts = Counter(torch.cat(many).tolist())
    if steps * size == 2 * rows and rows % size == 0:
        assert max(counts.values()) - min(counts.values()) <= 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_a_batch_holds_its_rows_and_nothing_else(lengths: list[int]) -> None:
    data = encoded(lengths)
    batch = data.batch(torch.arange(len(lengths)))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert torch.equal(batch["input_ids"].bool(), batch["attention_mask"].bool())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_scores_by_their_definitions(pairs: list[tuple[int, int]]) -> None:
    truth, guessed = zip(*pairs, strict=True)
    matrix = torch.zeros(4, 4)
    for true, guess in pairs:
        matrix[true, guess] += 1
    assert accuracy(truth, guessed) == pytest.approx(float(matrix.trace() / matrix.sum()))
    hit, row, column = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    there = (row + column) > 0
    precision, recall = hit / column.clamp(min=1), hit / row.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    assert macro_f1(truth, guessed) == pytest.approx(float(f1[there].mean()))
