"""What is written and copied: `save_pretrained` of the host, safetensors only, deep copies, hosts loaded by a device map."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from peftref.modules.restore import restore
from tests.integrations.common import Way, bare, batches, host, pairs, reference, stand, values

torch.set_num_threads(1)


def written(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def untouched(technique: str, family: str, folder: Path) -> None:
    """`save_pretrained` of a host with something on it, trained, writes the files that the host alone writes."""
    model = host(family)
    model(**next(batches(family)))  # some hosts write into their config what the labels are
    model.save_pretrained(folder / "alone")
    attached = stand(model, technique)
    bare(model, attached, batches(family))
    model.save_pretrained(folder / "with")
    attached.disable()
    model.save_pretrained(folder / "disabled")
    attached.detach()
    model.save_pretrained(folder / "after")
    expected = written(folder / "alone")
    for name in ("with", "disabled", "after"):
        assert written(folder / name) == expected, name


def unpickled(technique: str, family: str, folder: Path) -> None:
    """A module is saved and restored without a pickle, and is the same then."""
    model = host(family)
    attached = stand(model, technique)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was pickled")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
            patch.setattr(pickle, name, refuse)
        patch.setattr(torch, "save", refuse)
        patch.setattr(torch, "load", refuse)
        place = attached.save(folder / "saved")
        again = restore(host(family), place)
    assert {path.name for path in place.iterdir()} == {"module.json", "module.safetensors", "technique.yaml"}
    assert load_file(place / "module.safetensors").keys() == {f"leaves.{name}" for name in values(attached)}
    for name, value in values(attached).items():
        assert torch.equal(values(again)[name], value)


def copied(technique: str, family: str, folder: Path) -> None:
    """A deep copy trains as the original does, which stays as it is."""
    model = host(family)
    attached = stand(model, technique)
    other = copy.deepcopy(model)
    before = values(attached)
    twin = type(attached)(other, attached.name)
    reference(technique, family).near(bare(other, twin, batches(family)), rtol=0, atol=0)
    for name, value in values(attached).items():
        assert torch.equal(value, before[name])
    reference(technique, family).near(bare(model, attached, batches(family)), rtol=0, atol=0)


def mapped(technique: str, family: str, folder: Path) -> None:
    """A host that `from_pretrained(device_map=...)` loaded trains as any other."""
    host(family).save_pretrained(folder / "host")
    for device_map in ("cpu", {"": "cpu"}):
        loaded = getattr(tf, type(host(family)).__name__).from_pretrained(folder / "host", device_map=device_map)
        reference(technique, family).near(bare(loaded, stand(loaded, technique), batches(family)), rtol=1e-5, atol=1e-6)


WAYS: dict[str, Way] = {
    "save_pretrained of the host": untouched, "saved without a pickle": unpickled, "deepcopy": copied, "device_map": mapped,
}  # fmt: skip


@pytest.mark.parametrize(
    ("way", "technique", "family"), [(way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i + 4)]
)
def test_files(way: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[way](technique, family, tmp_path)


def test_new_parameters_in_the_tree_are_followed() -> None:
    """`load_state_dict(assign=True)` puts other parameters there: these train, also where sites share a product."""
    model = host("gpt2")
    attached = stand(model, "lora")
    old = list(attached.parameters())
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    assert not {id(each) for each in old} & {id(each) for each in attached.parameters()}
    reference("lora", "gpt2").near(bare(model, attached, batches("gpt2")), rtol=1e-6, atol=1e-7)
