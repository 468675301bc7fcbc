"""Where a peer is wrong: what it gives, beside the direct computation that ours is held against."""

from __future__ import annotations

import pytest
import torch
from peft import C3AConfig, get_peft_model
from peft.tuners.c3a.utils import BlockCircularConvolution, get_circulant_fast
from torch import nn

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from tests.hosts.families import build, inputs


def test_c3a_in_peft_has_a_wrong_gradient_of_its_input() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, dtype=torch.double, requires_grad=True)
    w = torch.randn(2, 2, 4, dtype=torch.double, requires_grad=True)
    theirs, direct = BlockCircularConvolution.apply(x, w), x @ get_circulant_fast(w).T
    torch.testing.assert_close(theirs, direct)
    wrong, right = (torch.autograd.grad(value.square().sum(), x)[0] for value in (theirs, direct))
    assert (wrong - right).abs().max() > 0.1


def test_two_c3a_modules_add_their_changes() -> None:
    """In peft the second one reads what the first one made of the input."""
    model = build("bert")
    query = model.encoder.layer[0].attention.self.query
    x = torch.randn(2, 3, query.in_features)
    base = query(x)
    deltas = []
    for name in ("one", "two"):
        attached = attach(model, load("c3a", block=4), name, seed=len(deltas))
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.normal_()
        deltas.append(query(x) - base)
    set_active(model, ["one", "two"], combine="sum")
    torch.testing.assert_close(query(x), base + deltas[0] + deltas[1], rtol=1e-4, atol=1e-5)
    theirs = get_peft_model(
        nn.Sequential(nn.Linear(8, 8)), C3AConfig(target_modules=["0"], block_size=4, init_weights="gaussian"), "one"
    )  # type: ignore[arg-type]  # any module
    theirs.add_adapter("two", C3AConfig(target_modules=["0"], block_size=4, init_weights="gaussian"))
    layer = theirs.base_model.model[0]
    x = torch.randn(2, 8)
    plain = layer.base_layer(x)
    changes = []
    for names in (["one"], ["two"], ["one", "two"]):
        theirs.base_model.set_adapter(names)
        changes.append(layer(x) - plain)
    assert (changes[2] - changes[0] - changes[1]).abs().max() > 0.01


def test_two_rotations_merge_in_the_order_in_which_they_act() -> None:
    """In peft, merging two OFT modules composes them in the reverse order of the forward."""
    model = build("bert")
    batch = inputs(model)
    for name in ("one", "two"):
        attached = attach(model, load("oft", block=4), name)
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.normal_(std=0.5)
    set_active(model, ["one", "two"])
    with torch.no_grad():
        apart = model(**batch)[0]
        for name in ("one", "two"):
            Attached(model, name).merge()
        torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-4, atol=1e-5)


def test_several_stages_of_a_butterfly_are_several() -> None:
    """Peft takes one stage where it cannot build its CUDA extension; here a coordinate reaches 2^m blocks' halves."""
    torch.manual_seed(0)
    model = build("bert")
    query = model.encoder.layer[0].attention.self.query
    reached = []
    for stages in (1, 2, 3):
        attached = attach(model, load("boft", block=4, m=stages))
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.normal_()
        start = torch.zeros(1, 1, query.in_features)
        start[..., 0] = 1.0
        weight = torch.eye(query.in_features)
        with torch.no_grad():
            query.weight.copy_(weight)
            query.bias.zero_()
            reached.append(int((query(start).abs() > 1e-7).sum()))
        attached.detach()
    assert reached == sorted(set(reached))
    assert reached[0] == 4


@pytest.mark.parametrize("name", ["lora", "ia3", "oft"])
def test_no_site_is_an_error(name: str) -> None:
    """In peft, OSF on a host with Conv1D wraps nothing and says nothing."""
    technique = load(name)
    moved = technique.model_copy(
        update={
            "insert": tuple(each.model_copy(update={"at": ("cross_attention.query",)}) for each in technique.insert)
        }
    )
    with pytest.raises(PeftrefError, match="has no slot"):
        attach(build("bert"), moved)
