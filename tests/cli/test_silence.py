"""Every command, in a process of its own among libraries that are loud, writes nothing to the error stream but what is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftref.cli.app import app
from peftref.design.load import load
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from tests.golden.faulty import SOUND
from tests.hosts.families import build

LOUD = """
import logging, os, sys, warnings
from importlib.abc import MetaPathFinder

class Loud(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("rich", "yaml", "torch", "transformers", "safetensors", "datasets", "peft"):
            warnings.warn(f"NOISE warned of {name}", FutureWarning)
            logging.getLogger(name).critical(f"NOISE logged of {name}")
            print(f"NOISE printed of {name}", file=sys.stderr, flush=True)
            os.write(2, f"NOISE written of {name}\\n".encode())
        return None

sys.meta_path.insert(0, Loud())
"""

COMMANDS: dict[str, tuple[list[str], str]] = {
    "list": (["list"], ""),
    "show": (["show", "lora"], ""),
    "typology": (["typology", "lora", "ia3"], ""),
    "diff": (["diff", "lora", "ia3"], ""),
    "count": (["count", "lora", "--host", "host"], ""),
    "slots": (["slots", "--host", "host", "--prove"], ""),
    "explain": (["explain", "lora", "--host", "host"], ""),
    "new": (["new", "own", "--from", "lora"], ""),
    "check": (["check", "mine.yaml"], ""),
    "register": (["register", "mine.yaml"], ""),
    "draw": (["draw", "lora"], ""),
    "atlas": (["atlas", "lora", "ia3", "--out", "atlas"], ""),
    "import": (["import", "checkpoint", "--host", "host", "--out", "imported"], ""),
    "export": (["export", "saved", "again", "--host", "host"], ""),
    "inspect": (["inspect", "saved"], ""),
    "report": (["report", "nowhere"], "nowhere holds no study [no-study]\n"),
}
"""What is called, and what it may say on the error stream."""

STUDIES = {"compare", "demo"}
"""Commands that say on the error stream how far they are: tests/study/test_progress.py."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silence")
    model = build("llama", "CausalLM")
    model.save_pretrained(folder / "host")
    attached = attach(model, load("lora", r=2))
    attached.save(folder / "saved")
    write_peft(attached, folder / "checkpoint")
    (folder / "mine.yaml").write_text(SOUND)
    (folder / "loud").mkdir()
    (folder / "loud" / "sitecustomize.py").write_text(LOUD)
    return folder


def called(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "loud"), str(Path(__file__).parents[2])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PEFTREF_CATALOG": "",
    }
    command = [sys.executable, "-m", "peftref", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_command_is_called() -> None:
    named = {str(command.name) for command in app.registered_commands}
    assert named == set(COMMANDS) | STUDIES


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_others_reaches_the_user(command: str, folder: Path) -> None:
    arguments, said = COMMANDS[command]
    done = called(folder, *arguments)
    assert done.returncode == (2 if said else 0), done.stderr
    assert done.stderr.partition("\n  ")[0].rstrip("\n") == said.rstrip("\n")
    assert "NOISE" not in done.stdout


def test_a_fault_of_ours_is_shown_with_what_was_said_before(folder: Path) -> None:
    code = """
import os, sys
from peftref.core.quiet import only_ours
with only_ours() as ours:
    print("theirs", file=sys.stderr)
    os.write(2, b"theirs in C\\n")
    print("ours", file=ours)
    raise RuntimeError("a fault")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ours\ntheirs\ntheirs in C\nTraceback")
    assert done.stderr.endswith("RuntimeError: a fault\n")


def test_what_a_library_kept_of_the_stream_leads_on_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    from peftref.core.quiet import error_stream, only_ours

    with only_ours() as ours:
        kept = sys.stderr
        print("kept back", file=kept)
        print("said", file=error_stream())
        assert error_stream() is ours
    print("later", file=kept)
    assert capsys.readouterr().err == "said\nlater\n"
