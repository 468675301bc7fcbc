"""Modules on embeddings go to peft's checkpoints and come back: tables, and convolutions in one and two axes."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from tests.hosts.embedded import embedded
from tests.parity.test_slots import with_strides

KINDS = ("a table", "a table beside others", "patches of an image", "every other frame")


def output(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**batch)[0]
    return found


@pytest.mark.parametrize("name", ["lora", "dora"])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, name: str, tmp_path: Path) -> None:
    slot, model, batch = embedded(kind, torch.float)
    base = copy.deepcopy(model)
    attached = attach(model, load(name, r=2).moved(slot))
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = write_peft(attached, tmp_path / "there")
        theirs = PeftModel.from_pretrained(copy.deepcopy(base), str(place)).eval()
    with_strides(theirs)
    torch.testing.assert_close(output(theirs, batch), output(model, batch), rtol=1e-4, atol=1e-5)
    found = read_peft(place, base)
    assert found.technique.name == name
    torch.testing.assert_close(output(base, batch), output(model, batch), rtol=1e-5, atol=1e-6)


def saved_by_peft(model: Any, folder: Path) -> Path:
    """A checkpoint that has the embedding matrix with it, as peft saves one that stands there."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["embed_tokens"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(copy.deepcopy(model), config).save_pretrained(folder)
    return folder


def test_the_matrix_that_peft_saves_beside_is_the_hosts(tmp_path: Path) -> None:
    _, model, batch = embedded("a table", torch.float)
    place = saved_by_peft(model, tmp_path / "there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(copy.deepcopy(model), str(place)).eval()
    read_peft(place, model)
    torch.testing.assert_close(output(theirs, batch), output(model, batch), rtol=1e-5, atol=1e-6)


def test_another_matrix_is_told(tmp_path: Path) -> None:
    _, model, _ = embedded("a table", torch.float)
    place = saved_by_peft(model, tmp_path / "there")
    with torch.no_grad():
        model.embed_tokens.weight[7] += 1
    with pytest.raises(PeftrefError, match="embed_tokens"):
        read_peft(place, model)
    assert "peftref" not in model._modules
