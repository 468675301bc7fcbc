"""What peftref keeps on a host: the attached techniques by name, which of them act and how, and the taps at which they act."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from peftref.analyse.merge import Blocked, merge_rule
from peftref.core.interrupts import uninterrupted
from peftref.core.problem import fail
from peftref.design.placement import Placement
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.modules.compile.module import Inserted
from peftref.modules.merging import Merging
from peftref.modules.order import refuse_order
from peftref.modules.originals import give_back, original
from peftref.modules.run_procedures import refuse_waiting
from peftref.modules.running.bare import module_at
from peftref.modules.running.checkpointing import Entrances
from peftref.modules.running.core import CoreTap
from peftref.modules.running.flow import Flow
from peftref.modules.running.hold import HELD, Hold
from peftref.modules.running.keys import Keys
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.positions import PositionTap
from peftref.modules.running.run import Run
from peftref.modules.running.samples import Part, Samples
from peftref.modules.running.stack import StackTap
from peftref.modules.running.tap import Tap
from peftref.modules.tie import Ties
from peftref.modules.tuned import Tuned

CONTAINER = "peftref"
Combine = Literal["stack", "sum"]


class _Removable(Protocol):
    def remove(self) -> None: ...


class Modules(nn.Module):
    """The attached techniques of one host; stands in the host's module tree under the name `peftref`."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.combine: Combine = "stack"
        self.tuned: dict[str, Tuned] = {}
        self.merged: tuple[str, ...] = ()
        self.unmerged: dict[str, Tensor] = {}
        self.ties = Ties()
        self.untie: frozenset[str] = frozenset()
        self.frozen: dict[str, bool] = {}
        self.live: dict[str, LiveSite] = {}
        self.flows: dict[str, Flow] = {}
        self.taps: dict[str, _Removable] = {}

    def inserted(self) -> dict[str, Inserted]:
        """The attached techniques by name, in the order in which they came."""
        return {name: module for name, module in self._modules.items() if isinstance(module, Inserted)}

    def runs(self, live: LiveSite) -> list[Run]:
        """The runs that act at a site now: those of the active techniques, or of those chosen for samples of the batch."""
        if not self.enabled:
            return []
        flow = live.flow
        acting = flow.samples.chosen if flow.samples else [name for name in self.active if name not in self.merged]
        for name in acting:
            inserted = self._modules[name]
            if isinstance(inserted, Inserted) and inserted.waiting and inserted.training and torch.is_grad_enabled():
                refuse_waiting(inserted)
        parts = {name: Part(flow.samples, name, flow) if flow.samples else None for name in acting}
        return [run.on(part) if part else run for name, part in parts.items() for run in live.by_name.get(name, ())]

    def at(self, site: Site) -> LiveSite:
        """A site as it is on this host."""
        if site.name not in self.live:
            self.live[site.name] = LiveSite(site, self.runs, self.flow(site.stack))
        return self.live[site.name]

    def forget(self, name: str) -> None:
        """Takes a technique out of the container."""
        del self._modules[name]
        for live in self.live.values():
            live.by_name.pop(name, None)

    def flow(self, stack: str) -> Flow:
        """What is known of the running call of a stack."""
        if stack not in self.flows:
            found = self.host.stack(stack)
            self.flows[stack] = Flow(causal=found.causal, layers=found.n_layers)
        return self.flows[stack]

    def tap(self, model: nn.Module, name: str, placement: Placement, mixes: bool) -> None:
        """Makes sure that a placement of a technique has its tap. mixes: whether its module needs to know the running call."""
        site = placement.site
        live = self.at(site)
        live.by_name[name] = self.inserted()[name].at(site)
        if f"entrances {site.stack}" not in self.taps:
            self.taps[f"entrances {site.stack}"] = Entrances(model, self.host, site.stack)
        for run in live.by_name[name]:
            run.siblings = self._siblings(model, site, run)
            if run.alone is not None:
                run.alone.siblings = run.siblings
        if site.kind == "core" and site.form == "cache":
            stack = self._stack(model, site.stack)
            stack.keys = stack.keys or Keys(stack.entry, partial(self._counted, site.stack))
            stack.keys.add(live, model.get_submodule(site.path))
        elif site.kind == "core":
            if f"core {site.name}" not in self.taps:
                self.taps[f"core {site.name}"] = CoreTap(module_at(model, site.path), live)
            if placement.insertion.counted and f"positions {site.stack}" not in self.taps:
                counted = self.host.stack(site.stack)
                self.taps[f"positions {site.stack}"] = PositionTap(model, counted, partial(self._counted, counted.name))
        elif site.kind == "sequence" and "h" in placement.values:
            grown = self.host.stack(site.stack)
            reader = self.host.stack(grown.feeds) if grown.feeds else None
            self._stack(model, site.stack).lengthen(model, live, grown, reader)
        else:
            self._output(model, live)
        if mixes or placement.effect.carries:
            self._stack(model, site.stack).mixes |= mixes

    def choose(self, model: nn.Module, samples: Samples | None) -> None:
        """Tells every stack which technique acts on which sample, or that the active ones act on all."""
        for stack in self.host.stacks:
            self._stack(model, stack.name)
            self.flow(stack.name).samples = samples

    @property
    def samples(self) -> Samples | None:
        """Which technique acts on which sample, where that was told."""
        return next((flow.samples for flow in self.flows.values()), None)

    def refuse_chosen(self) -> None:
        """Raises PeftrefError `samples-chosen` while techniques are chosen for samples."""
        if self.samples is not None:
            text = "techniques are chosen for the samples of a batch now"
            raise fail("samples-chosen", text, hint="leave `with peftref.per_sample(...)` first")

    def settle(self, model: nn.Module) -> None:
        """Puts into the host the trained values and the merged changes of the techniques that act, and takes out the others'."""
        with uninterrupted():
            self.put_trained(model)
            self.put_merged(model)

    @torch.no_grad()
    def put_trained(self, model: nn.Module) -> None:
        """The host's own weights, and the trained values of the techniques that act; nothing is merged."""
        acting = set(self.active) if self.enabled else set()
        self.ties.tie(model)
        for name, value in self.unmerged.items():
            give_back(model.get_parameter(name), value)
        self.unmerged.clear()
        for inside in (False, True):
            for name, tuned in self.tuned.items():
                if (name in acting) == inside:
                    tuned.swap(model, inside=inside)

    def put_merged(self, model: nn.Module) -> None:
        """The changes of the merged techniques that act, into a host into which nothing is merged."""

        def keep(name: str) -> None:
            self.unmerged[name] = original(model.get_parameter(name))

        merging = Merging(model, self.combine)
        merged = [name for name in self.active if self.enabled and name in self.merged]
        for name in merged:
            merging.add(self.inserted()[name])
        merging.write(keep, self.ties, untie=bool(self.untie.intersection(merged)))

    def refuse_order(self) -> None:
        """Raises PeftrefError `merge-order` where a merged technique would act on what one gives that is not merged."""
        acting = [(self.inserted()[name], name in self.merged) for name in self.active]
        refuse_order(acting, self.combine)

    def refuse_stack(self) -> None:
        """Raises PeftrefError `stack-order` where one reads the weight that others before it make, and these are not linear."""
        before: dict[str, tuple[str, Blocked]] = {}
        for name in self.active if self.combine == "stack" else ():
            module = self.inserted()[name]
            for site, runs in module.runs.items():
                if site in before and any(run.replaces_map for run in runs):
                    first, why = before[site]
                    text = f"{name} reads the weight of {site}, and {first}, which acts before it, is no linear map: {why.show()}"
                    raise fail("stack-order", text, hint=f"put {name} first, or combine them as a sum")
            for placement in module.placed:
                rule = merge_rule(placement.insertion, placement.effect)
                if placement.site.kind == "linear" and isinstance(rule, Blocked):
                    before.setdefault(placement.site.name, (name, rule))

    def take_off(self, model: nn.Module, name: str) -> None:
        """Takes a technique off the host; with the last one, all that peftref keeps there."""
        self.merged = tuple(each for each in self.merged if each != name)
        self.active = tuple(each for each in self.active if each != name)
        self.untie -= {name}
        self.tuned.pop(name, None)
        self.forget(name)
        if not self.inserted():
            self.clear(model)

    def clear(self, model: nn.Module) -> None:
        """Takes everything off the host."""
        for tap in self.taps.values():
            tap.remove()
        del model._modules[CONTAINER]
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(self.frozen.get(key, parameter.requires_grad))

    def refuse_overlap(self, names: Iterable[str]) -> None:
        """Raises PeftrefError `tuned-twice` where two techniques would train the same parameter of the host at the same time."""
        owner: dict[str, str] = {}
        for name in names:
            for parameter in self.tuned[name].names if name in self.tuned else ():
                if parameter in owner:
                    text = f"{owner[parameter]} and {name} both hold values for {parameter}"
                    raise fail("tuned-twice", text, hint="make one of them active at a time")
                owner[parameter] = name

    def _counted(self, stack: str, count: int) -> int | Tensor:
        """After how many rows in front of the keys the tokens of a stack are counted; for each of so many samples, [count, 1]."""
        if not self.enabled:
            return 0
        samples = self.flow(stack).samples
        if samples is None:
            return sum(self.inserted()[name].counted[stack] for name in self.active if name not in self.merged)
        rows = samples.spread({name: self.inserted()[name].counted[stack] for name in samples.chosen}, count)
        return rows[:, None] if len(rows.unique()) > 1 else int(rows[0])

    def _siblings(self, model: nn.Module, site: Site, run: Run) -> dict[str, tuple[Site, nn.Module]]:
        found = {}
        for slot in {name.rpartition(".")[0] for name in run.reads if "." in name}:
            name = site.name.removesuffix(site.slot) + slot
            sibling = next((each for each in self.host.sites if each.name == name and each.within == site.within), None)
            if sibling is None:
                raise fail("slot-absent", f"{self.host.name} has no {name}, which is read at {site.name}")
            found[slot] = (sibling, module_at(model, sibling.path))
        return found

    def _stack(self, model: nn.Module, stack: str) -> StackTap:
        key = f"stack {stack}"
        if key not in self.taps:
            self.taps[key] = StackTap(model, self.host.stack(stack), self.flow(stack))
        found = self.taps[key]
        assert isinstance(found, StackTap)
        return found

    def _output(self, model: nn.Module, live: LiveSite) -> None:
        site = live.site
        if site.path not in self.taps:
            self.taps[site.path] = Tap(module_at(model, site.path), lambda: self.combine, site.tokens_first)
        tap = self.taps[site.path]
        assert isinstance(tap, Tap)
        tap.add(live, model)
        for name in (each for each in HELD if site.kind == "sublayer" and each in site.ports):
            if f"{name} {site.name}" not in self.taps:
                self.taps[f"{name} {site.name}"] = Hold(model, live, name)


def container(model: nn.Module) -> Modules:
    """What peftref keeps on a host; raises PeftrefError `detached` where nothing is attached."""
    found = model._modules.get(CONTAINER)
    if not isinstance(found, Modules):
        raise fail("detached", "nothing is attached to this host")
    return found


def inserted(model: nn.Module, name: str) -> Inserted:
    """The torch module of an attached technique; raises PeftrefError `detached` where it is not attached."""
    found = container(model)._modules.get(name)
    if not isinstance(found, Inserted):
        raise fail("detached", f"{name} is not attached to this host any more")
    return found
