"""A host: a pretrained transformer seen as stacks of sites. Plain immutable data, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import PeftrefError, Problem, nearest
from peftref.host.architecture import ARCHITECTURE, WORDS
from peftref.host.site import Site


@dataclass(frozen=True)
class Stack:
    """A stack of layers: its name, its role-independent sizes, whether it is causal, and the module that owns its layers.

    entry: path of the module that takes `inputs_embeds` (or pixels) and runs the stack; exit: path of the module whose
    output is the sequence after the last layer. sizes holds d_model, n_layers, n_heads, n_kv_heads, d_head, d_value, d_ff
    where all layers agree, and vocab where the stack embeds tokens.
    """

    name: str
    n_layers: int
    causal: bool
    sizes: Mapping[str, int]
    layers_path: str
    entry: str
    exit: str
    feeds: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", FrozenMap(self.sizes))

    def __deepcopy__(self, memo: object) -> Stack:
        return self


@dataclass(frozen=True)
class Host:
    """A host: name, model type, stacks, every resolved site, what it lacks and why, and how many parameters it has.

    left_out: inputs of the model that could not be followed, and why; what reads them alone is no stack here. parameters counts the backbone
    without a task head, tied tensors once; head_parameters the head where the class has one.
    """

    name: str
    model_type: str
    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]
    lacks: Mapping[str, str]
    parameters: int
    head_parameters: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lacks", "left_out"):
            object.__setattr__(self, name, FrozenMap(getattr(self, name)))

    def __deepcopy__(self, memo: object) -> Host:
        return self

    def stack(self, name: str) -> Stack:
        """The stack of a name; KeyError where there is none."""
        for stack in self.stacks:
            if stack.name == name:
                return stack
        raise KeyError(name)

    def slots(self) -> tuple[str, ...]:
        """The slots that this host has, in the order of the reference architecture."""
        present = {site.slot for site in self.sites}
        return tuple(name for name in ARCHITECTURE.names() if name in present)

    def select(self, slots: Iterable[str], stacks: Iterable[str] | None = None) -> tuple[Site, ...]:
        """The sites of some slots, in the host's order; every slot must match something.

        `linear` and `norm` stand for all slots of that kind, and `attention.query` for that of self and of cross attention; a host
        needs to have one of them only.
        Among the stacks, `last` is the one that runs last, whose output is the model's.
        A slot may carry its stack in front (`decoder.attention.query`). `embedding` without a stack is the embedding of the
        input: the first stack's. Raises PeftrefError `slot-absent` for a slot that this host does not have.
        """
        within = None if stacks is None else {self.stacks[-1].name if each == "last" else each for each in stacks}
        chosen: dict[str, Site] = {}
        problems: list[Problem] = []
        for wanted in slots:
            stack, slot = self._split(wanted)
            meant = WORDS.get(slot, ())
            found = [
                site
                for site in self.sites
                if site.slot in meant
                and (stack is None or site.stack == stack)
                and (within is None or site.stack in within)
            ]
            if slot == "embedding" and stack is None and found:
                found = [site for site in found if site.stack == found[0].stack]
            if not found:
                problems.append(self._absent(wanted, slot))
            chosen.update((site.name, site) for site in found)
        if problems:
            raise PeftrefError(problems)
        order = {site.name: position for position, site in enumerate(self.sites)}
        return tuple(sorted(chosen.values(), key=lambda site: order[site.name]))

    def _split(self, wanted: str) -> tuple[str | None, str]:
        first, _, rest = wanted.partition(".")
        return (first, rest) if rest and any(stack.name == first for stack in self.stacks) else (None, wanted)

    def _absent(self, wanted: str, slot: str) -> Problem:
        reason = next((self.lacks[each] for each in WORDS.get(slot, ()) if each in self.lacks), None)
        return Problem(
            "slot-absent",
            f"host {self.name} has no slot {wanted}" + (f": {reason}" if reason else ""),
            notes=(
                f"it has: {', '.join(self.slots())}",
                *(f"not followed: {name}: {why}" for name, why in self.left_out.items()),
            ),
            hint=nearest(slot, self.slots()),
        )
