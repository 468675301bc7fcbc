"""Local data files: which file holds which split, and its columns, read through the `datasets` library."""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.study.train.labels import Raw
from peftref.study.train.task import Columns, Task

KINDS = {".tsv": "csv", ".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
ALIASES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file is read, without a `.gz` behind it; None where it is not a data file.

    >>> kind_of(Path("train.tsv.gz"))
    '.tsv'
    """
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in KINDS else None


def split_files(task: Task, data: Path) -> dict[str, Path]:
    """The file of each split that a folder has, or the one file as train.

    data: a file, a folder with split files, or a folder with a folder named like the task. Raises PeftrefError
    `no-such-file` (nothing there, no train file) and `two-files` (one split in two files).
    """
    if data.is_file():
        if kind_of(data) is None:
            raise fail("no-such-file", f"{data} is no data file", hint=f"data files end in {', '.join(KINDS)}")
        return {"train": data}
    if not data.is_dir():
        raise fail("no-such-file", f"there is no data folder {data}")
    folder = data / task.name if (data / task.name).is_dir() else data
    files = sorted(path for path in folder.iterdir() if path.is_file() and kind_of(path))
    found: dict[str, Path] = {}
    problems = []
    for split in ("train", "dev", "test"):
        own = getattr(task.splits, split)
        names = (own, *ALIASES[split]) if own else ()
        matching = [path for path in files if path.name.split(".")[0] in names]
        if len(matching) > 1:
            text = f"{folder} has {len(matching)} files for the {split} split: {', '.join(p.name for p in matching)}"
            problems.append(Problem("two-files", text, hint="keep one"))
        elif matching:
            found[split] = matching[0]
    if problems:
        raise PeftrefError(problems)
    if "train" not in found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        hint = f"put train.tsv (columns {task.columns.text}, {task.columns.label}) into {folder} or {data / task.name}"
        raise fail("no-such-file", f"{folder} has no file for the train split; it has: {there}", hint=hint)
    return found


def read_file(path: Path, columns: Columns) -> Raw:
    """The columns of one file; tsv is read without quoting, csv with it, cells of both as text.

    Raises PeftrefError: `not-utf8`, `missing-column` (names those there), `bad-rows` (rows of another width),
    `unreadable-data`.
    """
    suffix = kind_of(path)
    assert suffix is not None
    options: dict[str, object] = {}
    if suffix in (".tsv", ".csv"):
        options, header = _table_options(path, suffix, columns)
        if header is not None:
            return {name: [] for name in header}
    elif suffix in (".jsonl", ".json"):
        _check_text(path)
    table = _load(path, KINDS[suffix], options)
    check_columns(list(table), columns, str(path))
    return table


def check_columns(present: list[str], columns: Columns, where: str) -> None:
    """Raise PeftrefError `missing-column` for every column that a task needs and a source does not have."""
    wanted = [name for name in (columns.text, columns.text2, columns.label) if name]
    missing = [name for name in wanted if name not in present]
    if missing:
        hint = "name the columns in the task's YAML under `columns`, or rename them in the data"
        note = f"columns there: {', '.join(present) or 'none'}"
        raise PeftrefError(
            Problem("missing-column", f"{where} has no column '{name}'", notes=(note,), hint=hint) for name in missing
        )


def _table_options(path: Path, suffix: str, columns: Columns) -> tuple[dict[str, object], list[str] | None]:
    """How `datasets` is to read a table, and its header where it has no rows at all, which `datasets` cannot read."""
    from datasets import Features, Value

    separator = "\t" if suffix == ".tsv" else ","
    quoting: Literal[0, 3] = csv.QUOTE_NONE if suffix == ".tsv" else csv.QUOTE_MINIMAL
    header: list[str] = []
    ragged: list[int] = []
    number = 0
    with _text_of(path) as lines:
        reader = csv.reader(lines, delimiter=separator, quoting=quoting)
        try:
            for number, cells in enumerate(reader):
                if number == 0:
                    header = cells
                elif cells and len(cells) != len(header):
                    ragged.append(number)
        except csv.Error as error:
            raise fail("unreadable-data", f"{path} cannot be read: {error} (line {reader.line_num})") from None
    check_columns(header, columns, str(path))
    if len(set(header)) < len(header):
        raise fail("unreadable-data", f"{path} names a column twice: {', '.join(header)}")
    if ragged:
        shown = ", ".join(map(str, ragged[:8])) + (", …" if len(ragged) > 8 else "")
        hint = (
            "a tab inside a text splits it; replace it by a blank"
            if suffix == ".tsv"
            else "quote texts that hold commas"
        )
        raise fail("bad-rows", f"{path} has rows that do not have {len(header)} columns: {shown}", hint=hint)
    options: dict[str, object] = {
        "sep": separator,
        "quoting": quoting,
        "keep_default_na": False,
        "na_filter": False,
        "skip_blank_lines": False,
        "encoding": "utf-8-sig",
        "features": Features({name: Value("string") for name in header}),
    }
    return options, None if number else header


@contextmanager
def _text_of(path: Path) -> Iterator[TextIO]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            text = f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} ({error.reason})"
            raise fail("not-utf8", text, hint="convert it, for example: iconv -f latin1 -t utf-8 old > new") from None
        except OSError as error:
            raise fail("unreadable-data", f"{path} cannot be read: {error}") from None


def _check_text(path: Path) -> None:
    with _text_of(path) as lines:
        for _ in lines:
            pass


def _load(path: Path, kind: str, options: dict[str, object]) -> dict[str, list[object]]:
    import datasets

    with tempfile.TemporaryDirectory(prefix="peftref-") as cache, quiet():
        try:
            table = datasets.load_dataset(
                kind, data_files=[str(path)], split="train", cache_dir=cache, keep_in_memory=True, **options
            )
        except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
            cause = error.__cause__ or error
            raise fail("unreadable-data", f"{path} cannot be read: {' '.join(str(cause).split())[:300]}") from None
        return {name: list(table[name]) for name in table.column_names}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the `datasets` library's progress bars off while something is read, and leave its setting as it was."""
    import datasets

    shown = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()
