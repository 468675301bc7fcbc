"""The table of inits: every template run in torch and held against what its line says."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic_core import PydanticCustomError
from torch import nn

from peftref.design.init_call import InitCall, parse_init
from peftref.design.inits import INITS
from peftref.modules.compile.decompose import Decompositions

W = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
P = torch.randn(6, 2, generator=torch.Generator().manual_seed(3))
Z = torch.tensor([0, 1, 1, 2])
E = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
EXAMPLES = {"constant": {"constant": 0.5}, "normal": {"normal": 0.02}, "truncated_normal": {"truncated_normal": 0.02}}
EXAMPLES |= {"coordinates": {"coordinates": "P"}, "evened": {"evened": {"one": "Z", "other": "Z"}}}
EXAMPLES |= {"uniform": {"uniform": 0.1}, "copy": {"copy": "W"}, "random_indices": {"random_indices": 9}}


def source_of(call: InitCall, tensor: str, sources: dict[str, str]) -> str:
    given = dict(call.arguments)
    return call.row.source(tensor, {k: sources[v] if isinstance(v, str) else repr(v) for k, v in given.items()})


def start(init: object, *shape: int, **settings: float) -> torch.Tensor:
    call = parse_init(init)
    tensor = torch.full(shape, -1) if call.row.whole else torch.full(shape, torch.nan)
    sources = {"W": "W", "E": "E", "P": "P", "Z": "Z", **{name: repr(value) for name, value in settings.items()}}
    source = source_of(call, "tensor", sources)
    names = {
        "torch": torch,
        "nn": nn,
        "math": math,
        "tensor": tensor,
        "W": W,
        "E": E,
        "P": P,
        "Z": Z,
        "svd": Decompositions().svd,
    }
    torch.manual_seed(0)
    with torch.no_grad():
        exec(source, names)  # the text is the table's own
    assert not tensor.isnan().any()
    return tensor


@pytest.mark.parametrize("name", INITS)
def test_every_row_runs_and_says_what_is_certain(name: str) -> None:
    torch.set_num_threads(1)
    call = parse_init(EXAMPLES.get(name, name))
    row = INITS[name]
    shapes = {
        "copy": (6, 4),
        "norm_rows": (6,),
        "norm_cols": (4,),
        "svd_left": (6, 2),
        "svd_values": (3,),
        "svd_values_last": (3,),
    }
    shapes["quarter_turn"] = shapes["haar"] = (2, 2)
    shapes["evened"] = (3,)
    shapes |= dict.fromkeys(("random_positions", "largest", "consecutive"), (5,))
    shapes["svd_left_last"] = shapes["qr_left"] = shapes["svd_left"]
    shape = shapes.get(name, (2, 4))
    tensor = start(EXAMPLES.get(name, name), *shape)
    exact = call.exact({})
    if exact is not None:
        assert torch.equal(tensor, torch.full(shape, exact))
    again = start(EXAMPLES.get(name, name), *shape)
    assert torch.equal(tensor, again)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        exec(
            source_of(call, "t", {"W": "W", "E": "E", "P": "P", "Z": "Z"}),
            {"torch": torch, "nn": nn, "math": math, "t": torch.empty_like(tensor), "W": W, "E": E, "P": P, "Z": Z}
            | {"svd": Decompositions().svd},
        )
    assert torch.equal(before, torch.random.get_rng_state()) is not row.random
    assert tensor.is_floating_point() is not row.whole
    assert (exact is not None) == (row.exact is not None or name == "constant")


@pytest.mark.parametrize("name", [name for name, row in INITS.items() if row.axes == 2])
def test_the_least_number_of_axes_is_the_least(name: str) -> None:
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        start(EXAMPLES.get(name, name), 4)


def test_positions_are_places_in_the_weight() -> None:
    drawn = start("random_positions", 24)
    assert sorted(drawn.tolist()) == list(range(24))
    assert W.flatten()[start("largest", 3)].abs().min() >= W.abs().flatten().sort().values[-3]
    assert start({"consecutive": 7}, 3).tolist() == [7, 8, 9]
    assert start({"random_indices": 9}, 100).min() >= 0
    assert start({"random_indices": 9}, 100).max() < 9


def test_distributions() -> None:
    assert start({"normal": "std"}, 400, 400, std=0.02).std() == pytest.approx(0.02, rel=0.02)
    assert start({"normal": {"std": 0.1, "mean": 2}}, 400, 400).mean() == pytest.approx(2, rel=0.01)
    cut = start({"truncated_normal": 0.02}, 400, 400)
    assert 0.039 < cut.abs().max() <= 0.04
    even = start({"uniform": 0.1}, 400, 400)
    assert even.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.02)
    assert even.abs().max() <= 0.1
    assert start("kaiming_uniform", 8, 400).abs().max() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert torch.equal(start("kaiming_uniform", 3, 4), start({"kaiming_uniform": {"a": 5**0.5}}, 3, 4))


def test_what_is_read_from_the_host() -> None:
    assert torch.equal(start({"copy": "W"}, 6, 4), W)
    torch.testing.assert_close(start("norm_rows", 6), (W**2).sum(1).sqrt())
    torch.testing.assert_close(start("norm_cols", 4), (W**2).sum(0).sqrt())
    left, values, right = start("svd_left", 6, 4), start("svd_values", 4), start("svd_right", 4, 4)
    torch.testing.assert_close(left @ torch.diag(values) @ right, W)
    half = start({"svd_left": {"power": 0.5}}, 6, 4) @ start({"svd_right": {"power": 0.5}}, 4, 4)
    torch.testing.assert_close(half, W)
    torch.testing.assert_close(start("orthogonal", 3, 5) @ start("orthogonal", 3, 5).T, torch.eye(3))
    rows = start("vocabulary", 7, 4)
    assert all((row == E).all(1).any() for row in rows)
    assert parse_init("vocabulary").reads() == ("E",)
    assert parse_init({"copy": "attention.key.W"}).reads() == ("attention.key.W",)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("zeross", "unknown-init"),
        ({"nomal": 1}, "unknown-init"),
        ("normal", "missing-field"),
        ("constant", "missing-field"),
        ({"normal": {"mean": 1}}, "missing-field"),
        ({"zeros": 1}, "unknown-field"),
        ({"normal": {"stdd": 1}}, "unknown-field"),
        ({"normal": [1]}, "bad-value"),
        ({"normal": True}, "bad-value"),
        ({"normal": math.inf}, "bad-value"),
        ({"normal": "0.02 * x"}, "bad-value"),
        ({"copy": 3}, "bad-value"),
        ({"copy": "__import__('os')"}, "bad-value"),
        ({"normal": 1, "zeros": 1}, "bad-value"),
        ({}, "bad-value"),
        (3, "bad-value"),
        (None, "bad-value"),
    ],
)
def test_refusals(value: object, code: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        parse_init(value)
    assert error.value.type == code


def test_an_exact_start_may_come_from_a_setting() -> None:
    call = InitCall("constant", (("value", "c"),))
    assert call.exact({"c": 0}) == 0.0
    assert call.exact({"c": "text"}) is None
    assert call.settings() == (("value", "c"),)
