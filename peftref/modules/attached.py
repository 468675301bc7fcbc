"""The handle of an attached technique: its parameters, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from peftref.core.problem import PeftrefError, fail
from peftref.design.technique import Technique
from peftref.modules.compile.module import Inserted
from peftref.modules.container import Modules, container, inserted
from peftref.modules.files import keep_out
from peftref.modules.merge import merge, settle
from peftref.modules.merging import Merging
from peftref.modules.own_parameters import host_fingerprint, own_parameters, saved_name
from peftref.modules.run_procedures import remembered, run_begin, run_penalty, run_step
from peftref.modules.seeded import made_from_seed
from peftref.modules.state.record import Fact
from peftref.modules.state.record import facts as checked_facts
from peftref.modules.state.saved import write_saved
from peftref.modules.state.sharded import first, sharded, together, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Attached:
    """A technique on a host. Raises PeftrefError `detached` wherever it is used after it was taken off."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self.model = model
        self.name = name

    @property
    def modules(self) -> Modules:
        """All that is attached to the same host."""
        return container(self.model)

    @property
    def module(self) -> Inserted:
        """The torch module that holds the technique's tensors."""
        return inserted(self.model, self.name)

    @property
    def technique(self) -> Technique:
        """The technique."""
        return self.module.technique

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters, each once: the technique's own, and those of the host that it trains."""
        yield from (parameter for parameter in self.module.parameters() if parameter.requires_grad)
        if self.name in self.modules.tuned:
            yield from self.modules.tuned[self.name].parameters(self.model)

    def lr_factor(self, parameter: nn.Parameter) -> float:
        """The factor on the learning rate that the technique gives to a parameter; 1 for what is not its own."""
        for copy in self.module.copies:
            if self.module.leaf(copy.name) is parameter:
                settings, value = self.technique.settings, copy.leaf.lr
                return float(settings[value] if isinstance(value, str) else value)
        return 1.0

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """The trained parameters as groups for an optimizer of torch, each with its learning rate."""
        found: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            found.setdefault(self.lr_factor(parameter), []).append(parameter)
        return [{"params": group, "lr": lr * factor} for factor, group in found.items()]

    @contextmanager
    def tasks(self, numbers: Tensor) -> Iterator[None]:
        """While inside, the number of each sample's task [batch], for equations with `by_task`.

        Raises PeftrefError `tasks` for what are no whole numbers of at least 0; and in the call, where the batch has another size.
        """
        if numbers.dim() != 1 or numbers.is_floating_point() or numbers.numel() == 0 or int(numbers.min()) < 0:
            text = f"the tasks are a {list(numbers.shape)} tensor of {str(numbers.dtype).removeprefix('torch.')}"
            raise fail("tasks", text, hint="give one whole number for each sample, counted from 0")
        flows = self.modules.flows.values()
        before = [flow.tasks for flow in flows]
        for flow in flows:
            flow.tasks = numbers
        try:
            yield
        finally:
            for flow, tasks in zip(flows, before, strict=True):
                flow.tasks = tasks

    @property
    def waiting(self) -> tuple[str, ...]:
        """The procedures that wait for data before the technique can be trained."""
        return self.module.waiting

    def begin(self, batches: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Gives leaves the first values that procedures find from the host's weights and, where given, from a few batches.

        `attach` does so already; this is for batches that come later, or other ones: it begins again, and what was trained is lost.
        batches: what the model is called with. The host alone is run, in evaluation mode. Raises PeftrefError `no-batches` where
        they have no tokens, and `init-size`.
        """
        module = self.module
        if module.technique.procedures:
            with self.disabled():
                run_begin(self.model, module, batches, module.seed)

    def penalty(self) -> Tensor | float:
        """What the technique adds to the loss while it is trained: a number, 0.0 for most."""
        return run_penalty(self.model, self.module)

    def step(self, done: int, total: int) -> None:
        """Runs the procedures that follow a step: call it after the optimizer's, while the gradients are still there.

        done: steps done, from 1; total: steps in all. What they remember is saved with the module, so that training can go on
        after `restore`.
        """
        run_step(self.model, self.module, done, total)

    def enable(self) -> None:
        """Lets the active techniques of this host act."""
        self.modules.enabled = True
        self.modules.settle(self.model)

    def disable(self) -> None:
        """Lets no technique of this host act: the host computes what it did alone."""
        self.modules.enabled = False
        self.modules.settle(self.model)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """While inside, no technique of this host acts; afterwards they do as before, whatever happened inside.

        What trains the host's own parameters is taken out of them and put back: a backward pass through what they computed before
        does not stand outside.

        >>> from transformers import LlamaConfig, LlamaModel
        >>> from peftref.modules.attach import attach
        >>> from peftref.design.load import load
        >>> tiny = LlamaModel(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64))
        >>> attached = attach(tiny, load("lora", r=2))
        >>> with attached.disabled():
        ...     attached.modules.enabled
        False
        >>> attached.modules.enabled
        True
        """
        modules = self.modules
        before = modules.enabled
        self.disable()
        try:
            yield
        finally:
            modules.enabled = before
            modules.settle(self.model)

    @property
    def mergeable(self) -> bool:
        """Whether the technique can be merged into this host as it is, tied weights left tied."""
        merging = Merging(self.model)
        try:
            merging.add(self.module)
            merging.refuse(untie=False, sure=True)
        except PeftrefError:
            return False
        return True

    @property
    def merged(self) -> bool:
        """Whether the technique is merged into this host."""
        return self.name in self.modules.merged

    def merge(self, *, untie: bool = False, keep: bool = True) -> None:
        """Carries the technique into the host's own weights, as `merge` does for several at once; keep: it can be unmerged."""
        modules, _ = self.modules, self.module
        merge(self.model, (self.name,), untie=untie or self.name in modules.untie, keep=keep)

    def unmerge(self) -> None:
        """Gives the host its own weights back, bit by bit; the technique acts beside them again."""
        modules, _ = self.modules, self.module
        settle(self.model, [name for name in modules.merged if name != self.name], modules.untie - {self.name})

    def detach(self) -> None:
        """Takes the technique off; with the last one, the host is as it was, bit by bit."""
        modules, _ = self.modules, self.module
        modules.refuse_chosen()
        modules.merged = tuple(name for name in modules.merged if name != self.name)
        modules.active = tuple(name for name in modules.active if name != self.name)
        modules.settle(self.model)
        modules.take_off(self.model, self.name)
        keep_out(self.model)

    def note(self, **facts: Fact) -> None:
        """Notes how the technique is trained, to be saved with it: numbers, texts, yes or no, by name; later ones replace earlier.

        The training loop and `ProcedureCallback` note steps, learning rate, batch size and seed by themselves. Raises PeftrefError
        `training-fact` for anything else, more than 64 facts, and texts of more than 1000 letters.
        """
        self.module.trained = checked_facts(self.module.trained | facts)

    @property
    def notes(self) -> dict[str, Fact]:
        """What is noted about its training."""
        return dict(self.module.trained)

    def save(self, folder: str | Path, *, everything: bool = False) -> Path:
        """Saves the technique with its tensors, settings and the host's fingerprint, and whatever else of the host is trained now.

        A task head that learns beside the technique is saved with it. Frozen random leaves that still are what the seed gives are
        not stored but made again by `restore`, which checks them; everything: they are stored all the same, for a torch that draws
        other numbers. Where the host is sharded over processes, all of them call it, and the first one writes. Returns the folder,
        which appears whole or not at all. Raises PeftrefError `save-place`.
        """
        module = self.module
        made = {} if everything else made_from_seed(self.model, module)
        tensors: dict[str, Tensor] = {
            f"leaves.{copy.name}": module.leaf(copy.name) for copy in module.copies if copy.name not in made
        }
        tuned = self.modules.tuned.get(self.name)
        trained = dict(tuned.values(self.model)) if tuned else {}
        others = {name for each in self.modules.tuned.values() for name in each.names}
        for name, parameter in own_parameters(self.model):
            if parameter.requires_grad and name not in others:
                trained[name] = parameter
        tensors |= {saved_name(self.model, name): value for name, value in trained.items()}
        tensors |= remembered(module)
        tensors = {name: whole(value) for name, value in tensors.items()}
        host = host_fingerprint(self.model)
        alone = not sharded(self.model)
        if alone or first():
            write_saved(folder, self.technique, tensors, host, seed=module.seed, made=made, training=module.trained)
        if not alone:
            together()
        return Path(folder)
