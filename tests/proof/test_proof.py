"""The public proof by behaviour holds on a broad set of families, and refutes what is wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import transformers as tf

from peftref.host.host import Host
from peftref.host.locate import read_model
from peftref.host.locate.attention import OWN
from peftref.host.locate.resolve import resolve
from peftref.host.observe.shrink import shrunken
from peftref.host.site import Rows, Site
from peftref.proof.instance import Instance, instance_of
from peftref.proof.prove import proofs_of, prove
from peftref.proof.record import Verdict
from tests.hosts.shaken import build, inputs

BY_INTERFACE = (
    "albert",
    "axk1",
    "bart",
    "bert",
    "beit",
    "clip_text_model",
    "deit",
    "distilbert",
    "electra",
    "gemma",
    "gpt2",
    "gpt_neox",
    "gptj",
    "llama",
    "marian",
    "mistral",
    "modernbert",
    "olmo2",
    "opt",
    "pegasus",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "roberta",
    "stablelm",
    "t5",
    "vit",
    "xglm",
)
BY_WALK = ("biogpt", "codegen", "convbert", "deberta", "gpt_neo", "levit")
BY_MAP = ("bloom", "deberta-v2", "falcon", "mpnet", "xlnet")


@pytest.mark.parametrize("family", [*BY_INTERFACE, *BY_WALK, *BY_MAP])
def test_every_slot_of_a_family_is_proved(family: str) -> None:
    proofs = prove(shrunken(tf.CONFIG_MAPPING[family]()))
    assert [proof for proof in proofs if proof.verdict == "refuted"] == []
    assert {"attention.query", "attention.key", "attention.value", "attention.output", "layer"} <= {
        proof.slot for proof in proofs if proof.verdict == "proved"
    }


def test_parameters_that_are_projections_are_found_without_a_map_where_the_map_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XLNet's projections are parameters of the attention module itself, of three axes, the last in two streams."""
    config = tf.XLNetConfig(n_layer=2)
    mapped = resolve(config)
    monkeypatch.setattr(read_model, "family_of", lambda model_type: None)
    read_model._KEPT.clear()
    walked = resolve(config)
    assert walked is not mapped
    assert (walked.sites, walked.stacks) == (mapped.sites, mapped.stacks)
    query, output = (walked.select([f"attention.{role}"])[0] for role in ("query", "output"))
    assert (query.path, query.form, query.lacks) == ("layer.0.rel_attn.q", "transposed", frozenset({"b"}))
    assert (output.path, output.form, output.sizes["d_in"]) == ("layer.0.rel_attn.o", "matrix", 1024)
    assert walked.lacks["attention.core"] == OWN


def verdicts(host: Host, instance: Instance) -> dict[str, Verdict]:
    """What the proof says of the first site of each slot, where the instance is said to have another host."""
    return {proof.slot: proof.verdict for proof in reversed(proofs_of(replace(instance, host=host)))}


@cache
def small(family: str) -> Instance:
    """A small instance of a family, every part of whose attention is proved."""
    config = tf.CONFIG_MAPPING[family]()
    instance = instance_of(config, tf.MODEL_MAPPING[type(config)])
    found = verdicts(instance.host, instance)
    assert {found[f"attention.{part}"] for part in ("query", "key", "value")} == {"proved"}
    return instance


def exchanged(host: Host, one: str, other: str) -> Host:
    """A host in which two slots stand where the other does."""

    def turned(site: Site) -> Site:
        names = {one: other, other: one}
        return replace(site, slot=names.get(site.slot, site.slot))

    return replace(host, sites=tuple(turned(site) for site in host.sites))


@pytest.fixture(scope="module")
def llama() -> Instance:
    """A small llama with as many key heads as query heads, so that a wrong slot has the right sizes."""
    config = tf.LlamaConfig(hidden_size=256, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2)
    return instance_of(config, tf.LlamaModel)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attention.query", "attention.key"),
        ("attention.key", "attention.value"),
        ("attention.query", "attention.value"),
        ("attention.output", "attention.query"),
        ("attention.norm", "ffn.norm"),
        ("ffn.down", "ffn.up"),
        ("ffn.down", "attention.output"),
        ("attention", "ffn"),
    ],
)
def test_slots_that_are_taken_for_each_other_are_refuted(llama: Instance, one: str, other: str) -> None:
    wrong = exchanged(llama.host, one, other)
    found = verdicts(wrong, llama)
    assert "refuted" in {found[one], found[other]}


@pytest.mark.parametrize("family", ["bloom", "mpnet", "gpt_neo", "levit"])
@pytest.mark.parametrize("pair", [("query", "key"), ("key", "value"), ("query", "value")])
def test_they_are_refuted_where_attention_cannot_be_looked_into(family: str, pair: tuple[str, str]) -> None:
    instance = small(family)
    one, other = (f"attention.{part}" for part in pair)
    found = verdicts(exchanged(instance.host, one, other), instance)
    assert "refuted" in {found[one], found[other]}


def test_rows_of_a_fused_projection_that_are_another_slots_are_refuted() -> None:
    config = tf.GPT2Config(n_embd=64, n_head=4, n_layer=2)
    instance = instance_of(config, tf.GPT2Model)

    def moved(site: Site) -> Site:
        if site.slot != "attention.query":
            return site
        width = site.ports["h"].rows
        assert width is not None
        rows = Rows(width.shape, width.axis, width.start + width.size, width.stop + width.size)
        return replace(site, ports={**site.ports, "h": replace(site.ports["h"], rows=rows)})

    wrong = replace(instance.host, sites=tuple(moved(site) for site in instance.host.sites))
    assert verdicts(wrong, instance)["attention.query"] == "refuted"


def test_a_model_that_is_given_is_not_touched() -> None:
    model = build("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert {proof.verdict for proof in prove(model)} == {"proved"}
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    model(**inputs(model))
