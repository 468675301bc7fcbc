"""What leaves alone make is made once while they stay the same, and anew when anything of them changes."""

from __future__ import annotations

import copy

import torch

from peftref.design.load import read
from peftref.modules.attach import attach
from peftref.modules.running.keep import Keep
from tests.hosts.families import build, inputs
from tests.modules.running.test_running import attached

torch.set_num_threads(1)


def test_a_value_is_made_once_until_a_leaf_changes() -> None:
    leaf = torch.nn.Parameter(torch.ones(3))
    keep, made = Keep(leaf), []

    def make() -> torch.Tensor:
        made.append(1)
        return 2 * leaf

    assert keep(make).requires_grad
    assert keep(make).requires_grad
    with torch.no_grad():
        first = keep(make)
        assert keep(make) is first
        leaf.add_(1.0)
        assert torch.equal(keep(make), 2 * leaf)
        leaf.data = leaf.data.double()
        assert keep(make).dtype == torch.float64
    assert len(made) == 5
    assert copy.deepcopy(keep).leaves[0] is not leaf


def test_frozen_leaves_are_kept_while_training() -> None:
    leaf, made = torch.ones(3), []
    keep = Keep(leaf)
    first = keep(lambda: made.append(1) or 2 * leaf)  # type: ignore[func-returns-value]  # counts the calls
    assert keep(lambda: made.append(1) or 2 * leaf) is first  # type: ignore[func-returns-value]  # as above
    assert made == [1]


def test_a_trained_network_of_prefixes_is_seen_at_every_step() -> None:
    model = build("llama")
    found = attached(model, "prefix_mlp")
    batch = inputs(model)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.5)
    seen = []
    for _ in range(2):
        with torch.no_grad():
            seen.append(model(**batch)[0])
        model(**batch)[0].square().sum().backward()
        optimizer.step()
    assert not torch.equal(*seen)
    with torch.no_grad():
        kept = model(**batch)[0]
    torch.testing.assert_close(model(**batch)[0], kept)
    for parameter in found.parameters():
        parameter.data.zero_()
    model.eval()
    with torch.no_grad():
        assert not torch.allclose(model(**batch)[0], kept)


def test_a_product_of_frozen_leaves_is_apart_from_what_is_trained() -> None:
    leaves = (
        "{F: {shape: [d_model, 4], init: {normal: 0.3}, frozen: true}, G: {shape: [4, d_model], init: {normal: 0.3}, frozen: true},"
        " l: {shape: [d_model], init: zeros}}"
    )
    text = f"{{name: m, title: M, insert: [{{at: ffn, leaves: {leaves}, equation: h' = h + tanh(F @ G) @ h + l}}]}}"
    model = build("bert")
    found = attach(model, read(text))
    assert "def frozen(self)" in found.module.sources[0].text
    out = model(**inputs(model))[0]
    out.sum().backward()
    assert {name.rpartition(".")[2] for name, p in found.module.named_parameters() if p.grad is not None} == {"l"}
