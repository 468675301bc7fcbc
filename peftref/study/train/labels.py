"""Raw columns to rows: texts that are not empty, labels that are class numbers; every problem found at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from peftref.core.problem import Problem
from peftref.study.train.rows import Split
from peftref.study.train.task import Columns

Raw = Mapping[str, Sequence[object]]


def blank(value: object) -> bool:
    """Whether a cell is missing or holds white space only."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def trim(raw: Raw, columns: Columns) -> dict[str, list[object]]:
    """The needed columns without the blank rows at their end."""
    names = [name for name in (columns.text, columns.text2, columns.label) if name is not None]
    stop = len(raw[names[0]])
    while stop and all(blank(raw[name][stop - 1]) for name in names):
        stop -= 1
    return {name: list(raw[name][:stop]) for name in names}


def class_names(values: Sequence[object]) -> tuple[str, ...]:
    """The classes that a label column holds: 0 … highest where all are whole numbers, else the sorted names.

    >>> class_names(["1", "0", "1"]), class_names(["spam", "ham"])
    (('0', '1'), ('ham', 'spam'))
    """
    present = [value for value in values if not blank(value)]
    numbers = [_whole(value) for value in present]
    whole = [number for number in numbers if number is not None]
    if present and len(whole) == len(present) and min(whole) >= 0 and max(whole) < 10_000:
        return tuple(str(number) for number in range(max(whole) + 1))
    return tuple(sorted({str(value).strip() for value in present}))


def to_split(raw: Raw, columns: Columns, labels: tuple[str, ...], where: str) -> tuple[Split | None, list[Problem]]:
    """The rows of one split, or the problems that they have: `empty-split`, `empty-rows`, `bad-label`.

    raw: trimmed columns. where: how to call the split in messages. Row numbers count from 1, a header line left out.
    """
    texts = list(raw[columns.text])
    seconds = list(raw[columns.text2]) if columns.text2 else []
    if not texts:
        return None, [Problem("empty-split", f"{where} has no rows")]
    problems = []
    for name, cells in ((columns.text, texts), (columns.text2, seconds)):
        empty = [row for row, cell in enumerate(cells, 1) if blank(cell)]
        if empty:
            text = f"{where} has {len(empty)} rows with an empty '{name}': {_rows(empty)}"
            problems.append(Problem("empty-rows", text, hint="remove those rows or fill them"))
    numbers = [_label(value, labels) for value in raw[columns.label]]
    bad = [(row, raw[columns.label][row - 1]) for row, number in enumerate(numbers, 1) if number is None]
    if bad:
        shown = ", ".join(f"{value!r} in row {row}" for row, value in bad[:5])
        text = f"{where} has {len(bad)} labels that are no class: {shown}{', …' if len(bad) > 5 else ''}"
        hint = f"classes are 0 … {len(labels) - 1} or {', '.join(labels[:8])}{', …' if len(labels) > 8 else ''}"
        problems.append(Problem("bad-label", text, hint=hint))
    if problems:
        return None, problems
    kept = tuple(number for number in numbers if number is not None)
    return Split(tuple(map(str, texts)), tuple(map(str, seconds)), kept), []


def _label(value: object, labels: tuple[str, ...]) -> int | None:
    if blank(value):
        return None
    if isinstance(value, str) and value.strip() in labels:
        return labels.index(value.strip())
    number = _whole(value)
    return number if number is not None and 0 <= number < len(labels) else None


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number == int(number) else None


def _rows(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
