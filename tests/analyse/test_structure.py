"""What is said of the change of a weight, against the numbers of weights that were merged with random leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from peftref.analyse.matrix import Facts
from peftref.analyse.merge import Merge, merge_rule
from peftref.analyse.structure import Structure, structure
from peftref.analyse.typology import typology
from peftref.design.load import load, read, techniques
from peftref.design.placement import numbers
from peftref.design.technique import Technique
from peftref.host.site import Site
from peftref.language.expr import names
from peftref.language.parse import parse_expression
from peftref.language.size import Size
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.running.bare import module_at
from peftref.modules.running.own import Own
from tests.hosts.families import build
from tests.small import small

torch.set_num_threads(1)
NOT_TIGHT = {"adamss"}
"""Techniques that stay below their bound on a tiny host."""


def rank(matrix: Tensor) -> int:
    return int(torch.linalg.matrix_rank(matrix, rtol=1e-8))


def merged(attached: Attached, seed: int) -> dict[str, Tensor]:
    """The weights of the changed sites with random leaves, by the sites' names."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
        attached.merge()
        found = {site.name: weight(attached, site) for site, _ in changes(attached)}
        attached.unmerge()
    return found


def weight(attached: Attached, site: Site) -> Tensor:
    return Own(module_at(attached.model, site.path)).quantity("W", site).detach().clone()


def changes(attached: Attached) -> Iterator[tuple[Site, Structure]]:
    for placement in attached.module.placed:
        rule = merge_rule(placement.insertion, placement.effect)
        found = structure(rule, attached.technique.settings) if isinstance(rule, Merge) else None
        if found is not None and placement.site.kind == "linear":
            yield placement.site, found


def bound(size: Size, technique: Technique, site: Site) -> int:
    return size.evaluate({k: v for k, v in numbers(site, technique.settings).items() if isinstance(v, int)})


def held(matrices: list[Tensor], facts: Facts, technique: Technique, site: Site) -> int | None:
    """Checks the facts of one matrix, as it is with several draws of the leaves; gives how far its rank stays below the bound."""
    first = matrices[0]
    if facts.filled is not None and facts.form in ("Fourier basis", "frozen basis"):
        span = torch.stack([each.flatten() for each in matrices])
        assert rank(span) <= bound(facts.filled, technique, site) < first.numel()
    elif facts.filled is not None:
        assert int(first.count_nonzero()) <= bound(facts.filled, technique, site)
    if facts.form == "diagonal":
        assert torch.equal(first, first.diag().diag())
    if facts.form == "blocks":
        assert facts.blocks is not None
        assert _within(first, bound(facts.blocks, technique, site))
    if facts.form == "circulant blocks":
        assert _circulant(first, int(technique.settings["block"]))
    if facts.rank is None or facts.form == "entries":
        return None
    most = min(bound(facts.rank, technique, site), *first.shape)
    assert rank(first) <= most
    return most - rank(first)


def _within(matrix: Tensor, count: int) -> bool:
    """Whether all that is not zero stands in so many blocks on the diagonal."""
    rows, columns = (size // count for size in matrix.shape)
    mask = torch.block_diag(*(torch.ones(rows, columns, dtype=torch.bool) for _ in range(count)))
    return not matrix[~mask].any()


def _rounded(matrix: Tensor) -> Tensor:
    """Without what rounding leaves of zeros."""
    return torch.where(matrix.abs() > 1e-9, matrix, 0)


def _circulant(matrix: Tensor, size: int) -> bool:
    tiles = matrix.unfold(0, size, size).unfold(1, size, size)
    turned = tiles.roll((1, 1), (-2, -1))
    return torch.allclose(tiles, turned, atol=1e-12)


def checked(technique: Technique, draws: int = 1) -> list[int | None]:
    """Checks everything that is said of a technique's weights."""
    model = build("bert", intermediate_size=32).double()
    attached = attach(model, technique)
    attached.module.double()
    before = {site.name: weight(attached, site) for site, _ in changes(attached)}
    after = [merged(attached, seed) for seed in range(draws)]
    below: list[int | None] = []
    for site, found in changes(attached):
        old, new = before[site.name], [each[site.name] for each in after]
        if found.entries is not None:
            below.append(held([each / old - 1 for each in new], found.entries, technique, site))
        elif found.right is not None and found.right.orthogonal:
            _turned(old, new[0], found, technique, site)
        elif found.left is not None:
            held([_rounded(each @ torch.linalg.inv(old)) for each in new], found.left, technique, site)
        elif found.rows and found.added is not None:
            assert found.added.rank is not None
            apart = new[0] @ torch.linalg.inv(old)  # a diagonal matrix, and one of low rank
            half = len(apart) // 2
            assert rank(apart[:half, half:]) <= bound(found.added.rank, technique, site)
        elif found.rows:
            ratio = new[0] / old
            assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))
        elif found.right is not None:
            ratio = new[0] / old
            assert torch.allclose(ratio, ratio[:1].expand_as(ratio))
        elif found.added is not None:
            below.append(held([each if found.anew else each - old for each in new], found.added, technique, site))
    return below


def _turned(old: Tensor, new: Tensor, found: Structure, technique: Technique, site: Site) -> None:
    """Whether W was multiplied with an orthogonal matrix, its rows scaled or not."""
    one, other = old @ old.T, new @ new.T
    scale = (other.diagonal() / one.diagonal()).sqrt()
    torch.testing.assert_close((other / scale / scale[:, None]).abs(), one.abs(), rtol=1e-8, atol=1e-10)
    assert found.right is not None
    if found.rows or found.scaled:
        assert not torch.allclose(scale, torch.ones_like(scale))
        return
    turn = torch.linalg.solve(old, new)
    torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn), dtype=turn.dtype), rtol=1e-8, atol=1e-8)
    if found.right.blocks is not None:
        assert _within(_rounded(turn), bound(found.right.blocks, technique, site))
    if found.right.apart is not None:
        assert rank(turn - torch.eye(len(turn), dtype=turn.dtype)) <= bound(found.right.apart, technique, site)


NAMES = [t.name for t in techniques() if typology([t])[0]["change of weight"] != "none" and t.tune == "none"]
DRAWS = {"svdiff": 40, "svft": 40, "frod": 60, "fourierft": 9, "waveft": 9}
"""How many draws of the leaves show that those of a basis span no more than is said."""


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_change_holds_for_random_leaves(name: str) -> None:
    technique = small(load(name))
    if typology([technique])[0]["mergeable"] == "no":
        pytest.skip("a part of it does not merge")
    below = checked(technique, DRAWS.get(name, 1))
    if name not in NOT_TIGHT:
        assert all(each in (0, None) for each in below), "a bound that is not reached says too little"


LEAVES = {
    "A": "{shape: [2, d_in], init: {normal: 1.0}}",
    "B": "{shape: [d_out, 2], init: {normal: 1.0}}",
    "C": "{shape: [2, d_in], init: {normal: 1.0}}",
    "D": "{shape: [d_out, 2], init: {normal: 1.0}}",
    "l": "{shape: [d_out], init: ones}",
    "S": "{shape: [4, d_out / 4, 2], init: {normal: 1.0}}",
    "T": "{shape: [4, 2, d_in / 4], init: {normal: 1.0}}",
    "w": "{shape: [d_in], init: {normal: 1.0}}",
    "v": "{shape: [7], init: {normal: 1.0}}",
    "at": "{shape: [7], init: random_positions, frozen: true}",
    "R": "{shape: [d_in, d_in], init: {normal: 1.0}}",
    "P": "{shape: [d_out, d_in], init: {normal: 1.0}}",
    "K": "{shape: [4, 4], init: {normal: 1.0}}",
    "G": "{shape: [d_out / 4, 2], init: {normal: 1.0}}",
    "H": "{shape: [2, d_in / 4], init: {normal: 1.0}}",
}
DESIGNS = {
    "W + B @ A + D @ C": "rank at most 4",
    "W - (B @ A) * (D @ C)": "elementwise product, rank at most 4",
    "W + l * (B @ A)": "rank at most 2",
    "W + block_diag(S) @ block_diag(T)": "4 blocks on the diagonal, rank at most 8",
    "W + l * (block_diag(S) @ block_diag(T))": "4 blocks on the diagonal, rank at most 8",
    "W + scatter(v, at, n=d_out, m=d_in)": "at most 7 entries",
    "(scatter(v, at, n=d_out, m=d_out) + diag(l)) @ W": "a matrix of at most d_out + 7 entries times W",
    "l * W": "rows of W scaled",
    "W @ diag(w)": "columns of W scaled",
    "l * (W + B @ A)": "rank at most 2, rows of W scaled",
    "W @ cayley((R - R.T) / 2)": "W times an orthogonal matrix",
    "W @ householder(A)": "W times an orthogonal matrix which is the identity but for rank 2",
    "2 * W @ cayley((R - R.T) / 2)": "W times an orthogonal matrix, W scaled",
    "W @ (-householder(A))": "W times an orthogonal matrix",
    "W + 2 * B @ A": "rank at most 2",
    "W * (1 + B @ A)": "entries of W scaled: rank at most 2",
    "W + W * (B @ A)": "entries of W scaled: rank at most 2",
    "W + kron(K, G @ H)": "Kronecker product, rank at most 8",
    "W + B @ (A - B.T @ W)": "rank at most 2, made from W",
    "W + P": "no bound of its rank",
    "W + P * scatter(v, at, n=d_out, m=d_in)": "at most 7 entries",
    "W + einsum('o r, r i -> o i', B, A)": "rank at most 2",
    "B @ A": "W made anew: rank at most 2",
    "2 * W": "W scaled",
}


@pytest.mark.parametrize("equation", DESIGNS)
def test_designs_that_are_in_no_catalog(equation: str) -> None:
    text = equation.replace("'", '"')
    used = names(parse_expression(text))
    leaves = ", ".join(f"{name}: {leaf}" for name, leaf in LEAVES.items() if name in used)
    mine = read(
        f"{{name: mine, title: Mine, insert: [{{at: attention.query, leaves: {{{leaves}}}, equation: 'W'' = {text}'}}]}}"
    )
    assert typology([mine])[0]["change of weight"] == DESIGNS[equation]
    assert all(each in (0, None) for each in checked(mine, 1))


def test_what_scatters_or_turns_is_not_called_a_dense_product() -> None:
    intra = {row.name: row["intra"] for row in typology(techniques())}
    for name in ("shira", "supertuning", "trainable_tokens"):
        assert intra[name] == "sparse: scattered entries"
    assert intra["fourierft"] == "spectral: Fourier basis"
    assert intra["svdiff"] == intra["svft"] == "spectral: frozen basis (singular vectors)"
    assert intra["c3a"] == "dense: circulant blocks"
    assert intra["oft"] == "sparse: orthogonal blocks"
    assert intra["loha"] == "dense: elementwise product of factors"
    assert intra["lora"] == intra["pissa"] == "dense: linear MLP"
