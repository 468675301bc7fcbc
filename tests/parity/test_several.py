"""Several modules at once, where peft is wrong: what it gives today, beside the direct computation that ours is held against."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import BOFTConfig, LoraConfig, OFTConfig, OSFConfig, get_peft_model
from torch import Tensor, nn

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.merge import merge
from tests.hosts.families import build, inputs

RANK, ALPHA = 4, 8


def peft(config: type[Any], count: int = 2, **fields: Any) -> tuple[Any, Any]:
    """Peft's layer of one linear map in double precision, with so many random modules on it, all active; and the model around it."""
    torch.manual_seed(0)
    names = [f"m{i}" for i in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(
            nn.Sequential(nn.Linear(16, 16)).double(), config(target_modules=["0"], **fields), names[0],
            autocast_adapter_dtype=False,
        )  # fmt: skip
        for name in names[1:]:
            model.add_adapter(name, config(target_modules=["0"], **fields))
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".m" in name:
                parameter.copy_(0.5 * torch.randn_like(parameter))
    model.base_model.set_adapter(names)
    return model.base_model.model[0], model


def ours(technique: str, **settings: Any) -> tuple[Any, Any, list[Attached]]:
    """A query projection with two random modules of a technique on it, its host, and the modules."""
    host = build("bert").double()
    query = host.encoder.layer[0].attention.self.query
    found = []
    for name in ("m0", "m1"):
        found.append(attach(host, load(technique, **settings), name))
        torch.manual_seed(len(found))
        with torch.no_grad():
            for parameter in found[-1].parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
    return query, host, found


def low_rank(attached: Attached, scale: float) -> Tensor:
    """The change of the first query's weight by a low-rank module, directly."""
    a, b = (attached.module.leaf(f"encoder.0.attention.query.{leaf}").detach() for leaf in "AB")
    return scale * b @ a


def of_peft(layer: Any, name: str, scale: float) -> Tensor:
    """The same of peft's."""
    found: Tensor = scale * layer.lora_B[name].weight.detach() @ layer.lora_A[name].weight.detach()
    return found


def test_one_is_merged_and_the_other_goes_on() -> None:
    """Peft takes a layer on which anything is merged for merged, and leaves out what is not (issues 3756, 3763)."""
    query, host, (one, two) = ours("lora", r=RANK, alpha=ALPHA)
    x = torch.randn(2, 3, 32, dtype=torch.double)
    set_active(host, ["m0", "m1"])
    direct = x @ (query.weight + low_rank(one, ALPHA / RANK) + low_rank(two, ALPHA / RANK)).T + query.bias
    one.merge()
    torch.testing.assert_close(query(x), direct)
    one.unmerge()
    torch.testing.assert_close(query(x), direct)
    layer, _ = peft(LoraConfig, r=RANK, lora_alpha=ALPHA)
    x = torch.randn(5, 16, dtype=torch.double)
    base = layer.base_layer.weight.detach().clone()
    changes = [of_peft(layer, name, ALPHA / RANK) for name in ("m0", "m1")]
    both = x @ (base + changes[0] + changes[1]).T + layer.base_layer.bias
    torch.testing.assert_close(layer(x), both)
    layer.merge(adapter_names=["m0"])
    torch.testing.assert_close(layer(x), x @ (base + changes[0]).T + layer.base_layer.bias)
    assert (layer(x) - both).abs().max() > 0.1


def test_a_sum_is_the_sum_of_the_changes() -> None:
    """Peft's `linear` adds A and B apart, and multiplies afterwards."""
    query, host, (one, two) = ours("lora", r=RANK, alpha=ALPHA)
    x = torch.randn(2, 3, 32, dtype=torch.double)
    set_active(host, ["m0", "m1"], combine="sum")
    before = query.weight.detach().clone()
    total = before + low_rank(one, ALPHA / RANK) + low_rank(two, ALPHA / RANK)
    torch.testing.assert_close(query(x), x @ total.T + query.bias)
    merge(host, ["m0", "m1"])
    torch.testing.assert_close(query.weight.detach(), total)
    layer, model = peft(LoraConfig, r=RANK, lora_alpha=ALPHA)
    wanted = 0.7 * of_peft(layer, "m0", ALPHA / RANK) + 0.3 * of_peft(layer, "m1", ALPHA / RANK)
    for kind, error in (("linear", 0.3), ("cat", 0.0)):
        model.add_weighted_adapter(["m0", "m1"], [0.7, 0.3], kind, combination_type=kind)
        off = layer.get_delta_weight(kind) - wanted
        assert (off.norm() / wanted.norm() > error) if error else (off.norm() < 1e-6 * wanted.norm())


def test_the_scale_of_rslora_is_the_root_and_stays_it() -> None:
    """Peft's combination of one module with weight one is that module, too large by the root of the rank (issue 3761)."""
    query, host, (one, two) = ours("rslora", r=RANK, alpha=ALPHA)
    scale = ALPHA / RANK**0.5
    before = query.weight.detach().clone()
    set_active(host, ["m0", "m1"], combine="sum")
    merge(host, ["m0", "m1"])
    torch.testing.assert_close(query.weight.detach(), before + low_rank(one, scale) + low_rank(two, scale))
    layer, model = peft(LoraConfig, r=RANK, lora_alpha=ALPHA, use_rslora=True)
    model.add_weighted_adapter(["m0"], [1.0], "same", combination_type="cat")
    torch.testing.assert_close(layer.get_delta_weight("m0"), of_peft(layer, "m0", scale))
    off = layer.get_delta_weight("same").norm() / layer.get_delta_weight("m0").norm()
    assert off > 1.5


def test_two_rotations_in_peft_merge_in_the_reverse_order() -> None:
    layer, _ = peft(OFTConfig, oft_block_size=4, r=0, use_cayley_neumann=False)
    x = torch.randn(5, 16, dtype=torch.double)
    apart = layer(x).detach()
    layer.merge()
    assert (layer(x) - apart).abs().max() > 0.1
    for combine in ("stack", "sum"):
        query, host, _ = ours("oft", block=4)
        x = torch.randn(2, 3, 32, dtype=torch.double)
        set_active(host, ["m0", "m1"], combine)  # type: ignore[arg-type]  # both are
        weight, bias = query.weight.detach().clone(), query.bias.detach()
        blocks = [
            torch.block_diag(*_cayley(each.module.leaf("encoder.0.attention.query.Q").detach()))
            for each in (Attached(host, "m0"), Attached(host, "m1"))
        ]
        first, second = (block.T for block in blocks)
        turned = weight @ first @ second if combine == "stack" else weight @ first + weight @ second - weight
        torch.testing.assert_close(query(x), x @ turned.T + bias)
        merge(host, ["m0", "m1"])
        torch.testing.assert_close(query.weight.detach(), turned)


def _cayley(above: Tensor) -> list[Tensor]:
    found = []
    for row in above:
        skew = torch.zeros(4, 4, dtype=row.dtype)
        skew[tuple(torch.triu_indices(4, 4, 1))] = row
        skew = skew - skew.T
        found.append((torch.eye(4) - skew) @ torch.linalg.inv(torch.eye(4) + skew))
    return found


def test_a_record_says_what_was_built() -> None:
    """Where peft cannot build its CUDA extension, it makes one butterfly stage, and its config goes on saying three."""
    if torch.cuda.is_available():
        pytest.skip("the extension may be built here")
    layer, model = peft(BOFTConfig, 1, boft_block_size=4, boft_n_butterfly_factor=3)
    assert layer.boft_R["m0"].shape[0] == 1
    assert model.peft_config["m0"].boft_n_butterfly_factor == 3
    attached = attach(build("bert"), load("boft", block=4, m=3))
    assert attached.technique.settings["m"] == 3
    assert attached.module.leaf("encoder.0.attention.query.R").shape[0] == 3


def test_nothing_is_wrapped_in_silence() -> None:
    """On a host of `Conv1D`, peft's OSF wraps nothing and trains nothing."""
    host = build("gpt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = get_peft_model(copy.deepcopy(host), OSFConfig(target_modules=["c_attn"]))  # type: ignore[arg-type]  # a copy of one
    assert not [each for each in theirs.modules() if type(each).__module__.startswith("peft.tuners.osf.layer")]
    attached = attach(host, load("osf"))
    assert {site.path for each in attached.module.placed for site in [each.site]} >= {"h.0.attn.c_attn"}
    with torch.no_grad():
        alone = host(**inputs(host))[0]
        for parameter in attached.parameters():
            parameter.add_(0.1)
        assert (host(**inputs(host))[0] - alone).abs().max() > 1e-3


def test_a_name_that_is_taken_is_told() -> None:
    """Peft's `add_weighted_adapter` returns without a word, and the module that had the name stays."""
    layer, model = peft(LoraConfig, r=RANK, lora_alpha=ALPHA)
    before = layer.get_delta_weight("m1").clone()
    model.add_weighted_adapter(["m0", "m1"], [0.5, 0.5], "m1", combination_type="cat")
    torch.testing.assert_close(layer.get_delta_weight("m1"), before)
    _, host, _ = ours("lora", r=RANK)
    with pytest.raises(PeftrefError, match="name-taken"):
        attach(host, load("lora", r=RANK), "m1")


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_gradients_under_dropout_are_those_of_what_was_left(rate: float) -> None:
    """mLoRA's backward takes the input before dropout: a third off at a rate of 0.1. Beside it the product with the same mask."""
    host = build("bert").double().train()
    query = host.encoder.layer[0].attention.self.query
    attached = attach(host, load("lora", r=RANK, alpha=ALPHA, dropout=rate))
    a, b = (attached.module.leaf(f"encoder.0.attention.query.{leaf}") for leaf in "AB")
    torch.manual_seed(1)
    with torch.no_grad():
        b.normal_()
    x = torch.randn(4, 50, 32, dtype=torch.double, requires_grad=True)
    g = torch.randn(4, 50, 32, dtype=torch.double)
    torch.manual_seed(2)
    query(x).backward(g)
    torch.manual_seed(2)
    left = torch.nn.functional.dropout(torch.ones_like(x), rate).detach()
    scale = ALPHA / RANK
    dropped, flat = (x.detach() * left).flatten(0, 1), g.flatten(0, 1)
    torch.testing.assert_close(a.grad, scale * (flat @ b.detach()).T @ dropped)
    torch.testing.assert_close(b.grad, scale * flat.T @ (dropped @ a.detach().T))
    into = g @ query.weight.detach() + scale * (g @ b.detach() @ a.detach()) * left
    torch.testing.assert_close(x.grad, into)
    assert a.grad is not None
    wrong = scale * (flat @ b.detach()).T @ x.detach().flatten(0, 1)
    assert (wrong - a.grad).norm() > 0.15 * a.grad.norm()
