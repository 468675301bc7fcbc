"""What cannot be followed is said: an input with which a host does not run is no silent gap."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as tf
from rich.console import Console

from peftref.core.problem import PeftrefError
from peftref.host.host import Host
from peftref.host.locate.read_model import resolve_config
from peftref.report.slots import slots_view
from tests.tiny import TEXT, WIDE

VISION: dict[str, Any] = {**WIDE, "image_size": 16, "patch_size": 8, "projection_dim": 32}


def llava(*, layer: int) -> Host:
    """A host of two towers that reads one of the three states of the first; one that is not there stops it."""
    text = tf.LlamaConfig(**TEXT | {"vocab_size": 512}, **WIDE)
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**VISION), text_config=text, vision_feature_layer=layer, image_token_index=500
    )
    return resolve_config(config, tf.LlavaForConditionalGeneration)


def test_two_towers_that_run_leave_nothing_out() -> None:
    host = llava(layer=-2)
    assert [stack.name for stack in host.stacks] == ["vision", "text"]
    assert not host.left_out


def test_a_tower_that_does_not_run_is_named_with_the_reason() -> None:
    host = llava(layer=-9)
    assert [stack.name for stack in host.stacks] == ["decoder"]
    assert set(host.left_out) == {"pixel_values"}
    assert "index out of range" in host.left_out["pixel_values"]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(slots_view(host))
    assert "pixel_values: IndexError" in shown.get()
    with pytest.raises(PeftrefError) as caught:
        host.select(["embedding.patches"])
    assert any(note.startswith("not followed: pixel_values") for note in caught.value.problems[0].notes)
