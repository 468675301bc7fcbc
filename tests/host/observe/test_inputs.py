"""Inputs are made from names of arguments and fields of configs: models of every modality run on them, with and without numbers."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from peftref.host.locate.resolve import resolve
from peftref.host.observe.build import build, class_of, inputs_that_run, shake
from peftref.host.observe.inputs import inputs_of
from peftref.host.observe.shrink import Scale, shrunken
from peftref.proof.instance import instance_of

SMALL = Scale(image=1)


@pytest.mark.parametrize(
    "name",
    [
        "blip_2_qformer",
        "decision_transformer",
        "dia",
        "dia_decoder",
        "gemma4_vision",
        "granite_speech_encoder",
        "granite_speech5_encoder",
        "kosmos-2",
        "lightglue",
        "lxmert",
        "minicpmv4_6_vision",
        "moshi_depth",
        "muse_glimmer_vision",
        "pix2struct_vision_model",
    ],
)
def test_a_model_runs_on_what_its_arguments_are_called(name: str) -> None:
    config = shrunken(tf.CONFIG_MAPPING[name](), SMALL)
    live = build(class_of(config), config, device="cpu")
    shake(live)
    with torch.no_grad():
        live(**inputs_that_run(live))
    assert {"attention.core", "attention.query"} & set(resolve(config).slots())


def test_what_runs_in_the_usual_form_is_tried_first() -> None:
    model = build(
        tf.LlamaModel, tf.LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    )
    names = [set(inputs) for inputs in inputs_of(model)]
    assert names[0] == {"input_ids"}
    assert names[1] == {"input_ids", "attention_mask"}


def test_what_leaves_least_out_is_taken_though_less_runs_in_a_usual_form() -> None:
    """Kimi's tower takes patches as squares, and its text runs without them."""
    config = shrunken(tf.CONFIG_MAPPING["kimi_k25"](), Scale(heads=True, image=1))
    live = build(class_of(config), config, device="cpu")
    assert {"input_ids", "pixel_values"} <= inputs_that_run(live).keys()


def test_no_inputs_are_tried_twice() -> None:
    for name in ("gemma4_vision", "lxmert"):
        config = shrunken(tf.CONFIG_MAPPING[name](), SMALL)
        shapes = [
            tuple(sorted((key, tuple(each.shape)) for key, each in inputs.items()))
            for inputs in inputs_of(build(class_of(config), config))
        ]
        assert len(set(shapes)) == len(shapes) > 1


@pytest.mark.parametrize("name", ["gemma4_text", "csm", "embedding_gemma2"])
def test_configs_with_fields_of_each_layer_of_groups_and_of_large_tables_become_small(name: str) -> None:
    config = tf.CONFIG_MAPPING[name]()
    instance = instance_of(config, class_of(config))
    assert instance.host.select(["attention"])
