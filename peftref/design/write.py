"""Files and folders written whole or not at all: hidden beside the target, then put in its place; files flushed to the disk."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peftref.core.problem import fail


def write_whole(path: Path, content: bytes, *, replace: bool = False) -> Path:
    """Writes a file whole; a kill or a full disk at any moment leaves the old file, or none, and never a part.

    Raises PeftrefError `file-exists` where there is one and `replace` is false, `cannot-write` with the reason else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            _write(part, content)
            _place(part, path, replace)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except FileExistsError:
        raise fail("file-exists", f"{path} exists already and was not changed") from None
    except OSError as error:
        raise fail("cannot-write", f"{path} cannot be written: {error.strerror}", hint="nothing was changed") from None
    return path


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, to be filled; it takes the target's place when all went well, and is gone else.

    Raises OSError where it cannot be written; what stood at the target is then still there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield made
        made.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(part: Path, content: bytes) -> None:
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _place(part: Path, path: Path, replace: bool) -> None:
    if replace:
        os.replace(part, path)
    else:
        _link(part, path)
    _flush_folder(path.parent)


def _link(part: Path, path: Path) -> None:
    """Gives the finished file its name unless something has that name; no moment lies between the look and the act."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError from None
        os.replace(part, path)


def _flush_folder(folder: Path) -> None:
    """Makes the new name last through a power cut, where the file system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
