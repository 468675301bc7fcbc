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
from tests.double import in_double
from tests.parity.adapters.hosts import FIXTURES, batch, host
from tests.tolerance import close

CASES = sorted(path.parent.relative_to(FIXTURES).as_posix() for path in FIXTURES.glob("*/*/expected.safetensors"))
MOVING = {"dora"}
"""What adapters takes a gradient through, and the paper holds constant."""
WHOLE = {"vera"}
"""What adapters trains as whole matrices, and the paper as their diagonals."""


def backward(model: Any, family: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, after a backward pass, and the gradient of the embedding matrix or of the image, all in double precision."""
    given = batch(family)
    images = "pixel_values" in given
    entering = (given["pixel_values"] if images else model.get_input_embeddings().weight).requires_grad_(True)
    with in_double():
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
    model, expected = host(family), load_file(FIXTURES / case / "expected.safetensors")
    with torch.no_grad():
        before = model(**batch(family))[0]
    attached = read_adapters(FIXTURES / case, model)
    if name in MOVING:
        attached = with_moving_length(attached, model)
    ours, theirs = sum(each.numel() for each in attached.parameters()), int(expected["trained"])
    assert ours < theirs if name in WHOLE else ours == theirs
    out, entering = backward(model, family)
    close(out, expected["output"], elsewhere=True)
    assert (out - before).abs().max() > 1e-4
    close(entering, expected["input"], elsewhere=True)
    for leaf, (here, there) in gradients(attached, family, expected).items():
        close(here, there, elsewhere=True, msg=lambda text, leaf=leaf: f"{leaf}: {text}")


@pytest.mark.parametrize("case", CASES)
def test_another_formula_is_not_near(case: str) -> None:
    """What is allowed for rounding is far below what a wrong formula changes: one leaf, a millionth off."""
    family, _ = case.split("/")
    model, expected = host(family), load_file(FIXTURES / case / "expected.safetensors")
    attached = read_adapters(FIXTURES / case, model)
    with torch.no_grad():
        leaf = next(attached.parameters())
        leaf.add_(leaf.roll(1, -1), alpha=1e-6)  # and not a multiple: LoReFT takes the directions alone
    out, _ = backward(model, family)
    with pytest.raises(AssertionError, match="not close"):
        close(out, expected["output"], elsewhere=True)
