"""`torch.compile` without a graph break of ours, and `torch.export` of the merged host."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

from peftref.core.problem import PeftrefError
from tests.integrations.common import Way, batches, host, pairs, stand

torch.set_num_threads(1)


def breaks(model: torch.nn.Module, family: str) -> int:
    """How often a graph of torch is broken in a training step's forward pass."""
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: int = torch._dynamo.explain(model.train())(**next(batches(family))).graph_break_count
    return found


@cache
def alone(family: str) -> int:
    """The breaks of a host that stands alone."""
    return breaks(host(family), family)


def compiled(technique: str, family: str, folder: Path) -> None:
    """Compiled, a host with a technique has the breaks of the host alone, gives the same loss and gradients, and none of our code is warned of."""
    model = host(family)
    attached = stand(model, technique)
    given = next(batches(family))
    loss = model.train()(**given).loss
    loss.backward()
    expected = [each.grad.clone() for each in attached.parameters() if each.grad is not None]
    model.zero_grad()
    if alone(family):
        assert breaks(model, family) == alone(family)
    torch._dynamo.reset()
    made = torch.compile(model, backend="eager", fullgraph=alone(family) == 0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = made(**given).loss
    assert not [each for each in told if "peftref" in str(each.message)]
    found.backward()
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    got = [each.grad for each in attached.parameters() if each.grad is not None]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()


def exported(technique: str, family: str, folder: Path) -> None:
    """The merged host, exported, gives what the host with the technique gave; one that does not merge is exported as it is."""
    model = host(family).eval()
    attached = stand(model, technique)
    given = {key: value for key, value in next(batches(family)).items() if key != "labels"}
    if family == "t5":
        given["decoder_input_ids"] = given["input_ids"]
    with torch.no_grad():
        expected = model(**given).logits
    try:
        attached.merge()
    except PeftrefError:
        assert not attached.mergeable
    with torch.no_grad():
        program = torch.export.export(model, (), given, strict=False)
        torch.testing.assert_close(program.module()(**given).logits, expected, rtol=1e-4, atol=1e-4)


WAYS: dict[str, Way] = {"torch.compile": compiled, "torch.export": exported}


@pytest.mark.parametrize(
    ("way", "technique", "family"),
    [*((way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i + 3)), ("torch.compile", "prefix", "gpt2")],
)
def test_graphs(way: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[way](technique, family, tmp_path)
