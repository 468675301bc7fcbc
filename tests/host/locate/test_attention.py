"""Attentions of a layer that run in another order than usual, or share what they are made of."""

from __future__ import annotations

import transformers as tf

from peftref.host.locate.resolve import resolve


def test_a_norm_belongs_to_the_attention_that_runs_first() -> None:
    """LXMERT attends to the other sequence first, and norms follow the sums: each sublayer has the one behind it."""
    host = resolve(tf.LxmertConfig(l_layers=1, x_layers=2, r_layers=1), model_class=tf.LxmertModel)
    layer = "encoder.x_layers.0"
    norms = {site.slot: site.path for site in host.sites if site.path.startswith(layer) and site.kind == "norm"}
    assert norms == {
        "cross_attention.norm": f"{layer}.visual_attention.output.LayerNorm",
        "attention.norm": f"{layer}.lang_self_att.output.LayerNorm",
        "ffn.norm": f"{layer}.lang_output.LayerNorm",
    }


def test_a_projection_that_makes_keys_too_is_no_query() -> None:
    """Zaya adds the mean of queries and keys to both."""
    host = resolve(tf.ZayaConfig(num_hidden_layers=2))
    assert host.lacks["attention.query"].endswith("q_proj makes more than one of query, key and value")
    assert "attention.key" in host.lacks
    assert "attention.value" not in host.lacks
