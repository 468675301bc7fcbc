"""Where adapters 1.3 is wrong: what it gave, as tests/parity/adapters/defects.py wrote it, beside the direct computation and ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftref.analyse.count import count
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.exchange.adapters.orthogonal import plain
from peftref.exchange.adapters.read import read_adapters
from peftref.exchange.adapters.write import write_adapters
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from tests.parity.adapters.hosts import FIXTURES, batch, host


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


def altered(case: str, folder: Path, fields: dict[str, Any], change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A checkpoint of the fixtures with some fields and tensors changed."""
    config = json.loads((FIXTURES / case / "adapter_config.json").read_text())
    config["config"] |= fields
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(FIXTURES / case / "adapter.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter.safetensors")
    return folder


def test_a_vera_that_was_trained_there_is_refused(tmp_path: Path) -> None:
    """What training there puts beside the diagonals is no VeRA; and no number of it is dropped."""

    def trained(tensors: dict[str, torch.Tensor]) -> None:
        key = next(key for key in tensors if key.endswith("vera_D"))
        tensors[key][0, 1] = 0.5

    with pytest.raises(PeftrefError, match="vera_D of the checkpoint has numbers where vera has none"):
        read_adapters(altered("bert/vera", tmp_path, {}, trained), host("bert"))


def test_vera_is_not_cut_to_smaller_projections(tmp_path: Path) -> None:
    """adapters gives all projections matrices of the first one's size, and fails where another is smaller."""
    attached = attach(host("llama"), load("vera", r=2))
    with pytest.raises(PeftrefError, match=r"cuts no B of vera to what decoder.0.attention.value needs"):
        write_adapters(attached, tmp_path / "there")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("case", "told"), [("llama/dora", "alpha is 6"), ("bert/lora", "has a bias")])
def test_a_dora_that_computes_something_else_is_refused(case: str, told: str, tmp_path: Path) -> None:
    """With alpha unlike r, and at a bias, it is no DoRA there."""

    def lengths(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.endswith("lora_B")]:
            tensors[key.replace("lora_B", "m.weight")] = torch.ones(len(tensors[key]), 1, dtype=torch.double)

    fields = {"use_dora": True, "alpha": 6 if "alpha" in told else 2}
    model = host(case.partition("/")[0])
    with pytest.raises(PeftrefError, match=told):
        read_adapters(altered(case, tmp_path, fields, lengths), model)
    assert "peftref" not in model._modules


def test_a_dora_with_alpha_unlike_r_is_not_written(tmp_path: Path) -> None:
    attached = attach(host("llama"), load("dora", r=2, alpha=6))
    with pytest.raises(PeftrefError, match="alpha = r only, not 6"):
        write_adapters(attached, tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_a_saved_direft_is_one_again(tmp_path: Path) -> None:
    """In adapters its config does not hold that nothing is subtracted: it comes back as a NoReFT. So it is not exchanged."""
    found = given("saved")
    assert (found["before"] - found["after"]).abs().max() > 0.1
    assert "adapters" in load("noreft").peers
    attached = attach(host("bert"), load("direft"))
    with pytest.raises(PeftrefError, match="nothing is subtracted"):
        write_adapters(attached, tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_weight_decay_leaves_a_projection_orthonormal(tmp_path: Path) -> None:
    """In adapters the signs of a LoReFT's columns are trained numbers cut to whole ones: one step of AdamW makes all of it zero."""
    found = given("decay")
    before = found["before"] @ found["before"].T
    torch.testing.assert_close(before, torch.eye(2, dtype=torch.double), rtol=0, atol=1e-6)
    assert found["after"].abs().max() == 0
    with pytest.raises(PeftrefError, match="no orthonormal rows") as caught:
        plain(
            {
                f"unit.parametrizations.weight.{key}": found[name]
                for key, name in (("original", "original"), ("0.base", "base"))
            }
        )
    assert "weight decay" in str(caught.value.problems[0].hint)
    model = host("bert")
    attached = attach(model, load("loreft", r=2))
    optimizer = torch.optim.AdamW(attached.parameters(), lr=1e-3, weight_decay=0.01)
    model(**batch("bert"))[0].square().sum().backward()
    optimizer.step()
    state = load_file(write_adapters(attached, tmp_path / "there") / "adapter.safetensors")
    for key, value in plain(state).items():
        if key.endswith("projection.weight"):
            torch.testing.assert_close(value @ value.T, torch.eye(2, dtype=value.dtype), rtol=0, atol=1e-6)


def at_layer(family: str, path: str, settings: dict[str, int], **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the first layer of the last stack gives without and with a NoReFT after it, and the leaves of that."""
    model, seen = host(family), []

    def run() -> None:
        hook = model.get_submodule(path).register_forward_hook(
            lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        with torch.no_grad():
            model(**inputs)
        hook.remove()

    run()
    attached = attach(model, load("noreft", r=2, **settings))
    drawn(attached)
    stack = attached.modules.host.stacks[-1].name
    for copy in attached.module.copies:
        if not copy.name.startswith(f"{stack}.0"):
            torch.nn.init.zeros_(attached.module.leaf(copy.name))
    run()
    leaves = {name: attached.module.leaf(f"{stack}.0.layer.{name}").detach() for name in "RAa"}
    return {"h": seen[0], "out": seen[1], **leaves}


def reft(of: dict[str, torch.Tensor]) -> torch.Tensor:
    """The equation of NoReFT at every token."""
    return of["h"] + (of["h"] @ of["A"].T + of["a"] - of["h"] @ of["R"].T) @ of["R"]


def test_the_last_token_of_a_decoder_is_its_own() -> None:
    """In adapters the decoder takes the positions of the encoder where it is longer: the fifth of seven tokens is its last one."""
    found = given("decoder")["moved"]
    assert (found > 0).nonzero()[:, 1].tolist() == [0, 4, 0, 4]
    inputs = batch("bart") | {"decoder_input_ids": torch.arange(3, 10).repeat(2, 1)}
    ours = at_layer("bart", "model.decoder.layers.0", {"first": 1, "last": 1}, **inputs)
    direct = torch.where(torch.tensor([True, *[False] * 5, True])[:, None], reft(ours), ours["h"])
    torch.testing.assert_close(ours["out"], direct, rtol=0, atol=1e-9)


def test_a_text_shorter_than_the_last_tokens_keeps_its_own() -> None:
    """In adapters, last tokens that a text does not have shift those that it has: the second of two gets the value of the first."""
    found = given("short")
    torch.testing.assert_close(found["out"][:, 1], reft(found)[:, 0], rtol=0, atol=1e-9)
    assert (found["out"] - reft(found))[:, 1].abs().max() > 0.1
    ours = at_layer(
        "bert", "bert.encoder.layer.0", {"first": 1, "last": 3}, input_ids=batch("bert")["input_ids"][:, :2]
    )
    torch.testing.assert_close(ours["out"], reft(ours), rtol=0, atol=1e-9)


def test_first_tokens_alone_are_moved_in_half_precision() -> None:
    """adapters joins them with an empty tensor of single precision, so that ReFT as it is by default runs in no other."""
    assert not given("types")["runs"]
    model = host("bert").bfloat16()
    attach(model, load("loreft_untied", r=1, first=3, last=0))
    with torch.no_grad():
        assert model(**batch("bert"))[0].isfinite().all()


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
