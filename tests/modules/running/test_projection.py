"""Products made together are the products made one by one, whatever the order, the copies and the passes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from benchmarks.stages import linear
from peftref.design.load import load, read
from peftref.modules.attach import attach
from peftref.modules.running.projection import Part, Projection
from peftref.study.memory import saved_bytes
from tests.hosts.families import build, inputs
from tests.modules.running.test_running import attached

torch.set_num_threads(1)


def projections(found) -> list[Projection]:  # type: ignore[no-untyped-def]
    parts = [
        value
        for runs in found.module.runs.values()
        for run in runs
        for value in vars(run.forward).values()
        if isinstance(value, Part)
    ]
    return list({id(part.projection): part.projection for part in parts}.values())


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "phi3"])
def test_query_and_value_share_one_product_and_change_no_number(family: str) -> None:
    model = build(family).double()
    found = attached(model, "lora", batch=1, length=8)
    made = projections(found)
    assert [len(each.leaves) for each in made] == [2, 2]
    batch = inputs(model)
    together = model(**batch)[0]
    together.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in found.parameters() if parameter.grad is not None]
    assert all(each.x is None and not each.apart for each in made)
    for each in made:
        each.apart = True
    model.zero_grad(set_to_none=True)
    alone = model(**batch)[0]
    alone.square().sum().backward()
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    for one, other in zip(gradients, found.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-9, atol=1e-9)


def test_with_dropout_every_site_draws_its_own() -> None:
    found = attach(build("llama"), load("lora", r=2, dropout=0.5))
    assert projections(found) == []


def test_a_leaf_of_a_whole_layer_is_multiplied_once() -> None:
    leaves = "{A: {shape: [2, d_in], init: {normal: 0.3}, scope: layer}, B: {shape: [d_out, 2], init: {normal: 0.3}}}"
    text = f"{{name: m, title: M, insert: [{{at: [attention.query, attention.value], leaves: {leaves}, equation: h' = h + B @ A @ x}}]}}"
    model = build("bert")
    found = attach(model, read(text))
    assert [len(each.leaves) for each in projections(found)] == [1, 1]
    batch = inputs(model)
    together = model(**batch)[0]
    for each in projections(found):
        each.apart = True
    torch.testing.assert_close(model(**batch)[0], together)


def test_another_tensor_parts_them_for_good_and_stays_right() -> None:
    leaves = [torch.randn(2, 5), torch.randn(3, 5)]
    projection = Projection(leaves)
    first, second = (projection.part(leaf) for leaf in leaves)
    x = torch.randn(4, 5)
    copied = x.clone() + 1
    torch.testing.assert_close(first(x), F.linear(x, leaves[0]))
    torch.testing.assert_close(second(copied), F.linear(copied, leaves[1]))
    assert projection.apart
    torch.testing.assert_close(second(x), F.linear(x, leaves[1]))


def test_the_same_site_asked_twice_gets_a_new_product() -> None:
    leaves = [torch.randn(2, 5), torch.randn(2, 5)]
    projection = Projection(leaves)
    first = projection.part(leaves[0])
    projection.part(leaves[1])
    x = torch.randn(4, 5)
    first(x)
    leaves[0].add_(1.0)
    torch.testing.assert_close(first(x), F.linear(x, leaves[0]))


def test_copies_between_two_sites_and_checkpoints_hold() -> None:
    leaves = [torch.randn(2, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)]
    projection = Projection(leaves)
    first, second = (projection.part(leaf) for leaf in leaves)
    x = torch.randn(4, 5, requires_grad=True)
    first(x)
    assert copy.deepcopy(projection).x is None
    second(x)
    result = checkpoint(lambda value: first(value) + second(value), x, use_reentrant=False)
    result.sum().backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is not None


def test_stacked_gradients_in_any_order_and_precision() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)
    leaves = [torch.randn(k, 5, dtype=torch.double, requires_grad=k != 1) for k in (2, 1, 4)]

    def product(x: torch.Tensor, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return Projection(leaves)._product(x)

    torch.autograd.gradcheck(product, (x, *leaves))
    torch.autograd.gradgradcheck(product, (x, *leaves))
    single = [leaf.detach().float().requires_grad_() for leaf in leaves]
    with torch.autocast("cpu", torch.bfloat16):
        parts = product(x.detach().float(), *single)
    sum(part.float().sum() for part in parts).backward()  # type: ignore[union-attr]
    expected = x.detach().float().flatten(0, 1).sum(0)
    for leaf in single:
        torch.testing.assert_close(leaf.grad, expected.expand_as(leaf), rtol=2e-2, atol=2e-2)


def test_no_copy_of_the_leaves_is_kept_for_backward() -> None:
    x = torch.randn(2, 3, 64)
    leaves = [torch.randn(k, 64, requires_grad=True) for k in (2, 4)]
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        Projection(leaves)._product(x)
    assert {tensor.untyped_storage().data_ptr() for tensor in kept} <= {
        tensor.untyped_storage().data_ptr() for tensor in (x, *leaves)
    }


def test_what_is_frozen_keeps_no_input_for_backward() -> None:
    """A frozen first matrix needs no gradient, so that its input is not kept: what LoRA-FA is made for."""
    stage = linear(64, 2, 8, "cpu", torch.float32)
    saved = {}
    for name in ("lora", "lora_fa"):
        model = copy.deepcopy(stage.model)
        attach(model, load(name, r=2), batch=1, length=8, host=stage.host)
        model.vector.requires_grad_(True)
        saved[name] = saved_bytes(model, stage.batch)
    assert saved["lora"] - saved["lora_fa"] == 2 * 8 * 64 * 4
