"""A technique's file -> the user's own catalog."""

from __future__ import annotations

import os
from pathlib import Path

from peftref.core.problem import fail
from peftref.design.catalog import section_files, user_catalog
from peftref.design.load import read_file
from peftref.design.write import write_whole


def register(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Checks a technique's file and copies it, comments and all, into the user's catalog; gives where it stands now.

    With `force` it takes the place of the user's own technique of that name. Raises PeftrefError: every problem of the
    technique, `technique-exists` where the name is taken, `cannot-write`. Nothing is ever half-written.
    """
    source = Path(path).expanduser()
    technique = read_file(source)
    target = user_catalog() / "techniques" / f"{technique.name}.yaml"
    others = [file for file in section_files("techniques").get(technique.name, ()) if not _same(file, target)]
    if others:
        hint = "give yours another name; --force replaces only what is in your own catalog"
        raise fail("technique-exists", f"there is a technique {technique.name} in {others[0]}", hint=hint)
    if target.exists() and not force:
        hint = "--force replaces it"
        raise fail("technique-exists", f"there is a technique {technique.name} in {target}", hint=hint)
    if _same(source, target):
        return target
    try:
        content = source.read_bytes()
    except OSError as error:
        raise fail("unreadable", f"{source} cannot be read: {error.strerror}") from None
    return write_whole(target, content, replace=force)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
