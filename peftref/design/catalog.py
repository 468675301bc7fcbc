"""Catalogs: folders of techniques, tasks and hosts. The built-in one has no more rights than a user's own.

Looked into, in this order: the built-in catalog, the folders in `PEFTREF_CATALOG`, `~/.config/peftref/catalog`, and what
the entry points of the group `peftref.catalogs` name. A file's name is the name of what it holds.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module, metadata, resources
from pathlib import Path
from types import ModuleType
from typing import Literal

from peftref.core.data import data_folder
from peftref.core.problem import PeftrefError, Problem, nearest

Section = Literal["techniques", "tasks", "hosts", "presets"]

SECTIONS: tuple[Section, ...] = ("techniques", "tasks", "hosts", "presets")
GROUP = "peftref.catalogs"
VARIABLE = "PEFTREF_CATALOG"


class CatalogWarning(UserWarning):
    """A catalog that is named somewhere and cannot be read."""


def user_catalog() -> Path:
    """The user's own catalog, which need not exist: `~/.config/peftref/catalog` on Linux.

    >>> user_catalog().parts[-2:]
    ('peftref', 'catalog')
    """
    from platformdirs import user_config_path  # 3 ms that only catalogs need

    return user_config_path("peftref") / "catalog"


def catalog_folders() -> tuple[Path, ...]:
    """Every catalog folder that exists, each once. Warns, by name, of those that are named and cannot be read."""
    named = [data_folder("catalog"), *_from_environment(), *_existing(user_catalog()), *_from_entry_points()]
    seen: dict[Path, Path] = {}
    for folder in named:
        seen.setdefault(folder.resolve(), folder)
    return tuple(seen.values())


def section_files(section: Section) -> dict[str, tuple[Path, ...]]:
    """The files of one section of all catalogs, by name; a name with several files is not told apart here.

    A folder without sections is a plain folder of techniques.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for folder in catalog_folders():
        for path in _yaml_files(folder, section):
            found[path.stem] = (*found.get(path.stem, ()), path)
    return dict(sorted(found.items()))


def technique_files() -> dict[str, Path]:
    """Every technique's file, by name. Raises PeftrefError `duplicate-technique` for the names that exist twice."""
    files = section_files("techniques")
    problems = [_twice(name, paths) for name, paths in files.items() if len(paths) > 1]
    if problems:
        raise PeftrefError(problems)
    return {name: paths[0] for name, paths in files.items()}


def technique_file(name: str) -> Path:
    """The file of one technique. Raises PeftrefError `unknown-technique` or `duplicate-technique`."""
    files = section_files("techniques")
    paths = files.get(name, ())
    if len(paths) > 1:
        raise PeftrefError([_twice(name, paths)])
    if not paths:
        hint = nearest(name, files) or "peftref list names them all; a path to a YAML file works too"
        raise PeftrefError([Problem("unknown-technique", f"there is no technique {name}", hint=hint)])
    return paths[0]


def _twice(name: str, paths: tuple[Path, ...]) -> Problem:
    text = f"the technique {name} exists {'twice' if len(paths) == 2 else f'{len(paths)} times'}"
    hint = "rename one of the files, and the name in it"
    return Problem("duplicate-technique", text, notes=tuple(f"in {path}" for path in paths), hint=hint)


def _yaml_files(folder: Path, section: Section) -> list[Path]:
    inside = folder / section
    if section == "techniques" and not any((folder / name).is_dir() for name in SECTIONS):
        inside = folder
    try:
        entries = sorted(os.scandir(inside), key=lambda entry: entry.name) if inside.is_dir() else []
    except OSError as error:
        _warn(f"the catalog {folder} cannot be read: {error.strerror}")
        return []
    return [Path(entry.path) for entry in entries if _is_ours(entry)]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.name.endswith((".yaml", ".yml")) and entry.is_file()


def _from_environment(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    for text in environment.get(VARIABLE, "").split(os.pathsep):
        if not text:
            continue
        folder = Path(text).expanduser()
        if folder.is_dir():
            yield folder
        else:
            _warn(f"{VARIABLE} names {text}, which is no folder")


def _existing(folder: Path) -> Iterator[Path]:
    try:
        if folder.is_dir():
            yield folder
    except OSError as error:
        _warn(f"the catalog {folder} cannot be read: {error.strerror}")


def _from_entry_points() -> Iterator[Path]:
    for entry in metadata.entry_points(group=GROUP):
        try:
            folder = _folder(entry.load())
        except Exception as error:  # whatever a plug-in raises must not stop the others
            _warn(f"the catalog plug-in {entry.name} ({entry.value}) is broken: {type(error).__name__}: {error}")
            continue
        if folder.is_dir():
            yield folder
        else:
            _warn(f"the catalog plug-in {entry.name} ({entry.value}) gives {folder}, which is no folder")


def _folder(value: object) -> Path:
    """The folder that an entry point stands for: a module's own, what a function gives, or a path."""
    given = value() if callable(value) else value
    if isinstance(given, ModuleType):
        package = given if hasattr(given, "__path__") else import_module(given.__name__.rpartition(".")[0])
        return Path(str(resources.files(package)))
    if isinstance(given, str | os.PathLike):
        return Path(given)
    raise TypeError(f"it gives {type(given).__name__}, and a folder is wanted")


def _warn(text: str) -> None:
    warnings.warn(text, CatalogWarning, stacklevel=2)
