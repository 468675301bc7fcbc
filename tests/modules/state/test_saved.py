"""What is saved comes back with the same numbers; what was changed, cut off or belongs elsewhere is refused, and the host untouched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import AutoModel, PreTrainedModel

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.restore import restore
from peftref.modules.state.contents import read_contents
from peftref.modules.state.saved import read_saved
from tests.hosts.families import build, inputs
from tests.modules.test_attach import MODULES, SMALL

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


SEEDED = {
    "vera": {"r": 4},
    "randlora": {"r": 4},
    "nola": {"r": 2},
    "fourierft": {"k": 5},
    "shira": {"r": 1},
    "lora_fa": {"r": 2},
}


@pytest.mark.parametrize("name", SEEDED)
def test_frozen_random_leaves_are_made_again_from_the_seed(name: str, tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load(name, **SEEDED[name]), seed=7)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    expected = model(**inputs(model))[0]
    frozen = {copy.name for copy in attached.module.copies if not copy.leaf.trainable}
    attached.save(tmp_path / "short")
    attached.save(tmp_path / "whole", everything=True)
    attached.detach()
    short, whole = (read_saved(tmp_path / folder) for folder in ("short", "whole"))
    assert set(short.record.made) == frozen
    assert not whole.record.made
    assert {f"leaves.{each}" for each in frozen} == set(whole.tensors) - set(short.tensors)
    for folder in ("short", "whole"):
        for again in (model, build("llama").to(torch.bfloat16)):
            back = restore(again, tmp_path / folder)
            if again is model:
                assert torch.equal(model(**inputs(model))[0], expected)
            for name_, value in whole.tensors.items():
                assert torch.equal(back.module.leaf(name_.removeprefix("leaves.")), value)
            back.save(tmp_path / "again")
            assert read_saved(tmp_path / "again").record.made == (short.record.made)
            back.detach()


def test_what_is_no_longer_what_the_seed_gives_is_stored(tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load("vera", r=4))
    with torch.no_grad():
        attached.module.leaf("A").mul_(2)
    expected = model(**inputs(model))[0]
    saved = read_saved(attached.save(tmp_path / "saved"))
    assert set(saved.record.made) == {"B"}
    attached.detach()
    restore(model, tmp_path / "saved")
    assert torch.equal(model(**inputs(model))[0], expected)


@pytest.mark.parametrize("change", [{"seed": 1}, {"made": {"A": "0" * 64, "B": "0" * 64}}])
def test_a_torch_that_draws_other_numbers_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    model = build("llama")
    trained(model, "vera", tmp_path / "saved")
    edited(tmp_path / "saved" / "module.json", **change)
    keys = list(model.state_dict())
    with pytest.raises(PeftrefError, match="saved-seed"):
        restore(model, tmp_path / "saved")
    assert list(model.state_dict()) == keys


def test_a_shared_leaf_is_stored_once(tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load("compacter", bottleneck=8))
    saved = read_saved(attached.save(tmp_path / "saved"))
    assert sum(name.endswith(".S") or name == "leaves.S" for name in saved.tensors) == 1
    assert sum(value.numel() for value in saved.tensors.values()) == sum(each.numel() for each in attached.parameters())


def test_a_host_on_meta_takes_the_tensors_as_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = build("t5")
    expected = trained(full, "houlsby", tmp_path / "saved")
    read: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(
        "peftref.modules.state.saved.load_tensors", lambda data: read.update(safetensors.torch.load(data)) or read
    )
    with torch.device("meta"):
        empty = build("t5")
    attached = restore(empty, tmp_path / "saved")
    for copy in attached.module.copies:
        assert attached.module.leaf(copy.name).data_ptr() == read[f"leaves.{copy.name}"].data_ptr()
    empty.load_state_dict(full.state_dict(), strict=False, assign=True)
    empty.tie_weights()
    assert torch.equal(empty(**inputs(empty))[0], expected)
    attached.save(tmp_path / "again")
    restore(full, tmp_path / "again")
    assert torch.equal(full(**inputs(full))[0], expected)
    with torch.device("meta"):
        deeper = build("t5", num_layers=3)
    with pytest.raises(PeftrefError, match="host-differs"):
        restore(deeper, tmp_path / "saved")


def test_a_host_in_several_files_is_the_same_host(tmp_path: Path) -> None:
    model = build("llama")
    expected = trained(model, "lora", tmp_path / "saved")
    model.save_pretrained(tmp_path / "host", max_shard_size="20KB")
    assert len(list((tmp_path / "host").glob("model-*.safetensors"))) > 2
    again = AutoModel.from_pretrained(tmp_path / "host").eval()
    restore(again, tmp_path / "saved")
    assert torch.equal(again(**inputs(again))[0], expected)


def test_another_technique_under_the_same_name_is_refused(tmp_path: Path) -> None:
    model = build("llama")
    trained(model, "lora", tmp_path / "mine")
    trained(model, "ia3", tmp_path / "other")
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    theirs = (tmp_path / "other" / "technique.yaml").read_text().replace("name: ia3", "name: lora")
    (tmp_path / "mine" / "technique.yaml").write_text(theirs)
    with pytest.raises(PeftrefError, match="saved-damaged"):
        restore(model, tmp_path / "mine")
    digest = hashlib.sha256(theirs.encode()).hexdigest()
    edited(tmp_path / "mine" / "module.json", technique_digest=digest)
    with pytest.raises(PeftrefError, match="saved-damaged") as refused:
        restore(model, tmp_path / "mine")
    assert len(refused.value.problems) > 3
    restore(model, tmp_path / "other").detach()
    attached = attach(model, load("houlsby", bottleneck=4))
    with pytest.raises(PeftrefError, match="name-taken"):
        restore(model, tmp_path / "other")
    attached.detach()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("file", ["module.safetensors", "technique.yaml"])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_no_byte_can_change(damage: str, file: str, share: float, tmp_path: Path) -> None:
    model = build("llama")
    trained(model, "lora", tmp_path / "saved")
    path = tmp_path / "saved" / file
    content = bytearray(path.read_bytes())
    at = int(share * len(content))
    content[at] ^= 1 << (at % 8)
    path.write_bytes(bytes(content if damage == "flip" else content[:at]))
    for read in (read_saved, read_contents, lambda folder: restore(model, folder)):
        with pytest.raises(PeftrefError, match="saved-damaged"):
            read(tmp_path / "saved")
    assert "peftref" not in model._modules


def test_a_folder_of_the_first_format_is_read(tmp_path: Path) -> None:
    model = build("llama")
    expected = trained(model, "houlsby", tmp_path / "saved")
    path = tmp_path / "saved" / "module.json"
    record = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {key: value for key, value in record.items() if key not in ("seed", "made", "training")} | {"format": 1}
        )
    )
    restore(model, tmp_path / "saved")
    assert torch.equal(model(**inputs(model))[0], expected)


def test_notes_about_training_are_kept(tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load("lora", r=2))
    attached.note(steps=10, lr=1e-3)
    attached.note(steps=20, data="sst2", shuffled=True)
    attached.save(tmp_path / "saved")
    attached.detach()
    again = restore(model, tmp_path / "saved")
    assert again.notes == {"steps": 20, "lr": 1e-3, "data": "sst2", "shuffled": True}
    for wrong in ({"a b": 1}, {"x": None}, {"x": "y" * 1001}, {"x": float("inf")}, {f"x{i}": i for i in range(65)}):
        with pytest.raises(PeftrefError, match="training-fact"):
            again.note(**wrong)
    assert again.notes["steps"] == 20
    edited(tmp_path / "saved" / "module.json", training={"a b": 1})
    with pytest.raises(PeftrefError, match="saved-damaged"):
        read_saved(tmp_path / "saved")


def test_the_loop_notes_how_it_trains() -> None:
    from peftref.study.train.data import Encoded
    from peftref.study.train.loop import Recipe, train

    model = build("bert", "SequenceClassification", num_labels=2)
    attached = attach(model, load("lora", r=2))
    data = Encoded.__new__(Encoded)
    with pytest.raises(AttributeError):
        train(model, attached.parameters(), data, data, Recipe(steps=3, lr=0.1, batch_size=4), 5, procedures=attached)
    assert attached.notes == {"steps": 3, "lr": 0.1, "batch_size": 4, "seed": 5}
