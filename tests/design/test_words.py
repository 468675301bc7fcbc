"""The words of `at`: attention is self and cross attention, and each can be had alone; every slot of a site stays exact."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from peftref.analyse.count import count
from peftref.analyse.merge import merge_rules
from peftref.analyse.typology import typology
from peftref.core.problem import PeftrefError
from peftref.design.insertion import insertions
from peftref.design.load import load, read, techniques
from peftref.design.placement import placements
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE, WORDS, slots_of
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs

T5 = {"vocab_size": 32128, "d_model": 1024, "d_ff": 2816, "d_kv": 64, "num_layers": 24, "num_heads": 16}
WHISPER = {
    "d_model": 1280, "vocab_size": 51865, "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
    "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120,
}  # fmt: skip
PUBLISHED = [
    ("ia3", {}, lambda: tf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False), 282_624),
    ("lora", {"r": 8}, lambda: tf.MT5Config(**{**T5, "vocab_size": 250112}), 2_359_296),
    ("lora", {"r": 32}, lambda: tf.WhisperConfig(**WHISPER), 15_728_640),
]


def mine(at: str, equation: str, leaves: str = "{l: {shape: [d_out], init: ones}}") -> Technique:
    return read(
        f'{{name: mine, title: Mine, insert: [{{at: {at}, leaves: {leaves}, equation: "{equation}"}}]}}', "mine"
    )


def slots(technique: Technique, host: str) -> set[str]:
    return {f"{each.site.stack}.{each.site.slot}" for each in placements(technique, resolve(host))}


@pytest.mark.parametrize(("name", "settings", "config", "trained"), PUBLISHED)
def test_published_counts_on_encoder_decoders(
    name: str, settings: dict[str, int], config: object, trained: int
) -> None:
    assert count(load(name, **settings), config()).trained == trained  # type: ignore[operator]


def test_every_word_means_slots_of_one_kind_and_every_slot_has_a_word_for_itself_alone() -> None:
    for word, meant in WORDS.items():
        assert len({ARCHITECTURE.slot(slot).kind for slot in meant}) == 1
        assert slots_of(f"decoder.{word}") == meant
    alone = {meant[0] for meant in WORDS.values() if len(meant) == 1}
    assert alone == set(ARCHITECTURE.names())


@pytest.mark.parametrize("part", ["query", "key", "value", "output"])
def test_one_attention_or_both(part: str) -> None:
    both, own, cross = (
        slots(mine(f"{front}attention.{part}", "h' = l * h"), "t5-base") for front in ("", "self_", "cross_")
    )
    assert own == {f"encoder.attention.{part}", f"decoder.attention.{part}"}
    assert cross == {f"decoder.cross_attention.{part}"}
    assert both == own | cross
    assert slots(mine(f"decoder.attention.{part}", "h' = l * h"), "t5-base") == both - {f"encoder.attention.{part}"}
    assert slots(mine(f"decoder.self_attention.{part}", "h' = l * h"), "t5-base") == {f"decoder.attention.{part}"}
    assert slots(mine(f"attention.{part}", "h' = l * h"), "bert-base") == slots(
        mine(f"self_attention.{part}", "h' = l * h"), "bert-base"
    )
    with pytest.raises(PeftrefError, match="slot-absent"):
        slots(mine(f"cross_attention.{part}", "h' = l * h"), "bert-base")


def test_every_technique_at_attention_covers_cross_attention_unless_it_says_self_attention() -> None:
    for technique in techniques():
        for insertion in insertions(technique):
            for word in insertion.at:
                if word.startswith("attention"):
                    assert f"cross_{word}" in insertion.effects, technique.name
    alone = {t.name for t in techniques() for each in t.insert if any(word.startswith("self_") for word in each.at)}
    assert alone == {"houlsby", "houlsby_invertible", "compacter", "adaption_prompt", "cartridge"}


def test_what_is_the_same_at_both_is_told_once() -> None:
    rules = [rule.show() for rule in merge_rules(load("lora"))]
    assert rules == [f"W' = W + alpha / r * B @ A at attention.{part}" for part in ("query", "value")]
    assert typology(["houlsby"])[0]["workspace"] == "self attention, FFN"


def neighbour(at: str, of: str) -> dict[str, object]:
    """An insertion at attention itself that reads the weight of the queries."""
    leaves = {
        "A": {"shape": [2, "n_heads * d_head"], "init": "zeros"},
        "B": {"shape": ["n_heads", "d_head", 2], "init": "ones"},
    }
    return {
        "at": at,
        "leaves": leaves,
        "equation": f'q\' = q + einsum("n d r, r -> n d", B, A @ {of}.query.W @ x)',
    }


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_a_neighbour_is_the_neighbour_in_the_same_attention(family: str) -> None:
    """An equation at both attentions is the two equations that are written out for each."""
    model = build(family)
    both = [neighbour("attention.core", "attention")]
    apart = [neighbour(f"{front}_attention.core", f"{front}_attention") for front in ("self", "cross")]
    outputs = []
    for inserts in (both, apart, []):
        attached = attach(model, Technique(name="mine", title="Mine", insert=inserts)) if inserts else None
        with torch.no_grad():
            for each in attached.module.copies if attached else ():
                torch.manual_seed(sum(map(ord, each.name)))
                attached.module.leaf(each.name).normal_()
            outputs.append(model(**inputs(model))[0])
        if attached:
            attached.detach()
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_a_prefix_stands_in_every_attention_and_tokens_are_counted_after_that_of_their_own(family: str) -> None:
    model = build(family, "Seq2SeqLM")
    attached = attach(model, load("prefix", tokens=3))
    assert {each.site.slot for each in attached.module.placed} == {"attention.core", "cross_attention.core"}
    assert attached.module.counted == {"encoder": 3, "decoder": 3}
    ids = inputs(model)["input_ids"]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(ids, use_cache=True, **options), model.generate(ids, use_cache=False, **options))
    attached.detach()
    crossed = attach(model, load("prefix", tokens=3).moved("cross_attention.core"))
    assert crossed.module.counted == {"encoder": 0, "decoder": 0}
