"""A checkpoint of huggingface/peft attached as a module of ours, where a technique in the catalogs expresses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.load import techniques
from peftref.design.placement import Copy, copies, placements
from peftref.design.technique import Peer, Technique
from peftref.exchange.checkpoint import Checkpoint, read_checkpoint
from peftref.exchange.layout import wanted
from peftref.exchange.peft import fields
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.alike import refuse_others, unlike
from peftref.exchange.peft.front import in_front, times
from peftref.exchange.peft.installed import need_peft
from peftref.exchange.peft.shell import peft_model
from peftref.exchange.peft.standing import places
from peftref.exchange.stands import moved
from peftref.host.architecture import ARCHITECTURE, slots_of
from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import insert
from peftref.modules.attached import Attached
from peftref.modules.leaves import put_leaves

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

STANDS = frozenset({"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"})
"""Fields that say where a module stands, which is asked of peft itself."""
ABOUT = STANDS | {
    "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "runtime_config",
}  # fmt: skip
"""Fields of every config that say nothing of the equation."""


def read_peft(source: str | Path | Checkpoint, model: PreTrainedModel, name: str = "default") -> Attached:
    """Attaches a checkpoint of peft to the host that it was trained on. A task head that it has is put in its place.

    source: a local folder, a hub name, or a checkpoint that was read. The technique is the one in the catalogs that expresses it.

    Raises PeftrefError `peft-missing`, `checkpoint-missing`, `checkpoint-pickled`, `checkpoint-damaged`, `no-peer` where no technique expresses
    its type and fields, `peer-field` with every field that none of them can express, `peer-targets` where it stands on modules
    that are no slots, `peer-refuses`, `peer-differs` for tensors that do not fit; the host is untouched then.
    """
    need_peft()
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    host = resolve(model)
    base = _technique(checkpoint)
    if exchange.in_front(base, host):
        technique = in_front(checkpoint, base, host, model)
        leaves = _in_front(checkpoint, technique, host)
        attached = insert(model, technique, name)
        put_leaves(attached, leaves)
    else:
        attached = _on_modules(checkpoint, base, host, model, name)
    _put_head(attached, checkpoint)
    return attached


def _on_modules(checkpoint: Checkpoint, base: Technique, host: Host, model: PreTrainedModel, name: str) -> Attached:
    """The technique attached where peft stands with it; of its leaves peft makes some itself."""
    from peft.utils import set_peft_model_state_dict

    peer = base.peers[exchange.LIBRARY]
    known, place = _known(checkpoint), {"peft_type", *STANDS}
    given = {
        key: value for key, value in checkpoint.fields.items() if key in known and key in place | (known.keys() - ABOUT)
    }
    with peft_model(model, given, apart=peer.mutates is not None) as theirs:
        technique = _placed(base, host, theirs)
        refuse_others(technique, host, theirs)
        first = exchange.beginning(theirs)
        made = exchange.made(technique, host, theirs)
        leaves = made | _leaves(checkpoint, technique, host, theirs, first, _kept(checkpoint, model))
    attached = insert(model, technique, name)
    put_leaves(attached, leaves)
    if exchange.looked_at(technique):
        set_peft_model_state_dict(theirs, dict(checkpoint.tensors))
        if problems := list(unlike(attached, theirs)):
            attached.detach()
            raise PeftrefError(problems)
    return attached


def _technique(checkpoint: Checkpoint) -> Technique:
    """The technique that expresses a checkpoint, with its settings; of several, the one that says most of its fields."""
    kind = checkpoint.fields["peft_type"]
    found = [
        (technique, technique.peers[exchange.LIBRARY])
        for technique in techniques()
        if exchange.LIBRARY in technique.peers and technique.peers[exchange.LIBRARY].type == kind
    ]
    if not found:
        raise fail("no-peer", f"no technique in the catalogs is peft's type {kind}")
    known = _known(checkpoint)
    refused: list[list[Problem]] = []
    for technique, peer in sorted((each for each in found if each[1].told), key=lambda each: -len(each[1].fixed)):
        given = {**{field: known.get(field) for field in fields.spoken_of(peer) if field in known}, **checkpoint.fields}
        given = fields.flat(given, peer)
        problems = list(fields.inexpressible(peer, given, known, ABOUT))
        if not problems:
            return technique.with_settings(**fields.settings(technique, peer, given))
        refused.append(problems)
    raise PeftrefError(sorted(refused, key=len)[0])


def _known(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields of the checkpoint's type in the installed peft, with their defaults."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    try:
        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(checkpoint.fields["peft_type"])]
    except (ValueError, KeyError):
        raise fail("no-peer", f"the installed peft has no type {checkpoint.fields['peft_type']}") from None
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        made = field.default_factory
        found[field.name] = made() if callable(made) else field.default
    return found


def _placed(technique: Technique, host: Host, theirs: PeftModel) -> Technique:
    """The technique at the slots, and in the layers, in which peft stands."""
    targeted = set(theirs.targeted_module_names)
    whole = [
        site for site in host.sites if site.kind in ("linear", "activation", "norm") and exchange.whole_module(site)
    ]
    strange = sorted(targeted - {site.path for site in whole})
    if strange:
        text = f"peft stands on {', '.join(strange[:3])}, which {'is no slot' if len(strange) == 1 else 'are no slots'} of {host.name}"
        raise fail("peer-targets", text)
    if technique.peers[exchange.LIBRARY].targets:
        if {each.site.path for each in placements(technique, host)} != targeted:
            raise fail("peer-targets", f"peft stands on other modules than {technique.name} does on {host.name}")
        return technique
    kinds = {ARCHITECTURE.slot(slot).kind for each in technique.insert for word in each.at for slot in slots_of(word)}
    sites = [site for site in whole if site.path in targeted and site.kind in kinds]
    if len(technique.insert) != 1:
        raise fail("peer-targets", f"peft stands on other modules than {technique.name} does on {host.name}")
    return technique.model_copy(update={"insert": moved(technique.insert[0], sites, host)})


def _kept(checkpoint: Checkpoint, model: PreTrainedModel) -> set[str]:
    """The keys of the host's own weights that peft saves beside a module on an embedding, where this host has the same."""
    own = dict(model.named_parameters(remove_duplicate=False))
    found = set()
    for key, value in checkpoint.tensors.items():
        name = key.removeprefix(exchange.PREFIX).replace(".base_layer.", ".")
        if ".base_layer." in key and name in own and torch.equal(own[name].detach().to(value), value):
            found.add(key)
    return found


def _leaves(
    checkpoint: Checkpoint,
    technique: Technique,
    host: Host,
    theirs: PeftModel,
    first: Mapping[str, Tensor],
    kept: set[str],
) -> dict[str, Tensor]:
    """The tensors of a checkpoint as leaves, by the names of their copies; all that is missing, left over or misshapen is told.

    first: what peft saves as it begins; what it does not train, and here is no leaf, must be so, or a leaf once more. kept: keys of
    the host's own weights, as they are here.
    """
    made, peer, tensors = (
        copies(technique, placements(technique, host)),
        technique.peers[exchange.LIBRARY],
        checkpoint.tensors,
    )
    keys = exchange.keys(technique, made, exchange.targeted(theirs))
    same = {first[key].data_ptr(): tensors[key] for key in keys if key in first and key in tensors}
    as_made = {
        key
        for key in exchange.still(theirs, first) & tensors.keys()
        if _equal(tensors[key], same.get(first[key].data_ptr(), first[key]))
    }
    problems = list(_unmatched(checkpoint, keys.keys(), kept | as_made))
    found = {copy.name: _listed(checkpoint, copy, peer) for copy in made if copy.leaf.name in peer.listed}
    for key, copy in keys.items():
        if key in tensors:
            value = exchange.ours(tensors[key], copy, peer, first.get(key))
            if value.numel() != copy.numel:
                text = f"{key} is {list(value.shape)} in the checkpoint, and {list(copy.shape)} on this host"
                problems.append(Problem("peer-differs", text))
            elif copy.name in found and not torch.equal(found[copy.name], value.reshape(copy.shape)):
                text = f"{key} is another in the checkpoint than that of other modules, and here they share it"
                problems.append(Problem("peer-differs", text))
            else:
                found[copy.name] = value.reshape(copy.shape)
    if problems:
        raise PeftrefError(problems)
    return found


def _in_front(checkpoint: Checkpoint, technique: Technique, host: Host) -> dict[str, Tensor]:
    """The same of what stands in front of an input or of keys, where several leaves may lie in one tensor."""
    tensors, lies = checkpoint.tensors, places(technique, host)
    keys = exchange.keys(technique, copies(technique, placements(technique, host)))
    over = times(checkpoint, technique.peers[exchange.LIBRARY])
    whole = {key: (over * shape[0], *shape[1:]) for key, shape in wanted(lies.values()).items()}
    shapes = {**whole, **{key: copy.shape for key, copy in keys.items()}}
    problems = list(_unmatched(checkpoint, shapes.keys(), set()))
    for key in sorted(shapes.keys() & tensors.keys()):
        fits = tuple(tensors[key].shape) == shapes[key] or (key in keys and tensors[key].numel() == keys[key].numel)
        if not fits:
            text = f"{key} is {list(tensors[key].shape)} in the checkpoint, and {list(shapes[key])} on this host"
            problems.append(Problem("peer-differs", text))
    if problems:
        raise PeftrefError(problems)
    found = {copy.name: tensors[key].reshape(copy.shape) for key, copy in keys.items()}
    first = {key: tensors[key][: shape[0] // over].contiguous() for key, shape in whole.items()}
    return found | {own: place.take(first[place.key]) for own, place in lies.items()}


def _unmatched(checkpoint: Checkpoint, known: Set[str], also: Set[str]) -> Iterator[Problem]:
    """The tensors that a checkpoint lacks, and those that it has beyond these, the task head's, and some more."""
    for key in sorted(known - checkpoint.tensors.keys()):
        yield Problem("peer-differs", f"the checkpoint has no {key}")
    heads = {key for key in checkpoint.tensors if _head(checkpoint, key)}
    for key in sorted(checkpoint.tensors.keys() - known - heads - also):
        yield Problem("peer-differs", f"nothing here is the checkpoint's {key}")


def _listed(checkpoint: Checkpoint, copy: Copy, peer: Peer) -> Tensor:
    return torch.tensor(checkpoint.fields[peer.listed[copy.leaf.name]])


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to(other), other)


def _head(checkpoint: Checkpoint, key: str) -> bool:
    saved = checkpoint.fields.get("modules_to_save") or ()
    return any(key.startswith(f"{exchange.PREFIX}{module}.") or f".{module}." in key for module in saved)


@torch.no_grad()
def _put_head(attached: Attached, checkpoint: Checkpoint) -> None:
    known = dict(attached.model.named_parameters())
    for key, value in checkpoint.tensors.items():
        name = next((name for name in exchange.host_names(key) if name in known), None)
        if _head(checkpoint, key) and name is not None:
            known[name].copy_(value)
            known[name].requires_grad_(True)
