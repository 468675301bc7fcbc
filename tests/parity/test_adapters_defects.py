"""Where adapters 1.3 is wrong: what it gave, as tests/parity/adapters/defects.py wrote it, beside the direct computation and ours."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from peftref.analyse.count import count
from peftref.compile.attach import attach
from peftref.compile.attached import Attached
from peftref.design.load import load
from peftref.exchange.adapters.read import read_adapters
from tests.parity.test_adapters import FIXTURES, batch, host


def given(name: str) -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "defects" / f"{name}.safetensors")


def drawn(attached: Attached) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.normal_(std=0.3)


def test_each_layer_has_its_own_norm() -> None:
    """Through its plug-in interface, adapters reads every sum by the norm of the last layer: its closures share one variable."""
    found = given("norms")
    torch.testing.assert_close(found["interface.alike"], found["own.alike"], rtol=0, atol=1e-12)
    assert (found["interface.apart"] - found["own.apart"]).abs().max() > 0.1
    model = host("bert")
    attached = attach(model, load("pfeiffer", bottleneck=4))
    drawn(attached)
    layers = model.bert.encoder.layer
    seen: dict[str, torch.Tensor] = {}
    first = layers[0].output
    first.dense.register_forward_hook(lambda module, args, out: seen.update(h=out))
    layers[0].intermediate.register_forward_pre_hook(lambda module, args: seen.update(res=args[0]))
    first.register_forward_hook(lambda module, args, out: seen.update(out=out))
    with torch.no_grad():
        model(**batch("bert"))
        leaf = {name: attached.module.leaf(f"encoder.0.ffn.{name}") for name in "DcUe"}
        by = {}
        for number, layer in enumerate(layers):
            read = layer.output.LayerNorm(seen["res"] + seen["h"])
            changed = seen["h"] + torch.relu(read @ leaf["D"].T + leaf["c"]) @ leaf["U"].T + leaf["e"]
            by[number] = first.LayerNorm(seen["res"] + changed)
    torch.testing.assert_close(seen["out"], by[0], rtol=1e-9, atol=1e-9)
    assert (by[1] - by[0]).abs().max() > 0.01


def shares(attention: torch.Tensor, tokens: int) -> torch.Tensor:
    """How attention is divided among the tokens, without what is in front of them."""
    own = attention[..., -tokens:]
    return own / own.sum(-1, keepdim=True)


def test_a_prefix_does_not_move_the_tokens_of_t5() -> None:
    """In adapters, queries of T5 count from the first token and keys from the prefix on, so that relative positions are off."""
    found = given("positions")
    assert (shares(found["prefixed"], 5) - found["plain"]).abs().max() > 0.1
    model = host("t5")
    with torch.no_grad():
        plain = model(**batch("t5"), output_attentions=True).encoder_attentions[0]
        attached = attach(model, load("prefix", tokens=3))
        for parameter in attached.parameters():
            parameter.zero_()
        prefixed = model(**batch("t5"), output_attentions=True).encoder_attentions[0]
    assert prefixed.shape[-1] == 8
    torch.testing.assert_close(shares(prefixed, 5), plain, rtol=1e-5, atol=1e-6)


def test_a_gate_does_not_see_padding() -> None:
    """In adapters (and in the published code) the mean of a gate goes over padding: a sample depends on the longest beside it."""
    found = given("padding")
    assert (found["alone"] - found["padded"]).abs().max() > 0.05
    model = host("bert").bert
    drawn(attach(model, load("gated_adapter", bottleneck=4)))
    ids = batch("bert")["input_ids"][:1]
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], 1)
    mask = (torch.arange(8) < 5).long()[None]
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        beside = model(input_ids=padded, attention_mask=mask)[0][:, :5]
    torch.testing.assert_close(beside, alone, rtol=1e-6, atol=1e-6)


def test_dora_leaves_the_bias_and_merges_what_it_computes() -> None:
    """In adapters the length also scales the bias, it is that of W + B A without alpha / r, and merging drops alpha / r."""
    found = given("lengths")
    weight, change = found["W"], 3.0 * found["B"] @ found["A"]
    length = found["m"].flatten() / torch.linalg.vector_norm(weight + change, dim=1)
    direct = found["x"] @ (length[:, None] * (weight + change)).T + found["b"]
    theirs = found["m"].flatten() / torch.linalg.vector_norm(weight + found["B"] @ found["A"], dim=1)
    torch.testing.assert_close(
        found["h"], theirs * (found["x"] @ (weight + change).T + found["b"]), rtol=1e-9, atol=1e-9
    )
    assert (found["h"] - direct).abs().max() > 0.1
    assert (found["h"] - found["merged"]).abs().max() > 0.1
    model = host("bert").bert
    attached = attach(model, load("dora", r=2, alpha=6))
    query = model.encoder.layer[0].attention.self.query
    with torch.no_grad():
        for leaf in "ABm":
            value = attached.module.leaf(f"encoder.0.attention.query.{leaf}")
            value.copy_(found[leaf].reshape(value.shape))
        torch.testing.assert_close(query(found["x"]), direct, rtol=1e-9, atol=1e-9)
        attached.merge()
        torch.testing.assert_close(query(found["x"]), direct, rtol=1e-9, atol=1e-9)


def test_vera_trains_two_vectors() -> None:
    """In adapters they are whole matrices: r r + d_out d_out numbers for each projection, and not r + d_out."""
    technique, model = load("vera", r=2), host("bert").bert
    assert given("counts")["vera"].item() == 4 * (2 * 2 + 16 * 16)
    assert count(technique, model).trained == 4 * (2 + 16)


def test_a_saved_direft_is_one_again(tmp_path: object) -> None:
    """In adapters its config does not hold that nothing is subtracted: it comes back as a NoReFT. So it is not exchanged."""
    found = given("saved")
    assert (found["before"] - found["after"]).abs().max() > 0.1
    assert "adapters" not in load("direft").peers
    assert "adapters" in load("noreft").peers


@pytest.mark.parametrize(("family", "slot"), [("llama", "ffn.down"), ("bert", "ffn.up")])
def test_ia3_scales_what_the_activation_gives(family: str, slot: str) -> None:
    """adapters scales what is before the activation, and in Llama what the down projection gives; the paper, what is between."""
    model = host(family)
    theirs = read_adapters(FIXTURES / family / "ia3", model).technique
    assert slot in {word for insert in theirs.insert for word in insert.at}
    assert "ffn.hidden" in load("ia3").insert[0].at


def test_the_fixtures_say_what_made_them() -> None:
    made = json.loads((FIXTURES / "made.json").read_text())
    assert made["versions"]["adapters"] == "1.3.0"
    assert made["versions"]["transformers"].startswith("4.57")
