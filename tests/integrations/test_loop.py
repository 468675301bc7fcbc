"""A loop of one's own: on one process, with accumulated gradients, and with both kinds of gradient checkpointing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from tests.integrations.common import (
    ROWS,
    Way,
    bare,
    batches,
    host,
    optimizer,
    own,
    pairs,
    reference,
    rows,
    same,
    stand,
    values,
)

torch.set_num_threads(1)


def loop(technique: str, family: str, folder: Path) -> None:
    """Only what is attached learns, and everything of it that is used; the same again is the same bits."""
    model = host(family)
    attached = stand(model, technique)
    before = values(attached)
    trained = bare(model, attached, batches(family))
    still = {name for name, value in trained.values.items() if torch.equal(value, before[name])}
    assert all("attention.key" in name for name in still), still  # what is added to all keys alike changes no softmax
    assert {id(each) for each in model.parameters() if each.requires_grad} == {
        id(each) for each in attached.parameters()
    }
    again = reference(technique, family)
    assert again.losses == trained.losses
    same(again.values, trained.values)


def accumulation(technique: str, family: str, folder: Path) -> None:
    """Each step over parts of a batch gives what the whole batch gives."""
    model = host(family)
    attached = stand(model, technique)
    chosen, losses = optimizer(attached), []
    model.train()
    before = own(model)
    for i, each in enumerate(batches(family, ROWS // 2)):
        loss = model(**each).loss / 2
        loss.backward()
        losses.append(float(loss.detach()))
        if i % 2:
            chosen.step()
            chosen.zero_grad()
    same(own(model), before)
    measure = reference(technique, family)
    assert [a + b for a, b in zip(losses[::2], losses[1::2], strict=True)] == pytest.approx(measure.losses, rel=1e-4)
    for name, value in measure.values.items():
        torch.testing.assert_close(values(attached)[name], value, rtol=1e-4, atol=1e-5)


def checkpointing(technique: str, family: str, folder: Path) -> None:
    """Layers that run again in the backward pass give the same gradients."""
    _checkpointed(technique, family, reentrant=False)


def reentrant(technique: str, family: str, folder: Path) -> None:
    """So do they in the reentrant way, which drops the gradients of layers that nothing trained enters."""
    _checkpointed(technique, family, reentrant=True)


def _checkpointed(technique: str, family: str, reentrant: bool) -> None:
    model = host(family)
    attached = stand(model, technique)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert any(getattr(each, "gradient_checkpointing", False) for each in model.modules())
    reference(technique, family).near(bare(model, attached, batches(family)))


WAYS: dict[str, Way] = {
    "bare loop": loop,
    "gradient accumulation": accumulation,
    "gradient checkpointing": checkpointing,
    "gradient checkpointing, reentrant": reentrant,
}


@pytest.mark.parametrize(
    ("way", "technique", "family"), [(way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i)]
)
def test_it_trains(way: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[way](technique, family, tmp_path)


def test_a_reentrant_layer_gets_its_gradients_whatever_the_order() -> None:
    """Checkpointing may be on before a technique comes, and the gradient's way ends with the technique."""
    model = host("vit")
    model.activation_checkpointing_enable({"use_reentrant": True})
    reference("ia3", "vit").near(bare(model, attached := stand(model, "ia3"), batches("vit")))
    attached.detach()
    assert "forward" not in vars(model.vit.embeddings)
    assert not any("peftref" in name for name in vars(model))
    assert len(rows("vit")) == 16
