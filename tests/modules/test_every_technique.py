"""The whole life of every technique in the catalog: counted, attached, trained, saved, brought back, merged, taken off."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from peftref.analyse.count import count
from peftref.analyse.identity import identity
from peftref.design.load import load, techniques
from peftref.modules.attach import attach
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs
from tests.small import small

NAMES = [each.name for each in techniques() if each.insert or each.tune == "all"]
"""Without what trains a task head alone, of which a plain host has none."""
TOLERANCE = {"yes": 2e-5, "near": 0.05}


BARE = (
    "boft",
    "dora",
    "fourierft",
    "gated_lora",
    "hira",
    "houlsby",
    "hra",
    "ia3",
    "loha",
    "lora",
    "oft",
    "pissa",
    "tiny_attention",
    "vera",
)
"""Of each kind one, on a host whose projections are no modules."""


@pytest.mark.parametrize(("name", "family"), [*product(NAMES, ["llama", "bert"]), *product(BARE, ["xlnet"])])
def test_a_whole_life(name: str, family: str, tmp_path: Path) -> None:
    technique = small(load(name))
    model, batch = build(family), inputs(build(family))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        base = model(**batch)[0]
    attached = attach(model, technique, batches=[batch])
    trained = list(attached.parameters())
    assert sum(parameter.numel() for parameter in trained) == count(technique, model).trained
    start = model(**batch)[0]
    bound = TOLERANCE.get(identity(technique).answer)
    assert bound is None or (start - base).abs().max() <= bound
    out = _trained(model, batch, trained)
    folder = attached.save(tmp_path / "module")
    if attached.mergeable:
        attached.merge()
        torch.testing.assert_close(model(**batch)[0], out, rtol=1e-3, atol=1e-4)
        attached.unmerge()
    attached.detach()
    assert set(model.state_dict()) == set(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    again = restore(model, folder)
    torch.testing.assert_close(model(**batch)[0], out, rtol=0, atol=1e-6)
    again.detach()
    torch.testing.assert_close(model(**batch)[0], base, rtol=0, atol=0)


def _trained(model: torch.nn.Module, batch: dict[str, torch.Tensor], trained: list[torch.nn.Parameter]) -> torch.Tensor:
    """The output after a few steps, in which every trained number that can move has moved."""
    optimizer = torch.optim.AdamW(trained, lr=0.02, weight_decay=0.0)
    torch.manual_seed(3)
    before = [parameter.detach().clone() for parameter in trained]
    model.train()
    for _ in range(3):
        output = model(**batch)[0]
        loss = (output - torch.randn_like(output)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    moved = [(a - b).abs().max() > 0 for a, b in zip(trained, before, strict=True)]
    assert sum(moved) >= 0.8 * len(moved), "leaves that do not learn"
    assert all(torch.isfinite(parameter).all() for parameter in trained)
    with torch.no_grad():
        found: torch.Tensor = model(**batch)[0]
    return found
