"""A technique here and in peft on two copies of one host, with the same parameters: how far apart they are."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.core.problem import fail
from peftref.design.insertion import insertions
from peftref.design.technique import Technique
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.front import as_there, front_fields
from peftref.exchange.peft.standing import places
from peftref.host.locate.resolve import resolve
from peftref.language.expr import Call, walk
from peftref.modules.attach import insert
from peftref.modules.attached import Attached
from peftref.modules.leaves import put_leaves

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Pair:
    """A technique on a host, here and in peft."""

    ours: Attached
    theirs: PeftModel

    def beside(self, batch: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Peft's model, and what it is called with: where a technique knows tasks, the first for every sample, as ours takes it."""
        return asked(self.ours.technique, self.theirs, batch)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of peft's own parameters, by the names of the copies that they are here."""
        peer = exchange.peer_of(self.ours.technique)
        if peer.live:
            return _live(self.theirs, self.ours, lambda parameter: parameter.grad)
        return {name: _gradient(parameter) for name, parameter in self.leaves().items() if parameter.grad is not None}

    def leaves(self) -> dict[str, Tensor]:
        """Peft's own parameters, by the names of the copies that they are here, where each is one of its own."""
        keys = exchange.keys(self.ours.technique, self.ours.module.copies, exchange.targeted(self.theirs))
        found: dict[str, Tensor] = {}
        for name, parameter in self.theirs.named_parameters(remove_duplicate=False):
            key = name.replace(".default", "")
            key = key if key in keys else key.removesuffix(".weight")
            if key in keys:
                found[keys[key].name] = parameter
        return found


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences, each as a share of the largest number; None where there is nothing to compare.

    output: of the host with the module. gradient: of every trained leaf. merged: of the host's weights.
    """

    output: float
    gradient: float
    merged: float | None


def beside(model: PreTrainedModel, technique: Technique, *, seed: int = 2) -> Pair:
    """The technique on a host, which is used up, and on a copy of it in peft; in double precision, with the same random leaves.

    Raises PeftrefError where peft does not have the technique, or not on this host.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model
    from peft.utils import set_peft_model_state_dict

    host = resolve(model)
    technique = as_there(technique, host, model)
    peer = exchange.peer_of(technique)
    if peer.layouts and not peer.live:
        text = f"peft trains what {technique.name} is saved as, which is another technique"
        raise fail("peer-differs", text)
    fields = exchange.config(technique, host)
    front = front_fields(fields["peft_type"], model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(fields.pop("peft_type"))]
        theirs = (
            get_peft_model(copy.deepcopy(model), kind(**fields, **front), autocast_adapter_dtype=False).double().eval()
        )
    for layer in theirs.modules():
        if hasattr(layer, "_attach_hooks"):
            layer._attach_hooks("default")  # a change of dtype makes new parameters, which have no hooks
    ours = insert(model.double(), technique)
    put_leaves(ours, exchange.made(technique, host, theirs))
    leaves = {each.name: ours.module.leaf(each.name) for each in ours.module.copies}
    torch.manual_seed(seed)
    with torch.no_grad():
        for each in ours.module.copies:
            if each.leaf.trainable:
                leaves[each.name].add_(0.1 * torch.randn_like(leaves[each.name]))
    if exchange.peer_of(technique).live:
        _live(theirs, ours, lambda parameter: parameter)
        return Pair(ours, theirs)
    like = exchange.beginning(theirs)
    tensors = exchange.state(technique, host, leaves, theirs)
    if not like.keys() - exchange.still(theirs, like) <= tensors.keys() <= like.keys():
        raise ValueError(f"peft keeps {sorted(like.keys() ^ tensors.keys())}")
    set_peft_model_state_dict(
        theirs, {key: value.detach().clone().reshape(like[key].shape) for key, value in tensors.items()}
    )
    return Pair(ours, theirs)


def asked(technique: Technique, theirs: PeftModel, batch: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """A model of peft, and what it is called with for a batch: the first task for every sample where the technique knows tasks."""
    tasks = told(technique, batch)
    return theirs.base_model if tasks and exchange.targeted(theirs) else theirs, {**batch, **tasks}


def parity(pair: Pair, batch: Mapping[str, Tensor]) -> Parity:
    """How far a pair is apart; it is used up, since merging changes the weights of both."""
    ours = pair.ours
    here = _backward(ours.model, batch)
    model, asked = pair.beside(batch)
    there = _backward(model, asked, here)
    found, trained = pair.gradients(), [each for each in ours.module.copies if each.leaf.trainable]
    gradients = [(_gradient(ours.module.leaf(each.name)), found[each.name]) for each in trained]
    return Parity(_apart(here, there), max(_apart(*each) for each in gradients), _merged(pair))


def told(technique: Technique, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What peft wants to be told beside a batch: the tasks, where the technique has any; the first, which is ours untold."""
    effects = [effect for insertion in insertions(technique) for effect in insertion.effects.values()]
    trees = [value for effect in effects for value in effect.values.values()]
    if not any(isinstance(node, Call) and node.op == "by_task" for tree in trees for node in walk(tree)):
        return {}
    first = next(iter(batch.values()))
    return {"task_ids": torch.zeros(len(first), dtype=torch.long, device=first.device)}


def of_tokens(out: Tensor, like: Tensor) -> Tensor:
    """An output of peft without the rows that stand in front of the user's tokens, which it gives too."""
    return out[:, out.shape[1] - like.shape[1] :] if out.dim() > 2 else out


def _live(theirs: PeftModel, ours: Attached, of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
    """What peft's running parameters, or their gradients, are for each copy; parameters are given the values that are here."""
    technique, found = ours.technique, {}
    known = {name.replace(".default", ""): each for name, each in theirs.named_parameters()}
    for name, place in places(technique, ours.module.host, exchange.peer_of(technique).live).items():
        value = of(known[place.key])
        if value is not None:
            found[name] = place.take(value.detach())
            if value is known[place.key]:
                found[name].copy_(ours.module.leaf(name).detach())
    return found


def _backward(model: Any, batch: Mapping[str, Tensor], like: Tensor | None = None) -> Tensor:
    out: Tensor = model(**batch)[0]
    out = out if like is None else of_tokens(out, like)
    weights = torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)
    torch.autograd.backward((out * weights).sum())
    return out.detach()


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _merged(pair: Pair) -> float | None:
    if not pair.ours.mergeable:
        return None
    pair.ours.merge()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pair.theirs.merge_and_unload().state_dict()
    own = {key: value for key, value in pair.ours.model.state_dict().items() if not key.startswith("peftref.")}
    return max(_apart(value, theirs[key]) for key, value in own.items())


def _apart(here: Tensor, there: Tensor) -> float:
    return float((here - there.reshape(here.shape)).abs().max() / there.abs().max().clamp_min(1e-12))
