"""Techniques that come, act, merge and go in random order: at every moment the host computes what a new one with the same does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.container import Combine, Modules
from peftref.modules.merge import merge
from peftref.modules.per_sample import per_sample
from tests.hosts.families import build, inputs

torch.set_num_threads(1)
TECHNIQUES: dict[str, dict[str, Any]] = {
    "lora": {"r": 2},
    "houlsby": {"bottleneck": 3},
    "prompt": {"tokens": 2},
    "prefix": {"tokens": 3},
    "bitfit": {},
    "layernorm": {},
    "trainable_tokens": {"tokens": 5},
    "ia3": {},
    "oft": {"block": 4},
    "full": {},
}
NAMES = ("a", "b", "c")
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking, which takes minutes where every step builds hosts."""
FAMILIES = ("llama", "bert", "gpt2", "t5")
HOSTS = {family: build(family).double() for family in FAMILIES}


def look(model: PreTrainedModel) -> dict[str, Any]:
    """Everything of a host that attaching could leave a trace in."""
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "grads": {key: each.requires_grad for key, each in model.named_parameters()},
        "modules": {key: type(each) for key, each in model.named_modules()},
        "names": {key: sorted(vars(each)) for key, each in model.named_modules()},
        "hooks": {key: _hooks(each) for key, each in model.named_modules()},
        "ties": _ties(model),
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
    }


def _hooks(module: nn.Module) -> dict[str, int]:
    return {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}


def _ties(model: nn.Module) -> list[list[str]]:
    found: dict[int, list[str]] = {}
    for name, each in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(each), []).append(name)
    return list(found.values())


def randomised(handle: Attached, seed: int) -> dict[str, Tensor]:
    """The trained values of a technique, moved at random; by the order in which it gives them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in handle.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return {str(i): each.detach().clone() for i, each in enumerate(handle.parameters())}


def attempt(call: Callable[[], object]) -> set[str]:
    """The codes with which something is refused; none where it is done."""
    try:
        call()
    except PeftrefError as error:
        return {problem.code for problem in error.problems}
    return set()


class Life(RuleBasedStateMachine):
    """What a user may do with a host; beside it, the plain record of what should be there."""

    family = "llama"

    def __init__(self) -> None:
        super().__init__()
        self.model = copy.deepcopy(HOSTS[self.family])
        self.before = look(self.model)
        self.batch = inputs(self.model, rows=3, length=5)
        self.there: dict[str, tuple[str, int, dict[str, Tensor]]] = {}
        self.active: tuple[str, ...] = ()
        self.merged: set[str] = set()
        self.combine: Combine = "stack"
        self.enabled = True
        self.seed = 0

    def handle(self, name: str) -> Attached:
        return Attached(self.model, name)

    @rule(name=st.sampled_from(NAMES), technique=st.sampled_from(sorted(TECHNIQUES)))
    def come(self, name: str, technique: str) -> None:
        if name in self.there:
            with pytest.raises(PeftrefError, match="name-taken"):
                attach(self.model, load("lora"), name)
            return
        self.seed += 1
        if not self.there:
            self.combine = "stack"
            self.enabled = True
        if not self.enabled:
            self.handle(next(iter(self.there))).enable()
            self.enabled = True
        handle = attach(self.model, load(technique, **TECHNIQUES[technique]), name, seed=self.seed, dtype=torch.double)
        self.there[name] = (technique, self.seed, randomised(handle, self.seed))
        self.active = (name,)

    @precondition(lambda self: self.there)
    @rule(chosen=st.lists(st.sampled_from(NAMES), unique=True), combine=st.sampled_from(["stack", "sum"]))
    def switch(self, chosen: list[str], combine: Combine) -> None:
        refused = attempt(lambda: set_active(self.model, chosen, combine))
        assert refused <= {"detached", "tuned-twice", "stack-order", "merge-order", "tied-weight"}
        assert ("detached" in refused) == (not set(chosen) <= self.there.keys())
        if not refused:
            self.active, self.combine = tuple(chosen), combine

    @precondition(lambda self: self.there)
    @rule(chosen=st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    def fold(self, chosen: list[str]) -> None:
        refused = attempt(lambda: merge(self.model, chosen, untie=True))
        assert refused <= {"detached", "not-mergeable", "merge-order"}
        if not refused:
            self.merged |= set(chosen)

    @precondition(lambda self: self.merged)
    @rule(data=st.data())
    def unfold(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.merged)))
        refused = attempt(self.handle(name).unmerge)
        assert refused <= {"merge-order"}
        if not refused:
            self.merged.discard(name)

    @precondition(lambda self: self.there)
    @rule(enabled=st.booleans())
    def turn(self, enabled: bool) -> None:
        handle = self.handle(next(iter(self.there)))
        (handle.enable if enabled else handle.disable)()
        self.enabled = enabled

    @precondition(lambda self: self.there)
    @rule()
    def look_without(self) -> None:
        with torch.no_grad(), self.handle(next(iter(self.there))).disabled():
            assert torch.equal(self.model(**self.batch)[0], HOSTS[self.family](**self.batch)[0])

    @precondition(lambda self: self.there and self.enabled)
    @rule(data=st.data())
    def mix(self, data: st.DataObject) -> None:
        free = [name for name, (technique, _, _) in sorted(self.there.items()) if technique != "full"]
        names = data.draw(st.lists(st.sampled_from([None, *free]), min_size=3, max_size=3))
        with torch.no_grad():
            with per_sample(self.model, names):
                mixed = self.model(**self.batch)[0]
            for i, name in enumerate(names):
                alone = self.fresh((name,) if name else (), "stack")
                torch.testing.assert_close(mixed[i], alone(**self.batch)[0][i], rtol=1e-8, atol=1e-8)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.there)))
        self.handle(name).detach()
        del self.there[name]
        self.active = tuple(each for each in self.active if each != name)
        self.merged.discard(name)
        if not self.there:
            self.clean()

    def fresh(self, active: tuple[str, ...], combine: Combine) -> PreTrainedModel:
        """A new host with the same techniques, active from the start and never merged."""
        model = copy.deepcopy(HOSTS[self.family])
        for name in active:
            technique, seed, values = self.there[name]
            handle = attach(model, load(technique, **TECHNIQUES[technique]), name, seed=seed, dtype=torch.double)
            with torch.no_grad():
                for parameter, value in zip(handle.parameters(), values.values(), strict=True):
                    parameter.copy_(value)
        if active:
            set_active(model, active, combine)
        return model

    @invariant()
    def same(self) -> None:
        acting = self.active if self.enabled else ()
        with torch.no_grad():
            found = self.model(**self.batch)[0]
            expected = self.fresh(acting, self.combine)(**self.batch)[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
        modules = self.model._modules.get("peftref")
        assert (modules.merged if isinstance(modules, Modules) else ()) or not self.merged

    def clean(self) -> None:
        """The host is as it was."""
        after = look(self.model)
        assert after.keys() == self.before.keys()
        for part, value in self.before.items():
            if part == "state":
                assert after[part].keys() == value.keys()
                assert all(torch.equal(each, value[key]) for key, each in after[part].items())
            else:
                assert after[part] == value, part

    def teardown(self) -> None:
        for name in list(self.there):
            self.handle(name).detach()
        self.clean()


@pytest.mark.parametrize(("first", "second"), [("prefix", "prompt"), ("prompt", "trainable_tokens")])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_found(family: str, first: str, second: str) -> None:
    """A prompt that came to a stack that another tap stood at did not enter; one beside changed tokens ended in a KeyError."""
    life = type(f"Life{family}", (Life,), {"family": family})()
    for name, technique in (("a", first), ("b", second)):
        life.come(name, technique)
        life.same()
    life.switch(["a", "b"], "stack")
    life.same()
    life.teardown()


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_done_the_host_is_as_a_new_one(family: str) -> None:
    machine = type(f"Life{family}", (Life,), {"family": family})
    given = settings(
        max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES
    )
    run_state_machine_as_test(machine, settings=given)
