"""What a saved module is, told by a command that loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from peftref.cli import main
from peftref.design.load import load
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from tests.hosts.families import build


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["inspect", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_a_saved_module_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attached = attach(build("llama"), load("vera", r=3), seed=5)
    attached.note(steps=7, data="sst2")
    folder = str(attached.save(tmp_path / "vera"))
    code, out, err = told(capsys, folder)
    assert (code, err) == (0, "")
    for part in (
        "VeRA (vera)",
        "settings: r = 3",
        "h' = h + lb * (B @ (ld * (A @ dropout(x))))",
        "lb: decoder.{0-1}.attention.query, decoder.{0-1}.attention.value",
        f"{sum(each.numel() for each in attached.parameters()):,} trained",
        "not stored: 2 (A, B)",
        "host: llama (llama)",
        "seed: 5",
        "training: data = sst2, steps = 7",
        f"torch {version('torch')}",
        f"module.safetensors: {(tmp_path / 'vera' / 'module.safetensors').stat().st_size:,} bytes",
    ):
        assert part in out, part
    code, out, _ = told(capsys, folder, "--json")
    found = json.loads(out)
    assert (found["technique"], found["settings"]["r"], found["seed"], found["training"]) == (
        "vera", 3, 5, {"steps": 7, "data": "sst2"},
    )  # fmt: skip
    assert sum(each["shape"][0] for each in found["tensors"].values()) == found["numbers"]["trained"]


def test_a_checkpoint_of_peft_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write_peft(attach(build("llama", "CausalLM"), load("lora", r=3)), tmp_path / "lora"))
    code, out, err = told(capsys, folder)
    assert (code, err) == (0, "")
    assert "a checkpoint of peft: LORA" in out
    assert "  r: 3" in out
    assert json.loads(told(capsys, folder, "--json")[1])["library"] == "peft"


def test_a_damaged_one_is_told_and_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = attach(build("llama"), load("lora", r=2)).save(tmp_path / "lora")
    path = folder / "module.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = told(capsys, str(folder))
    assert (code, out) == (2, "")
    assert "saved-damaged" in err


def test_no_torch_is_needed(tmp_path: Path) -> None:
    saved = attach(build("llama"), load("lora", r=2)).save(tmp_path / "ours")
    theirs = write_peft(attach(build("llama"), load("lora", r=2)), tmp_path / "theirs")
    code = f"""import sys
for name in ("torch", "transformers", "safetensors", "numpy"):
    sys.modules[name] = None
from peftref.cli import main
for folder in ({str(saved)!r}, {str(theirs)!r}):
    try:
        main(["inspect", folder])
    except SystemExit as left:
        assert not left.code
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "LoRA (lora)" in done.stdout
