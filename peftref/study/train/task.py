"""A task: a text-classification data set described as data, in `catalog/tasks/*.yaml` and in users' own catalogs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from peftref.core.data import data_folder
from peftref.core.problem import PeftrefError, Problem, fail, nearest
from peftref.host.architecture import Frozen

Metric = Literal["accuracy", "macro_f1"]


class Columns(Frozen):
    """Which columns hold the text, the second text of a pair, and the label."""

    text: str = "text"
    text2: str | None = None
    label: str = "label"


class Splits(Frozen):
    """What a source calls its splits; None where it has none, so that one is carved from train."""

    train: str = "train"
    dev: str | None = "dev"
    test: str | None = "test"


class Hub(Frozen):
    """A data set on the Hugging Face hub, pinned to a revision; columns, splits and labels where the task's differ."""

    name: str
    config: str | None = None
    revision: str
    columns: Columns | None = None
    splits: Splits | None = None
    labels: tuple[str, ...] | None = None


class Source(Frozen):
    """Where the rows come from when no folder is given: the hub, or a generator that ships with the package."""

    hub: Hub | None = None
    generator: str | None = None


class Selection(Frozen):
    """What hyper-parameters are chosen on: a metric of the dev split, never of the test split."""

    split: Literal["dev"] = "dev"
    metric: Metric = "accuracy"


class Task(Frozen):
    """A text-classification task.

    columns and splits say what a local folder has; labels are the class names in the order of their numbers, empty
    where they are to be found in the train split. max_length is in tokens. metric is the score that tables show first.

    >>> Task(name="mine", title="Mine").columns.text
    'text'
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str
    about: str = ""
    columns: Columns = Columns()
    splits: Splits = Splits()
    labels: tuple[str, ...] = ()
    metric: Metric = "accuracy"
    max_length: int = Field(default=64, ge=2, le=65536)
    selection: Selection = Selection()
    source: Source = Source()


def task_folders(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The folders that hold tasks: the shipped one, then `tasks/` of the user's catalogs where they exist."""
    own = [Path(entry) for entry in environment.get("PEFTREF_CATALOG", "").split(os.pathsep) if entry]
    config = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config")
    folders = [data_folder("catalog"), *own, config / "peftref" / "catalog"]
    return tuple(folder / "tasks" for folder in folders if (folder / "tasks").is_dir())


def task_names(folders: Iterable[Path] | None = None) -> dict[str, Path]:
    """Every task's name and file; PeftrefError `task-twice` where one name stands in two files."""
    found: dict[str, Path] = {}
    problems = []
    for folder in task_folders() if folders is None else folders:
        for path in sorted(folder.glob("*.yaml")):
            first = found.setdefault(path.stem, path)
            if first != path:
                text = f"the task '{path.stem}' exists twice"
                problems.append(
                    Problem("task-twice", text, notes=(str(first), str(path)), hint="rename one of the files")
                )
    if problems:
        raise PeftrefError(problems)
    return found


def load_task(name: str, folders: Iterable[Path] | None = None) -> Task:
    """The task of a name or of a YAML file's path.

    Raises PeftrefError: `unknown-task`, `no-such-file`, `broken-yaml`, `bad-task` with every field that is wrong.

    >>> load_task("sst2").labels
    ('negative', 'positive')
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise fail("no-such-file", f"there is no task file {name}")
        return _read(path)
    known = task_names(folders)
    if name not in known:
        hint = nearest(name, known) or f"tasks: {', '.join(sorted(known))}; or give a YAML file"
        raise fail("unknown-task", f"there is no task '{name}'", hint=hint)
    return _read(known[name])


def _read(path: Path) -> Task:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail("broken-yaml", f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    try:
        task = Task.model_validate(content)
    except ValidationError as error:
        raise PeftrefError(
            Problem("bad-task", f"{path}: {'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}")
            for one in error.errors()
        ) from None
    if task.name != path.stem:
        raise fail("bad-task", f"{path}: name is '{task.name}', but the file is called '{path.stem}'")
    return task
