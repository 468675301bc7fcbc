"""Rank allocation: held against peft's own allocator on the same gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.adalora.layer import RankAllocator

from benchmarks.parity import Pair, beside
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.procedures.allocate_ranks import importance
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs

SCHEDULE = {"warmup": 3, "final": 4, "interval": 2, "target": 2, "r": 5}
TOTAL = 20


def pair() -> Pair:
    return beside(build("bert"), load("adalora", **SCHEDULE))


def gradients(both: Pair, step: int) -> None:
    """The same random gradients here and in peft, and the same small move after them."""
    generator = torch.Generator().manual_seed(step)
    there = both.leaves()
    with torch.no_grad():
        for copied in both.ours.module.copies:
            own, other = both.ours.module.leaf(copied.name), there[copied.name]
            own.grad = torch.randn(own.shape, generator=generator, dtype=own.dtype)
            move = 0.1 * torch.randn(own.shape, generator=generator, dtype=own.dtype)
            own.add_(move)
            other.grad = own.grad.clone().view_as(other)
            other.add_(move.view_as(other))


def test_importance_ranks_and_values_are_those_of_peft() -> None:
    both = pair()
    config = both.theirs.peft_config["default"]
    config.total_step, config.tinit, config.tfinal, config.deltaT, config.target_r = TOTAL, 3, 4, 2, 2
    config.orth_reg_weight = 0.5
    tuner: Any = both.theirs.base_model
    tuner.rankallocator = RankAllocator(tuner.model, config, "default")
    there = both.leaves()
    taken = []
    for step in range(1, TOTAL + 1):
        gradients(both, step)
        both.ours.step(step, TOTAL)
        tuner.update_and_allocate(step)
        memory = both.ours.module.memory[0]
        for name, leaf in there.items():
            if f"average.{name}" in memory:
                key = next(key for key, value in tuner.model.named_parameters() if value is leaf)
                for ours, theirs in (("average", "exp_avg_ipt"), ("uncertainty", "exp_avg_unc")):
                    expected = getattr(tuner.rankallocator, theirs)[key]
                    torch.testing.assert_close(
                        memory[f"{ours}.{name}"].double(),
                        expected.view_as(leaf).view_as(memory[f"{ours}.{name}"]),
                        rtol=1e-5,
                        atol=1e-7,
                    )
            own = both.ours.module.leaf(name)
            torch.testing.assert_close(own, leaf.view_as(own), rtol=0, atol=0)
        taken.append(sum(int((both.ours.module.leaf(c.name) == 0).sum()) for c in both.ours.module.copies))
    sites = len(both.ours.module.placed)
    assert taken[-1] == sites * (5 - 2)
    assert taken[2] == 0


def test_the_penalty_is_that_of_peft() -> None:
    both = pair()
    tuner: Any = both.theirs.base_model
    tuner.peft_config["default"].orth_reg_weight = 0.5
    outputs = type("Output", (), {"loss": torch.zeros((), dtype=torch.double)})()
    tuner.model.forward = lambda: outputs
    assert float(torch.as_tensor(both.ours.penalty()).detach()) == pytest.approx(
        float(type(tuner).forward(tuner).loss.detach()), rel=1e-9
    )
    assert load("adalora", orthogonal=0.0).settings["orthogonal"] == 0.0


def run(attached: Attached, batch: dict[str, torch.Tensor], steps: range) -> None:
    """Plain gradient descent with the procedures of a technique."""
    for step in steps:
        torch.manual_seed(step)
        loss = (attached.model(**batch)[0] - torch.randn(2, 7, 32)).square().mean()
        attached.model.zero_grad()
        (loss + attached.penalty()).backward()
        with torch.no_grad():
            for parameter in attached.parameters():
                assert parameter.grad is not None
                parameter -= 0.5 * parameter.grad
        attached.step(step, TOTAL)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    technique = load("adalora", **SCHEDULE)
    model = build("llama")
    batch = inputs(model)
    whole = attach(model, technique)
    run(whole, batch, range(1, TOTAL + 1))
    expected = {c.name: whole.module.leaf(c.name).detach().clone() for c in whole.module.copies}
    whole.detach()
    for at in (9, TOTAL - 2):
        first = attach(model, technique)
        run(first, batch, range(1, at + 1))
        folder = first.save(tmp_path / str(at))
        first.detach()
        second = restore(model, folder)
        run(second, batch, range(at + 1, TOTAL + 1))
        for name, value in expected.items():
            torch.testing.assert_close(second.module.leaf(name), value, rtol=0, atol=0)
        second.detach()
    assert any((value == 0).any() for value in expected.values())


def test_a_finished_module_remembers_only_what_was_kept(tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load("adalora", **SCHEDULE))
    run(attached, inputs(model), range(1, TOTAL + 1))
    assert all(name.startswith("kept.") for name in attached.module.memory[0])
    assert all(value.dtype == torch.bool for value in attached.module.memory[0].values())


def test_shares_of_all_steps() -> None:
    model = build("llama")
    attached = attach(model, load("adalora", r=4, target=1, warmup=0.25, final=0.5, interval=1, orthogonal=0.0))
    batch = inputs(model)
    zero = []
    for step in range(1, 21):
        run(attached, batch, range(step, step + 1))
        zero.append(sum(int((attached.module.leaf(c.name) == 0).sum()) for c in attached.module.copies))
    assert zero[4] == 0 < zero[6] <= zero[9] == zero[19] == 3 * len(attached.module.placed)


def test_nothing_is_taken_before_a_gradient_was_seen() -> None:
    from peftref.modules.run_procedures import _work

    model = build("llama")
    attached = attach(model, load("adalora", r=4, target=1))
    attached.step(20, 20)
    work = _work(model, attached.module, 0, attached.technique.procedures[0])
    assert importance(work) == {}
