"""Hosts loaded in 8 and 4 bits: they train as their plain numbers do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from tests.hosts.quantised import WAYS as LIBRARIES
from tests.hosts.quantised import few_bits
from tests.integrations.common import Way, bare, batches, host, pairs, stand, values

torch.set_num_threads(1)


def few(way: str, family: str, folder: Path) -> Any:
    """A tiny host loaded in few bits as users load one."""
    library, _, bits = way.partition(" ")
    pytest.importorskip(library)
    model = host(family)
    model.save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(tf, type(model).__name__).from_pretrained(
            folder, quantization_config=few_bits(library, bits), dtype=torch.float32, device_map="cpu"
        )


def way(name: str) -> Way:
    """Training on a host in few bits, whose weights stay the bits that they are."""

    def trains(technique: str, family: str, folder: Path) -> None:
        """On a host loaded in few bits, what is attached learns near what it learns on the plain host."""
        model = few(name, family, folder)
        attached = stand(model, technique)
        first = values(attached)
        trained = bare(model, attached, batches(family))
        full = host(family)
        near = bare(full, stand(full, technique), batches(family))
        assert trained.losses == pytest.approx(near.losses, rel=0.1, abs=0.1)
        assert any(not torch.equal(first[each], value) for each, value in trained.values.items())
        assert all(torch.isfinite(value).all() for value in trained.values.values())

    return trains


WAYS: dict[str, Way] = {name: way(name) for name in LIBRARIES}


@pytest.mark.parametrize(
    ("name", "technique", "family"), [(name, *pair) for i, name in enumerate(WAYS) for pair in pairs(i)]
)
def test_it_trains(name: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[name](technique, family, tmp_path)


def test_the_trainer_says_that_it_takes_no_host_in_few_bits(tmp_path: Path) -> None:
    """transformers knows peft's wrapper only, and refuses any other host in few bits before it trains."""
    model = few("torchao int8", "llama", tmp_path / "host")
    stand(model, "lora")
    with pytest.raises(ValueError, match="purely quantized"):
        tf.Trainer(model, tf.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
