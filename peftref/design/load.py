"""A technique by its name, or from a file or a text; everything that is wrong with it in one error."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

from peftref.core.problem import PeftrefError, Problem, fail, in_order
from peftref.design.catalog import technique_file, technique_files
from peftref.design.check import check_technique
from peftref.design.fields import Setting
from peftref.design.repair import certain, repaired
from peftref.design.technique import Technique
from peftref.design.wording import validate
from peftref.design.yaml_document import Document
from peftref.design.yaml_source import MAX_BYTES, decode, read_yaml


def load(name_or_path: str | os.PathLike[str], /, **settings: Setting) -> Technique:
    """The technique of a name in the catalogs, or of a YAML file, with some settings changed.

    A text is a path where it ends in .yaml or .yml or has a separator in it. Raises PeftrefError with every problem;
    `unknown-technique` and `duplicate-technique` for names, `unreadable` for files.

    >>> load("none_such")
    Traceback (most recent call last):
    ...
    peftref.core.problem.PeftrefError: there is no technique none_such [unknown-technique]
      hint: peftref list names them all; a path to a YAML file works too
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, os.PathLike) or _is_path(text):
        technique = read_file(Path(text).expanduser())
    else:
        technique = from_catalog(text, technique_file(text))
    return technique.with_settings(**settings) if settings else technique


def techniques() -> tuple[Technique, ...]:
    """Every technique of all catalogs, by name. Raises PeftrefError with the problems of all of them."""
    found: list[Technique] = []
    problems: list[Problem] = []
    for name, path in technique_files().items():
        try:
            found.append(from_catalog(name, path))
        except PeftrefError as error:
            problems += error.problems
    if problems:
        raise PeftrefError(problems)
    return tuple(found)


def read(text: str, source: str = "technique.yaml") -> Technique:
    """The technique of a YAML text; `source` is the file's name in errors. Raises PeftrefError with every problem.

    >>> read("{name: mine, title: Mine, insert: [{at: ffn, equation: h' = 2 * h}]}").insert[0].equation
    "h' = 2 * h"
    """
    return read_document(read_yaml(text, source))


def read_document(document: Document) -> Technique:
    """The technique of a YAML document; raises PeftrefError with every problem."""
    try:
        technique = validate(Technique, document, "a technique")
    except PeftrefError as error:
        found = repaired(Technique, document.data)
        more = certain(check_technique(found[0], document), found[1]) if found else ()
        raise PeftrefError(sorted([*error.problems, *more], key=in_order)) from None
    problems = check_technique(technique, document)
    if problems:
        raise PeftrefError(problems)
    return technique


def read_file(path: Path) -> Technique:
    """The technique of a YAML file, of at most 64 KiB. Raises PeftrefError; `unreadable` where there is no such file."""
    try:
        found = path.stat()
    except OSError as error:
        raise fail("unreadable", f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise fail("unreadable", f"{path} is no file")
    if found.st_size > MAX_BYTES:
        raise fail("yaml-size", f"{path} has {found.st_size} bytes; at most {MAX_BYTES} are read")
    return _read_version(path, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))


def from_catalog(name: str, path: Path) -> Technique:
    """The technique of a file in a catalog, whose name must be the file's."""
    technique = read_file(path)
    if technique.name != name:
        text = f"{path} is named {name}, and the technique in it {technique.name}"
        raise fail("name-mismatch", text, hint=f"rename the file to {technique.name}.yaml, or the technique to {name}")
    return technique


@lru_cache(maxsize=512)
def _read_version(path: Path, version: tuple[int, ...]) -> Technique:
    """Read once per version of a file: `version` is what its file system says of it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fail("unreadable", f"{path} cannot be read: {error.strerror}") from None
    return read(decode(raw, str(path)), str(path))


def _is_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or os.sep in text or (os.altsep is not None and os.altsep in text)
