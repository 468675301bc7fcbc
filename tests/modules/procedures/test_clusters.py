"""Allocation of clusters: held against peft's own on the same gradients, save that peft keeps one fewer than it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.restore import restore
from tests.hosts.families import inputs
from tests.modules.procedures.test_from_data import moved
from tests.modules.procedures.test_ranks import run

TOTAL = 24
SCHEDULE: dict[str, Any] = {"n": 8, "k": 3, "r": 2, "target": 1, "warmup": 4, "final": 4, "interval": 8}


def test_the_clusters_that_rest_are_those_of_peft() -> None:
    pytest.importorskip("sklearn")
    from peft import get_peft_model
    from peft.tuners.adamss import AdamssConfig

    model = moved("bert")
    config = AdamssConfig(
        r=8, num_subspaces=3, subspace_rank=2, target_modules=["query", "value"], init_weights=None, use_asa=True,
        asa_target_subspaces=4, init_warmup=4, final_warmup=TOTAL - 4, mask_interval=8,
    )  # fmt: skip
    theirs = get_peft_model(moved("bert"), config)
    tuner: Any = theirs.base_model
    schedule = tuner._schedule_threshold
    tuner._schedule_threshold = lambda step, config: schedule(step, config) + 1
    attached = attach(model, load("adamss", **SCHEDULE))
    layers = {each.site.name: tuner.model.get_submodule(each.site.path) for each in attached.module.placed}
    leaves = {name: {leaf: attached.module.leaf(f"{name}.{leaf}") for leaf in ("A", "B", "at")} for name in layers}
    with torch.no_grad():
        for name, layer in layers.items():
            for number, rows in layer.seg_result["default"].items():
                leaves[name]["at"][rows] = number
    kept = []
    for step in range(1, TOTAL + 1):
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for name, layer in layers.items():
                for leaf in ("A", "B"):
                    own = leaves[name][leaf]
                    own.grad = torch.randn(own.shape, generator=generator)
                    own -= 0.1 * own.grad
                    if step == 1:
                        own.copy_(torch.randn(own.shape, generator=generator))
                    for number, rows in layer.seg_result["default"].items():
                        other = getattr(layer, f"adamss_{leaf}")["default"][number]
                        part = number if leaf == "A" else rows
                        if step == 1:
                            other.copy_(own[part])
                        elif other.requires_grad:
                            other -= 0.1 * own.grad[part]
                        other.grad = own.grad[part].clone() if other.requires_grad else None
        attached.step(step, TOTAL)
        tuner.update_and_allocate(step)
        active = 0
        for name, layer in layers.items():
            for number, rows in layer.seg_result["default"].items():
                active += layer.adamss_A["default"][number].requires_grad
                for leaf, part in (("A", number), ("B", rows)):
                    other = getattr(layer, f"adamss_{leaf}")["default"][number]
                    torch.testing.assert_close(leaves[name][leaf][part], other, rtol=1e-5, atol=1e-6)
        kept.append(active)
    assert kept[0] == 12
    assert kept[-1] == 4
    assert attached.module.memory[1] == {}


def test_an_interrupted_allocation_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    model = moved("llama")
    batch = inputs(model)
    ends = []
    for at in (20, 9, 17):
        attached = attach(model, load("adamss", **SCHEDULE))
        run(attached, batch, range(1, at + 1))
        folder = attached.save(tmp_path / str(at))
        attached.detach()
        again = restore(model, folder)
        run(again, batch, range(at + 1, 21))
        ends.append({c.name: again.module.leaf(c.name).detach().clone() for c in again.module.copies})
        again.detach()
    for name, value in ends[0].items():
        assert all(torch.equal(value, other[name]) for other in ends[1:])


def test_nothing_rests_where_all_may_learn() -> None:
    model = moved("llama")
    attached = attach(model, load("adamss", **SCHEDULE | {"target": 3}))
    run(attached, inputs(model), range(1, 10))
    assert attached.module.memory[1] == {}
