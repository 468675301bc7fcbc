"""Precisions and modes: autocast, a host in half, `to`, `train` and `eval`; single and half on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.integrations.common import (
    HOSTS,
    TECHNIQUES,
    Way,
    bare,
    batches,
    host,
    optimizer,
    pairs,
    reference,
    stand,
    values,
)  # fmt: skip

torch.set_num_threads(1)


def autocast(technique: str, family: str, folder: Path) -> None:
    """Under autocast to bfloat16 the leaves learn in single precision, near what they learn without."""
    model = host(family)
    attached = stand(model, technique)
    with torch.autocast("cpu", torch.bfloat16):
        trained = bare(model, attached, batches(family))
    assert {each.dtype for each in attached.parameters()} == {torch.float32}
    measure = reference(technique, family)
    assert trained.losses == pytest.approx(measure.losses, rel=0.03, abs=0.03)
    _learned_alike(technique, family, trained.values, measure.values)


def half(technique: str, family: str, folder: Path) -> None:
    """A host that is turned into bfloat16 with what is attached runs, and learns near what it learns in single precision."""
    model = host(family)
    attached = stand(model, technique)
    model.to(torch.bfloat16)
    given = [
        {key: each.bfloat16() if each.is_floating_point() else each for key, each in one.items()}
        for one in batches(family)
    ]
    trained = bare(model, attached, given)
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
    assert trained.losses == pytest.approx(reference(technique, family).losses, rel=0.05, abs=0.05)
    model(**given[0]).loss.backward()  # steps may be too small to be seen in half, gradients are not
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in attached.parameters())
    model.half()
    assert {each.dtype for each in attached.parameters()} == {torch.float16}
    with torch.no_grad():
        one = next(batches(family))
        one = {key: each.half() if each.is_floating_point() else each for key, each in one.items()}
        assert torch.isfinite(model.eval()(**one).loss)
    model.float()
    assert {each.dtype for each in attached.parameters()} == {torch.float32}


def modes(technique: str, family: str, folder: Path) -> None:
    """`train` and `eval` go through; what a loop computes in between to evaluate changes nothing that is learnt."""
    model = host(family)
    attached = stand(model, technique)
    chosen = optimizer(attached)
    for each in batches(family):
        model.eval()
        assert not attached.module.training
        with torch.no_grad():
            one, other = (model(**each).logits for _ in range(2))
        assert torch.equal(one, other)
        model.train()
        assert attached.module.training
        model(**each).loss.backward()
        chosen.step()
        model.zero_grad()
        with torch.no_grad():
            model.to("cpu", torch.float64).to(torch.float32)
    for name, value in reference(technique, family).values.items():
        torch.testing.assert_close(values(attached)[name], value, rtol=1e-5, atol=1e-6)


def _learned_alike(
    technique: str, family: str, found: dict[str, torch.Tensor], measure: dict[str, torch.Tensor]
) -> None:
    """Whether what was learnt points where it does in single precision."""
    before = values(stand(host(family), technique))
    one, other = (
        torch.cat([(each[name] - before[name]).flatten() for name in sorted(before)]) for each in (found, measure)
    )
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.98


def on_gpu(technique: str, family: str, dtype: torch.dtype) -> None:
    """Training on a GPU under autocast, with a scaler of gradients where the numbers need one."""
    model = host(family).cuda()
    attached = stand(model, technique)
    chosen, scaler = optimizer(attached), torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
    measure, losses = reference(technique, family), []
    model.train()
    for each in batches(family):
        with torch.autocast("cuda", dtype):
            loss = model(**{key: value.cuda() for key, value in each.items()}).loss
        scaler.scale(loss).backward()
        scaler.step(chosen)
        scaler.update()
        chosen.zero_grad()
        losses.append(float(loss.detach()))
    assert losses == pytest.approx(measure.losses, rel=0.05, abs=0.05)
    assert all(torch.isfinite(each).all() for each in attached.parameters())


WAYS: dict[str, Way] = {"autocast, bfloat16": autocast, "host in half": half, "train, eval, to": modes}


@pytest.mark.parametrize(
    ("way", "technique", "family"), [(way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i + 1)]
)
def test_it_trains(way: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[way](technique, family, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_it_trains_on_a_gpu(technique: str, family: str, dtype: torch.dtype) -> None:
    on_gpu(technique, family, dtype)
