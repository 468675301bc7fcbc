"""Leaves that lie in tensors of others: what is put in is taken out, and each number lies where the layout says."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from peftref.exchange.layout import Layout, Place, numbered, packed, wanted

SIZES = st.integers(1, 4)


@given(SIZES, SIZES, SIZES, SIZES, SIZES)
def test_all_that_is_packed_is_found_again(layers: int, before: int, rows: int, heads: int, width: int) -> None:
    """Keys and values of all layers in one tensor, behind a few that are kept: every number in a place of its own."""
    sizes = (("kept", before), ("tokens", rows))
    found, leaves = {}, {}
    for layer in range(layers):
        for number, leaf in enumerate("kv"):
            for name, text, many in (("F", "0+tokens", before), ("P", "kept+0", rows)):
                shape = (many, heads, width)
                layout = Layout.parse(f"{text} (layer {number}/2 1 2)")
                found[f"{layer}{name}{leaf}"] = (Place("w", layout, shape, sizes=sizes), layer)
                leaves[f"{layer}{name}{leaf}"] = torch.randn(shape)
    places = numbered(found)
    whole = packed(places, leaves)["w"]
    assert tuple(whole.shape) == wanted(places.values())["w"] == (before + rows, layers * 2 * heads * width)
    assert whole.numel() == sum(each.numel() for each in leaves.values())
    for name, place in places.items():
        torch.testing.assert_close(place.take(whole), leaves[name], rtol=0, atol=0)
    table = whole.view(before + rows, layers, 2, heads, width)
    for layer in range(layers):
        both = torch.cat([leaves[f"{layer}Fv"], leaves[f"{layer}Pv"]])
        torch.testing.assert_close(table[:, layer, 1], both, rtol=0, atol=0)


def test_alone_it_is_a_tensor_of_its_own() -> None:
    layout = Layout.parse("kept+0 (layer 0/2 1)").alone()
    assert layout.shape((3, 5), 2) == (3, 20)
    assert layout.take(torch.arange(60).view(3, 20), (3, 5), 1, 2)[0].tolist() == [10, 11, 12, 13, 14]
