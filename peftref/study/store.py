"""The store of a study: one JSON file per record, written whole or not at all, and checked by its own SHA-256 when read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peftref.core.problem import PeftrefError, fail
from peftref.study.plan import canonical

SCHEMA = 1


class DamagedError(ValueError):
    """A record that is torn, flipped, or of another schema."""


def render(body: Mapping[str, Any]) -> str:
    """A record as text: its schema, the SHA-256 of schema and body, and the body."""
    record = {"schema": SCHEMA, "sha256": _seal(body), "body": body}
    return json.dumps(record, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def parse(text: bytes) -> dict[str, Any]:
    """The body of a record's bytes; DamagedError unless they are, byte for byte, what `render` wrote.

    >>> parse(render({"a": 1}).encode())
    {'a': 1}
    """
    try:
        record = json.loads(text)
        body = record["body"]
        whole = record["schema"] == SCHEMA and record["sha256"] == _seal(body) and render(body).encode() == text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(str(error)) from None
    if not whole or not isinstance(body, dict):
        raise DamagedError("the record does not match its own checksum")
    return body


class Store:
    """The records of one study folder: `plan.json`, `runs/<id>.json`, and `quarantine/` for what was found damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.quarantined: list[str] = []

    def prepare(self) -> None:
        """Make the folders; PeftrefError `cannot-write` or `disk-full`."""
        with _writing(self.folder):
            self.runs.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, body: Mapping[str, Any]) -> Path:
        """Write a run's record: to a temporary file, flushed to the disk, then renamed. PeftrefError as `prepare`."""
        return _replace(self.runs / f"{name}.json", render(body))

    def write_plan(self, body: Mapping[str, Any]) -> Path:
        """Write the plan of the study, as a record is written."""
        return _replace(self.folder / "plan.json", render(body))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the study's folder, as a record is written."""
        return _replace(self.folder / name, text)

    def read(self, name: str) -> dict[str, Any] | None:
        """A run's record; None where there is none, or where it was damaged and is now in quarantine."""
        return self._read(self.runs / f"{name}.json")

    def read_plan(self) -> dict[str, Any]:
        """The plan of the study; PeftrefError `no-study` where there is none, or where it is damaged."""
        path = self.folder / "plan.json"
        try:
            return parse(path.read_bytes())
        except FileNotFoundError:
            raise fail("no-study", f"{self.folder} holds no study", hint="peftref compare makes one") from None
        except (DamagedError, OSError) as error:
            hint = "run the same compare command again; finished runs are kept"
            raise fail("no-study", f"{path} cannot be read: {error}", hint=hint) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study for this process; PeftrefError `study-locked` while another process holds it."""
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("a+")
        with handle:
            _lock(handle, self.folder)
            for stray in self.runs.glob("*.tmp"):
                stray.unlink(missing_ok=True)
            yield

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except DamagedError:
            self.quarantined.append(path.name)
            with _writing(self.folder):
                target = self.folder / "quarantine"
                target.mkdir(exist_ok=True)
                path.replace(_free(target / path.name))
            return None


def _seal(body: object) -> str:
    return hashlib.sha256(canonical({"schema": SCHEMA, "body": body}).encode()).hexdigest()


def _free(path: Path) -> Path:
    number = 1
    while path.with_suffix(f".{number}.json").exists():
        number += 1
    return path.with_suffix(f".{number}.json")


def _replace(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        try:
            with temporary.open("w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    return path


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_problem(path, error) from None


def write_problem(path: Path, error: OSError, hint: str = "give another folder with --out") -> PeftrefError:
    """What to tell about a write that failed: `disk-full` where there is no room, else `cannot-write`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        room = "free some room and run the same command again; finished runs are kept"
        return fail("disk-full", f"no room left on the disk for {path}", hint=room)
    return fail("cannot-write", f"cannot write {path}: {error.strerror or error}", hint=hint)


def _lock(handle: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system: nothing to hold the study with
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read().strip() or "another process"
        raise fail(
            "study-locked", f"{folder} is in use by {owner}", hint="wait for it, or give another --out"
        ) from None
    handle.seek(0)
    handle.truncate()
    handle.write(f"process {os.getpid()} on {os.uname().nodename}")
    handle.flush()
