"""What adapters 1.3 computed, as tests/parity/adapters has it: same parameters in, same counts, outputs and gradients out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftref.exchange.adapters.form import places
from peftref.exchange.adapters.library import library
from peftref.exchange.adapters.read import read_adapters
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.leaves import put_leaves
from tests.parity.adapters.hosts import FIXTURES, batch, host
from tests.tolerance import rounding

CASES = sorted(path.parent.relative_to(FIXTURES).as_posix() for path in FIXTURES.glob("*/*/expected.safetensors"))
TERMS, LAYERS = 24, 4
"""The longest sums of the tiny hosts, and their layers, forward and backward."""
INSIDE = {"llama": torch.float32, "vit": torch.float32, "t5": torch.float32}
"""Hosts that compute their softmax, norms or rotations in single precision whatever type they have."""
EARLIER = {"t5": 1e-5}
"""Hosts whose transformers 4, which made the fixtures, computes something else in single precision than transformers 5."""


def tolerance(family: str) -> float:
    """How near what a host computes here comes to what it computed where the fixtures were made."""
    exact = rounding(torch.float64, TERMS, LAYERS)
    return max(1e-9, exact, rounding(INSIDE.get(family, torch.float64), TERMS, LAYERS), EARLIER.get(family, 0.0))


MOVING = {"dora"}
"""What adapters takes a gradient through, and the paper holds constant."""
WHOLE = {"vera"}
"""What adapters trains as whole matrices, and the paper as their diagonals."""


def close(ours: torch.Tensor | None, theirs: torch.Tensor, bound: float, what: str = "") -> None:
    """Holds two tensors against each other, by the largest number there."""
    assert ours is not None, what
    scale = max(1.0, theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound * scale, msg=lambda text: f"{what}: {text}")


def backward(model: Any, family: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, after a backward pass, and the gradient of the embedding matrix or of the image."""
    given = batch(family)
    images = "pixel_values" in given
    entering = (given["pixel_values"] if images else model.get_input_embeddings().weight).requires_grad_(True)
    out: torch.Tensor = model(**given)[0]
    (out * torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert entering.grad is not None
    return out.detach(), entering.grad


def of_columns(columns: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """The gradient of a matrix with orthonormal columns, from that of the columns that Gram and Schmidt make of it.

    With P = Q, dP = dQ + Q dR, and dR is the upper triangle of O = Q.T dP, the lower one added to it turned over.
    """
    turned = columns.T @ slope
    return slope - columns @ (turned.triu() + turned.T.tril(-1))


def gradients(attached: Attached, family: str, expected: dict[str, torch.Tensor]) -> dict[str, tuple[Any, Any]]:
    """For every trained leaf its gradient here and there, both as the leaf lies."""
    base, found = library().families[family].base, {}
    for name, place in places(attached.technique, attached.modules.host, "small").items():
        leaf = attached.module.leaf(name)
        if not leaf.requires_grad:
            continue
        key = f"gradient.{place.key}"
        whole = expected[key] if key in expected else expected[f"gradient.{base}.{place.key}"]
        theirs = place.layout.take(whole.contiguous(), tuple(leaf.shape), place.layer, place.layers)
        found[name] = (leaf.grad, of_columns(leaf.detach(), theirs) if place.orthonormal else theirs)
    return found


def with_moving_length(attached: Attached, model: Any) -> Attached:
    """The module with a gradient through what its equation holds constant, as adapters has it."""
    technique, tensors = (
        attached.technique,
        {copy.name: attached.module.leaf(copy.name) for copy in attached.module.copies},
    )
    inserts = [
        each.model_copy(update={"equation": each.equation.replace("stop_gradient", "")}) for each in technique.insert
    ]
    attached.detach()
    again = attach(model, technique.model_copy(update={"insert": tuple(inserts)}))
    put_leaves(again, tensors)
    return again


@pytest.mark.parametrize("case", CASES)
def test_counts_outputs_and_gradients(case: str) -> None:
    family, name = case.split("/")
    bound = tolerance(family)
    model, expected = host(family), load_file(FIXTURES / case / "expected.safetensors")
    with torch.no_grad():
        before = model(**batch(family))[0]
    attached = read_adapters(FIXTURES / case, model)
    if name in MOVING:
        attached = with_moving_length(attached, model)
    ours, theirs = sum(each.numel() for each in attached.parameters()), int(expected["trained"])
    assert ours < theirs if name in WHOLE else ours == theirs
    out, entering = backward(model, family)
    close(out, expected["output"], bound)
    assert (out - before).abs().max() > 1e-4
    close(entering, expected["input"], bound)
    for leaf, (here, there) in gradients(attached, family, expected).items():
        close(here, there, bound, leaf)


@pytest.mark.parametrize("family", sorted({case.split("/")[0] for case in CASES}))
def test_another_formula_is_not_near(family: str) -> None:
    """What is allowed for rounding is far below what the least change of a formula makes: one leaf, a hundredth off."""
    names = [case.split("/")[1] for case in CASES if case.startswith(f"{family}/")]
    folder = FIXTURES / family / ("lora" if "lora" in names else names[0])
    model, expected = host(family), load_file(folder / "expected.safetensors")
    attached = read_adapters(folder, model)
    with torch.no_grad():
        next(attached.parameters()).mul_(1.01)
    out, _ = backward(model, family)
    with pytest.raises(AssertionError):
        close(out, expected["output"], tolerance(family))
