"""What is saved comes back with the same numbers; what was changed, cut off or belongs elsewhere is refused, and the host untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from peftref.compile.attach import attach
from peftref.compile.restore import restore
from peftref.design.load import load
from peftref.problem import PeftrefError
from tests.compile.hosts import build, inputs
from tests.compile.test_attach import MODULES, SMALL

torch.set_num_threads(1)


def trained(model: PreTrainedModel, name: str, folder: Path) -> torch.Tensor:
    attached = attach(model, load(name, **SMALL.get(name, {})), seed=3)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        result: torch.Tensor = model(**inputs(model))[0]
    attached.save(folder)
    attached.detach()
    return result


@pytest.mark.parametrize("name", [*MODULES, "full"])
def test_a_saved_module_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    model = build("t5" if name == "prefix" else "llama")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = trained(model, name, tmp_path / "saved")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    attached = restore(model, tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(model(**inputs(model))[0], expected)
    attached.detach()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {path.name for path in tmp_path.iterdir()} == {"saved"}


def test_a_task_head_that_learns_is_saved_with_the_module_and_taken_back(tmp_path: Path) -> None:
    model = build("bert", "SequenceClassification", num_labels=3)
    attached = attach(model, load("lora", r=2))
    for parameter in model.classifier.parameters():
        parameter.requires_grad_(True)
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    expected = model(**inputs(model))[0]
    attached.save(tmp_path / "saved")
    other = build("bert", "SequenceClassification", num_labels=3)
    again = restore(other, tmp_path / "saved")
    assert torch.equal(other(**inputs(other))[0], expected)
    again.detach()
    assert torch.equal(other.classifier.weight, build("bert", "SequenceClassification", num_labels=3).classifier.weight)
    backbone = build("bert")
    restore(backbone, tmp_path / "saved").detach()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("saved-damaged", lambda folder: flipped(folder / "module.safetensors")),
        ("saved-damaged", lambda folder: flipped(folder / "technique.yaml")),
        ("saved-damaged", lambda folder: (folder / "module.safetensors").write_bytes(b"")),
        ("saved-damaged", lambda folder: (folder / "module.json").write_text("{")),
        ("saved-damaged", lambda folder: edited(folder / "module.json", more=1)),
        ("saved-version", lambda folder: edited(folder / "module.json", format=99)),
        ("saved-missing", lambda folder: (folder / "technique.yaml").unlink()),
    ],
)
def test_a_damaged_module_is_refused_and_the_host_untouched(code: str, damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = build("llama")
    trained(model, "lora", tmp_path / "saved")
    damage(tmp_path / "saved")
    keys = list(model.state_dict())
    with pytest.raises(PeftrefError, match=code):
        restore(model, tmp_path / "saved")
    assert list(model.state_dict()) == keys
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_another_host_is_refused(tmp_path: Path) -> None:
    trained(build("llama"), "lora", tmp_path / "saved")
    wider, other = build("llama", intermediate_size=64), build("llama")
    with torch.no_grad():
        other.layers[0].mlp.up_proj.weight.add_(0.5)
    for host in (build("bert"), wider, other):
        keys = list(host.state_dict())
        with pytest.raises(PeftrefError, match="host-differs"):
            restore(host, tmp_path / "saved")
        assert list(host.state_dict()) == keys
    restore(other, tmp_path / "saved", other_weights=True)
    half = build("llama").to(torch.bfloat16)
    restore(half, tmp_path / "saved")


def test_a_folder_with_other_things_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    attached = attach(build("llama"), load("lora", r=2))
    with pytest.raises(PeftrefError, match="save-place"):
        attached.save(tmp_path)
    (tmp_path / "saved").mkdir()
    attached.save(tmp_path / "saved")
    attached.save(tmp_path / "saved")
    assert (tmp_path / "notes.txt").read_text() == "mine"
