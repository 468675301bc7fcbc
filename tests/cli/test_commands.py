"""Commands as a user types them: what they print, and with which code they end."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertConfig

from peftref.cli import main
from peftref.proof.record import Proof
from tests.golden.faulty import SOUND

FRONT = (
    ["--help"],
    ["list"],
    ["show", "lora"],
    ["show", "compacter", "--code"],
    ["typology"],
    ["diff", "lora", "ia3"],
    ["count", "lora", "--host", "llama-3.1-8b"],
    ["explain", "lora", "--host", "bert-base"],
    ["slots", "--host", "gpt2"],
    ["draw", "lora"],
    ["atlas", "lora", "ia3", "--out", "atlas"],
)


@pytest.fixture(autouse=True)
def _own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PEFTREF_CATALOG", "")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_commands_that_need_no_torch_import_none() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'numpy', 'peft', 'datasets')))"
    calls = "\n".join(f"call({arguments!r})" for arguments in FRONT)
    code = f"""{blocked}
from peftref.cli import main
def call(arguments):
    try:
        main(arguments)
    except SystemExit as left:
        assert not left.code, arguments
{calls}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("arguments", FRONT, ids=lambda each: " ".join(each))
def test_commands_end_well(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["count", "lore", "--host", "bert-base"], "unknown-technique"),
        (["count", "lora", "--host", "bert-bass"], "host-unknown"),
        (["count", "lora", "--host", "bert-base", "--set", "rank=3"], "unknown-setting"),
        (["count", "lora:r=0", "--host", "bert-base"], "setting-size"),
        (["show", "nothing.yaml"], "unreadable"),
        (["check", "nothing.yaml"], "unreadable"),
        (["register", "nothing.yaml"], "unreadable"),
        (["new", "lora"], "technique-exists"),
        (["report", "nowhere"], "no-study"),
        (["compare", "lora", "--host", "nowhere", "--task", "sst3"], "unknown-task"),
        (["compare", "lora", "--lrs", "fast"], "bad-rate"),
        (["slots"], "Missing option"),
        (["inspect", "nowhere"], "saved-missing"),
        (["atlas", "lore", "--out", "atlas"], "unknown-technique"),
        (["atlas", "lora", "lora:r=4", "--out", "atlas"], "name-taken"),
        (["atlas", "lora", "--out", "."], "save-place"),
        (["draw", "lore"], "unknown-technique"),
        (["typology", "--format", "word"], "not one of"),
        (["nonsense"], "No such command"),
    ],
)
def test_mistakes_end_with_2_and_no_traceback(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_a_design_from_new_to_registered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "new", "mine", "--from", "lora")[0] == 0
    code, out, _ = run(capsys, "check", "mine.yaml")
    assert code == 0
    assert "nearest relatives" in out
    assert "lora: equal in all nine properties" in out
    assert run(capsys, "register", "mine.yaml")[0] == 0
    assert "mine" in run(capsys, "list")[1]
    assert run(capsys, "register", "mine.yaml")[0] == 2
    assert run(capsys, "register", "mine.yaml", "--force")[0] == 0
    assert json.loads(run(capsys, "count", "mine", "--host", "bert-base", "--json")[1])[0]["trained"] == 294_912
    assert (tmp_path / "config/peftref/catalog/techniques/mine.yaml").is_file()


def test_check_says_all_that_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = SOUND.replace("attention.query", "attention.qurey").replace("A @ x", "A @ y")
    (tmp_path / "bad.yaml").write_text(text)
    code, _, err = run(capsys, "check", "bad.yaml")
    assert code == 2
    assert "bad.yaml:5:10" in err
    assert "unknown-slot" in err
    assert "unknown-name" in err


def test_an_atlas_of_ones_own_catalog_is_written_whole_or_not_at_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/sample.yaml").write_text(SOUND)
    code, out, err = run(capsys, "--catalog", "more", "atlas", "--out", "atlas")
    assert (code, err) == (0, "")
    assert "atlas/index.html" in out
    assert (tmp_path / "atlas/techniques/sample.html").is_file()
    before = (tmp_path / "atlas/index.html").read_bytes()
    (tmp_path / "more/sample.yaml").write_text(SOUND.replace("attention.query", "attention.qurey"))
    code, out, err = run(capsys, "atlas", "--out", "atlas")
    assert code == 2
    assert "unknown-slot" in err
    assert (tmp_path / "atlas/index.html").read_bytes() == before


def test_a_drawing_goes_to_a_file_or_to_the_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "sample.yaml").write_text(SOUND)
    code, out, _ = run(capsys, "draw", "sample.yaml")
    assert code == 0
    assert run(capsys, "draw", "sample.yaml", "--out", "sample.svg")[1] == "drawn: sample.svg\n"
    assert (tmp_path / "sample.svg").read_text() == out
    assert run(capsys, "draw", "lora", "--out", "sample.svg")[0] == 0
    assert (tmp_path / "sample.svg").read_text() != out
    assert run(capsys, "draw", "lora", "--out", "sample.yaml")[0] == 2
    assert (tmp_path / "sample.yaml").read_text() == SOUND


def test_a_further_catalog(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "more/techniques").mkdir(parents=True)
    (tmp_path / "more/techniques/sample.yaml").write_text(SOUND)
    assert "Sample" not in run(capsys, "list")[1]
    assert "Sample" in run(capsys, "--catalog", str(tmp_path / "more"), "list")[1]


@pytest.mark.parametrize("form", ["md", "latex", "csv", "json", "html"])
def test_the_typology_in_every_form(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "typology", "lora", "ia3", "--format", form)
    assert code == 0
    assert "rescaling" in out
    if form == "json":
        assert [row["technique"] for row in json.loads(out)] == ["LoRA", "(IA)³"]
    if form == "csv":
        assert len(list(csv.reader(io.StringIO(out)))) == 3


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["list", "--json"],
        ["diff", "lora", "ia3", "--json"],
        ["slots", "--host", "t5-base", "--json"],
        ["explain", "compacter", "--host", "bert-base", "--json"],
        ["count", "full", "lora", "--host", "bert-base", "--json"],
    ):
        assert json.loads(run(capsys, *arguments)[1])


def test_slots_are_proved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    config.save_pretrained(tmp_path)
    code, out, _ = run(capsys, "slots", "--host", str(tmp_path), "--prove")
    assert code == 0
    assert "attention.query" in out
    assert "refuted" not in out
    code, out, _ = run(capsys, "slots", "--host", str(tmp_path), "--prove", "--json")
    found = json.loads(out)
    assert code == 0
    assert {each["verdict"] for each in found} == {"proved"}
    assert {each["layer"] for each in found if each["slot"] == "attention.core"} == {0, 1}


def test_a_refuted_slot_is_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    proof = Proof("ffn.up", "encoder", 0, "fc1", "refuted", "a change of it changes nothing")
    monkeypatch.setattr("peftref.proof.prove.prove", lambda host: (proof,))
    code, out, _ = run(capsys, "slots", "--host", "bert-base", "--prove")
    assert code == 2
    assert "a change of it changes nothing" in out


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "peftref", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("peftref ")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m peftref typology --format json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
