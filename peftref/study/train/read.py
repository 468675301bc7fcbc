"""A task's rows: from a local folder, the hub or a generator, checked, and with missing splits carved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.study.train.carve import carve, overlap_notes
from peftref.study.train.files import check_columns, quiet, read_file, split_files
from peftref.study.train.labels import Raw, class_names, to_split, trim
from peftref.study.train.rows import Dataset, Split
from peftref.study.train.task import Columns, Hub, Splits, Task

Generator = Callable[[], Mapping[str, Raw]]


def local_task(data: Path) -> Task:
    """A task for a folder or file that no catalog describes: columns `text` and `label`, classes found in train.

    >>> local_task(Path("reviews/mine")).name
    'mine'
    """
    plain = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in data.name.split(".")[0])
    return Task(name=plain.lstrip("-_") or "data", title=data.name or "data")


def read_task(task: Task, data: Path | None = None, generators: Mapping[str, Generator] | None = None) -> Dataset:
    """Every row of a task, as train, dev and test.

    data: a folder or file that goes before the task's own source. generators: what `source.generator` may name. Raises
    PeftrefError with all problems of all splits: `no-source`, `no-such-file`, `missing-column`, `empty-split`,
    `empty-rows`, `bad-label`, `single-class`, `not-utf8`, `bad-rows`, `unreadable-data`, `hub-unreachable`.
    """
    tables, columns, names = _tables(task, data, generators or {})
    return to_dataset(task.name, tables, columns, names)


def to_dataset(name: str, tables: Mapping[str, Raw], columns: Columns, labels: tuple[str, ...] = ()) -> Dataset:
    """Checked rows of raw tables per split; splits that are missing are carved from train."""
    trimmed = {split: trim(table, columns) for split, table in tables.items()}
    classes = labels or class_names(trimmed["train"][columns.label])
    splits: dict[str, Split] = {}
    problems: list[Problem] = []
    for split, table in trimmed.items():
        rows, found = to_split(table, columns, classes, f"the {split} split of {name}")
        problems += found
        if rows is not None:
            splits[split] = rows
    if problems:
        raise PeftrefError(problems)
    notes: tuple[str, ...] = ()
    missing = tuple(split for split in ("test", "dev") if split not in splits)
    if missing:
        carved, notes = carve(splits["train"], missing)
        splits.update(carved)
    _check_splits(name, splits, classes)
    notes += overlap_notes(splits)
    return Dataset(name, classes, splits["train"], splits["dev"], splits["test"], notes)


def _check_splits(name: str, splits: Mapping[str, Split], classes: tuple[str, ...]) -> None:
    problems = [
        Problem(
            "empty-split", f"the {split} split of {name} has no rows", hint="give more rows, or files for dev and test"
        )
        for split, rows in splits.items()
        if not len(rows)
    ]
    seen = set(splits["train"].labels)
    if len(splits["train"]) and len(seen) < 2:
        only = classes[next(iter(seen))]
        problems.append(Problem("single-class", f"the train split of {name} holds a single class, '{only}'"))
    if problems:
        raise PeftrefError(problems)


def _tables(
    task: Task, data: Path | None, generators: Mapping[str, Generator]
) -> tuple[Mapping[str, Raw], Columns, tuple[str, ...]]:
    if data is not None:
        files = split_files(task, data)
        found: dict[str, Raw] = {}
        problems: list[Problem] = []
        for split, path in files.items():
            try:
                found[split] = read_file(path, task.columns)
            except PeftrefError as error:
                problems += error.problems
        if problems:
            raise PeftrefError(problems)
        return found, task.columns, task.labels
    if task.source.generator is not None:
        if task.source.generator not in generators:
            known = ", ".join(sorted(generators)) or "none"
            raise fail("no-source", f"{task.name}: there is no generator '{task.source.generator}'; there are: {known}")
        return generators[task.source.generator](), task.columns, task.labels
    if task.source.hub is not None:
        hub = task.source.hub
        return _from_hub(task, hub), hub.columns or task.columns, hub.labels or task.labels
    recipe = f"give a folder with train.tsv (columns {task.columns.text}, {task.columns.label}): --data FOLDER"
    raise fail("no-source", f"the task '{task.name}' has no source of its own", hint=recipe)


def _from_hub(task: Task, hub: Hub) -> dict[str, Raw]:
    import datasets

    columns, splits = hub.columns or task.columns, hub.splits or task.splits
    try:
        with quiet():
            everything = datasets.load_dataset(hub.name, hub.config, revision=hub.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        recipe = (
            f"put train.tsv (columns {task.columns.text}, {task.columns.label}) into a folder and give --data FOLDER"
        )
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise fail("hub-unreachable", f"{hub.name} could not be had from the hub: {first}", hint=recipe) from None
    tables: dict[str, Raw] = {}
    for split, own in _wanted(splits).items():
        if own not in everything:
            raise fail("no-such-split", f"{hub.name} has no split '{own}'; it has: {', '.join(everything)}")
        check_columns(list(everything[own].column_names), columns, f"{hub.name}, split {own},")
        tables[split] = {name: list(everything[own][name]) for name in everything[own].column_names}
    return tables


def _wanted(splits: Splits) -> dict[str, str]:
    named = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    return {split: own for split, own in named.items() if own is not None}
