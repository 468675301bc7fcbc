"""A module that peft makes, on a host in place: it runs, trains and saves like an attached technique, and nothing is derived of it."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peftref.core.problem import PeftrefError, fail
from peftref.design.load import load
from peftref.design.opaque import Fresh, Opaque
from peftref.exchange.peft.installed import need_peft
from peftref.exchange.peft.write import write_peft
from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.modules.running.override import Override

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_PLACE = (
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "inference_mode",
    "auto_mapping",
    "revision",
    "peft_version",
)
"""Fields of a saved config that say where it came from, and nothing of the module."""


class Wrapped:
    """An opaque technique on a host: calls of the host go through the library's own model."""

    def __init__(self, model: PreTrainedModel, theirs: PeftModel) -> None:
        self.model = model
        self.theirs = theirs
        self.inside = False
        self.override = Override(model, self._forward)

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.inside:
            return original(*args, **kwargs)
        self.inside = True
        try:
            return self.theirs(*args, **kwargs)
        finally:
            self.inside = False

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters of the module."""
        return (parameter for parameter in self.theirs.parameters() if parameter.requires_grad)

    def lr_factor(self, parameter: nn.Parameter) -> float:
        """1: nothing is known of factors."""
        return 1.0

    @property
    def mergeable(self) -> bool:
        """Whether the library merges and unmerges it."""
        try:
            self.merge()
            self.unmerge()
        except Exception:  # whatever the library raises for what it cannot merge
            return False
        return True

    def merge(self) -> None:
        """Merged by the library."""
        self.theirs.merge_adapter()

    def unmerge(self) -> None:
        """Unmerged by the library."""
        self.theirs.unmerge_adapter()

    @property
    def waiting(self) -> tuple[str, ...]:
        """Nothing: the library begins by itself."""
        return ()

    def begin(self, batches: object) -> None:
        """Nothing: the library has begun."""

    def penalty(self) -> float:
        """Nothing: the library adds to the loss itself."""
        return 0.0

    def step(self, done: int, total: int) -> None:
        """Nothing follows a step."""

    def note(self, **facts: object) -> None:
        """Nothing is noted: the library keeps no such notes."""

    def save(self, folder: str | Path) -> Path:
        """Saved by the library."""
        self.theirs.save_pretrained(str(folder))
        return Path(folder)


def attach_opaque(model: PreTrainedModel, technique: Opaque, *, seed: int = 0) -> Wrapped:
    """Puts an opaque technique on a host in place; the host is frozen, and must not be used for anything else afterwards.

    Raises PeftrefError `peft-missing`, and `peer-refuses` where the library makes nothing of it.
    """
    need_peft()
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, TaskType, get_peft_model

    if technique.type not in PeftType.__members__:
        text = f"peft has no type {technique.type}"
        raise fail("peer-refuses", text, hint=f"it has {', '.join(PeftType.__members__)}")
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(technique.type)]
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    with ExitStack() as stack, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            config = kind(**_fields(technique, model, resolve(model), stack))
            if config.is_prompt_learning:
                config.task_type = TaskType.SEQ_CLS
            theirs = get_peft_model(model, config, autocast_adapter_dtype=False)
        except PeftrefError:
            raise
        except Exception as error:  # whatever the library raises for what it cannot do
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise fail("peer-refuses", f"peft refuses {technique.name}: {first}") from None
    _share_head(theirs)
    return Wrapped(model, theirs)


def count_opaque(model: PreTrainedModel, technique: Opaque) -> int:
    """How many parameters an opaque technique trains on a host, which is left as it is: it is built on a copy."""
    return sum(parameter.numel() for parameter in attach_opaque(copy.deepcopy(model), technique).parameters())


def _fields(technique: Opaque, model: Any, host: Host, stack: ExitStack) -> Mapping[str, Any]:
    fields = {name: value for name, value in technique.config.items() if name not in _PLACE}
    sizes = {field: host.stacks[0].sizes[size] for field, size in technique.sizes.items()}
    modules = {field: _made(fresh, model, stack) for field, fresh in technique.modules.items() if field not in fields}
    return {**sizes, **modules, **fields}


def _made(fresh: Fresh, model: Any, stack: ExitStack) -> dict[str, str]:
    """Folders of modules that were saved as they begin."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peftref-")))
    places = {}
    for number in range(fresh.count):
        attached = attach(model, load(fresh.technique), "fresh", seed=number)
        try:
            places[str(number)] = str(write_peft(attached, folder / str(number)))
        finally:
            attached.detach()
    return places


def _share_head(theirs: PeftModel) -> None:
    """Lets the library train the host's own head in place of a copy of it."""
    from peft.utils import ModulesToSaveWrapper

    for module in theirs.modules():
        if isinstance(module, ModulesToSaveWrapper):
            for name in module.modules_to_save:
                module.modules_to_save[name] = module.original_module
            module.original_module.requires_grad_(False)
