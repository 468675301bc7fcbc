"""Beginning from the host's weights: joint decompositions, clusters, grids; held against peft and against what defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.frod.model import _projection_from_weights
from peft.utils.loftq_utils import _low_rank_decomposition

from peftref.analyse.identity import identity
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.procedures.cluster_rows import directions, lloyd
from peftref.modules.procedures.joint_decomposition import basis, beside_diagonal
from peftref.modules.procedures.quantised_residual import levels, quantised
from tests.hosts.families import build, inputs
from tests.modules.procedures.test_from_data import moved

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""The levels of NF4 as QLoRA prints them (arXiv 2305.14314, appendix E)."""


@pytest.mark.parametrize("shape", [(3, 12, 8), (1, 5, 8), (2, 8, 8)])
def test_the_common_basis_is_that_of_peft(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    weights = list(torch.randn(shape, dtype=torch.double).unbind())
    own, other = basis(weights, 1e-3), _projection_from_weights([each.double() for each in weights], 1e-3)
    signs = torch.sign((own * other).sum(0))
    torch.testing.assert_close(own * signs, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_a_joint_decomposition_gives_every_weight_back(family: str) -> None:
    model = moved(family)
    weights = {
        site.name: model.get_submodule(site.path).weight.detach().clone()
        for site in attach(model, load("ia3")).module.host.sites
        if site.slot in ("attention.query", "attention.value") and site.whole
    }
    batch = inputs(model)
    model.peftref.default  # noqa: B018  # it is there
    attached = attach(model, load("frod"), "frod")
    bases = {c.name: attached.module.leaf(c.name) for c in attached.module.copies if c.leaf.name == "V"}
    assert len(bases) == 2, "one for the queries and one for the values"
    for placement in attached.module.placed:
        site = placement.site
        left, lengths = (attached.module.leaf(f"{site.name}.{name}") for name in ("U", "l"))
        right = bases[f"{site.stack}.{site.slot}.V"]
        torch.testing.assert_close(left.norm(dim=0), torch.ones(left.shape[1]), rtol=1e-5, atol=1e-5)
        if site.name in weights:
            torch.testing.assert_close(left @ torch.diag(lengths) @ right.T, weights[site.name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model(**batch)[0], _plain(family, batch), rtol=1e-3, atol=1e-3)


def _plain(family: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    out: torch.Tensor = moved(family)(**batch)[0]
    return out


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**31), st.floats(0.01, 1))
def test_positions_beside_the_diagonal(n: int, seed: int, share: float) -> None:
    count = max(1, int(share * n * (n - 1)))
    drawn = beside_diagonal(count, n, torch.Generator().manual_seed(seed))
    assert len(set(drawn.tolist())) == count
    assert all(0 <= at < n * n and at // n != at % n for at in drawn.tolist())


def test_rows_are_clustered_as_scikit_learn_does() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    centres = rows[[3, 14, 25, 36]]
    found = cluster.KMeans(4, init=centres.numpy(), n_init=1, max_iter=50, tol=0.0).fit(rows.numpy())
    assert np.array_equal(lloyd(rows, centres, 50).numpy(), found.labels_)


def test_no_cluster_is_left_empty() -> None:
    rows = torch.cat([torch.zeros(6, 2), torch.ones(6, 2), 5 * torch.ones(3, 2)])
    found = lloyd(rows, torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]), 10)
    assert found.unique().numel() == 3


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_subspaces_count_forward_and_merge_as_in_peft(family: str) -> None:
    pytest.importorskip("sklearn")
    from peft import get_peft_model
    from peft.tuners.adamss import AdamssConfig

    model = moved(family).double()
    targets = ["q_proj", "v_proj"] if family == "llama" else ["query", "value"]
    config = AdamssConfig(r=8, num_subspaces=3, subspace_rank=2, target_modules=targets, init_weights=None)
    theirs = get_peft_model(moved(family).double(), config, autocast_adapter_dtype=False).eval()
    attached = attach(model, load("adamss", n=8, k=3, r=2))
    assert sum(each.numel() for each in attached.parameters()) == sum(
        each.numel() for each in theirs.parameters() if each.requires_grad
    )
    for placement in attached.module.placed:
        site = placement.site
        layer: Any = theirs.base_model.model.get_submodule(site.path)
        own = {name: attached.module.leaf(f"{site.name}.{name}") for name in ("V", "K", "at", "A", "B")}
        right = layer.adamss_newB["default"]
        base = layer.get_base_layer()
        with torch.no_grad():
            width = base.weight.shape[1]
            own["V"].copy_(right[:, :width])
            if base.bias is not None:
                own["K"].copy_(torch.outer(right[:, -1], base.bias) / base.bias.square().sum())
            for number, rows in layer.seg_result["default"].items():
                own["at"][rows] = number
                own["A"][number] = layer.adamss_A["default"][number]
                own["B"][rows] = layer.adamss_B["default"][number]
    batch = inputs(model)
    here, there = model(**batch)[0], theirs(**batch)[0]
    torch.testing.assert_close(here, there, rtol=1e-6, atol=1e-8)
    weights = torch.linspace(0.1, 1, here.numel(), dtype=here.dtype).view_as(here)
    for out in (here, there):
        (out * weights).sum().backward()
    for placement in attached.module.placed:
        layer = theirs.base_model.model.get_submodule(placement.site.path)
        for number, rows in layer.seg_result["default"].items():
            for name, part in (("A", number), ("B", rows)):
                grad = attached.module.leaf(f"{placement.site.name}.{name}").grad
                other = getattr(layer, f"adamss_{name}")["default"][number].grad
                assert grad is not None
                torch.testing.assert_close(grad[part], other, rtol=1e-5, atol=1e-8)
    attached.merge()
    torch.testing.assert_close(model(**batch)[0], there, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_nothing_is_nearer_to_a_weight_with_its_bias_than_its_projection(family: str) -> None:
    model = moved(family)
    attached = attach(model, load("adamss", n=6, k=3, r=2))
    for placement in attached.module.placed:
        module = model.get_submodule(placement.site.path)
        right, turned = (attached.module.leaf(f"{placement.site.name}.{name}") for name in ("V", "K"))
        whole = module.weight
        if module.bias is not None:
            whole = torch.cat([whole, module.bias[:, None]], 1)
            right = torch.cat([right, (turned @ module.bias)[:, None]], 1)
        lost = torch.linalg.norm(whole - whole @ right.T @ right)
        least = torch.linalg.svdvals(whole)[6:].norm()
        torch.testing.assert_close(lost, least, rtol=1e-4, atol=1e-5)


def test_directions_of_a_cluster_span_what_its_rows_do() -> None:
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    clusters = torch.tensor([0] * 2 + [1] * 18)
    found = directions(rows, clusters, 2, 3)
    torch.testing.assert_close(rows[:2] @ found[0].T @ found[0], rows[:2])
    assert not found[0, 2].any()
    torch.testing.assert_close(found[1] @ found[1].T, torch.eye(3, dtype=torch.double))


def test_the_levels_are_those_of_nf4() -> None:
    torch.testing.assert_close(levels(4), torch.tensor(NF4), rtol=0, atol=2e-4)
    assert all(len(levels(bits)) == 2**bits == levels(bits).unique().numel() for bits in range(2, 9))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(1, 70), st.integers(0, 2**31))
def test_a_grid_gives_the_nearest_level(bits: int, block: int, seed: int) -> None:
    weight = torch.randn(7, 11, generator=torch.Generator().manual_seed(seed))
    found, known = quantised(weight, bits, block).flatten(), levels(bits)
    for start in range(0, weight.numel(), block):
        part = weight.flatten()[start : start + block]
        scale = part.abs().max()
        nearest = (part[:, None] - known * scale).abs().min(1).values
        torch.testing.assert_close((part - found[start : start + block]).abs(), nearest, rtol=1e-4, atol=1e-6)


def test_turns_of_quantising_and_decomposing() -> None:
    model = moved("llama")
    attached = attach(model, load("loftq", r=3, turns=2, bits=3, block=16))
    site = attached.module.placed[0].site
    weight = model.get_submodule(site.path).weight.detach()
    grid = quantised(weight, 3, 16)
    once = _low_rank_decomposition(weight - grid, 3)
    grid = quantised(weight - once["L"] @ once["R"], 3, 16)
    twice = _low_rank_decomposition(weight - grid, 3)
    own = {name: attached.module.leaf(f"{site.name}.{name}") for name in ("Q", "A", "B")}
    torch.testing.assert_close(own["Q"], grid)
    torch.testing.assert_close(own["B"] @ own["A"], twice["L"] @ twice["R"], rtol=1e-4, atol=1e-5)
    lost = torch.linalg.norm(weight - own["Q"] - own["B"] @ own["A"])
    assert lost < torch.linalg.norm(weight - quantised(weight, 3, 16))


def test_a_host_too_small_for_a_leaf_is_told() -> None:
    from peftref.core.problem import PeftrefError

    model = build("llama")
    with pytest.raises(PeftrefError) as caught:
        attach(model, load("adamss", n=100))
    assert caught.value.problems[0].code == "init-size"
    assert "peftref" not in dict(model.named_children())


def test_a_grid_moves_the_host_as_is_said() -> None:
    technique = load("loftq", r=2, block=16)
    model = moved("llama")
    batch = inputs(model)
    before = model(**batch)[0]
    attach(model, technique)
    assert identity(technique).answer == "no"
    assert 1e-3 < float((model(**batch)[0] - before).detach().abs().max()) < 1
