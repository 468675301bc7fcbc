"""A checkpoint of huggingface/peft attached as a module of ours, where a technique in the catalogs expresses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.compile.attach import insert, put_leaves
from peftref.compile.attached import Attached
from peftref.design.load import techniques
from peftref.design.placement import copies, placements
from peftref.design.technique import Peer, Technique
from peftref.exchange.checkpoint import Checkpoint, read_checkpoint
from peftref.exchange.layout import wanted
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.front import in_front, summed, times
from peftref.exchange.peft.shell import peft_model
from peftref.exchange.peft.standing import places
from peftref.exchange.stands import moved
from peftref.host.host import Host
from peftref.host.resolve import resolve
from peftref.problem import PeftrefError, Problem, fail

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

    Raises PeftrefError `checkpoint-missing`, `checkpoint-pickled`, `checkpoint-damaged`, `no-peer` where no technique expresses
    its type and fields, `peer-field` with every field that none of them can express, `peer-targets` where it stands on modules
    that are no slots, `peer-refuses`, `peer-differs` for tensors that do not fit; the host is untouched then.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    host = resolve(model)
    base = _technique(checkpoint)
    if exchange.in_front(base, host):
        technique = in_front(checkpoint, base, host, model)
        leaves = _leaves(checkpoint, technique, host, set())
    else:
        technique, leaves = _on_modules(checkpoint, base, host, model)
    attached = insert(model, technique, name)
    _put(attached, checkpoint, leaves)
    return attached


def _on_modules(
    checkpoint: Checkpoint, base: Technique, host: Host, model: PreTrainedModel
) -> tuple[Technique, dict[str, Tensor]]:
    """The technique where peft stands with it, and its leaves, of which peft makes some itself."""
    known, place = _known(checkpoint), {"peft_type", *STANDS}
    given = {
        key: value for key, value in checkpoint.fields.items() if key in known and key in place | (known.keys() - ABOUT)
    }
    with peft_model(model, given) as theirs:
        technique = _placed(base, host, theirs)
        leaves = exchange.made(technique, host, theirs) | _leaves(checkpoint, technique, host, _kept(checkpoint, model))
    return technique, leaves


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
    refused: list[list[Problem]] = []
    for technique, peer in sorted(found, key=lambda each: -len(each[1].fixed)):
        problems = list(_inexpressible(checkpoint, peer))
        if not problems:
            fields = _known(checkpoint) | dict(checkpoint.fields)
            settings: dict[str, Any] = {ours: fields.get(theirs) for ours, theirs in peer.settings.items()}
            return technique.with_settings(**settings, **summed(checkpoint.fields, settings, peer), **dict(peer.ours))
        refused.append(problems)
    raise PeftrefError(sorted(refused, key=len)[0])


def _inexpressible(checkpoint: Checkpoint, peer: Peer) -> Iterator[Problem]:
    defaults, fields = _known(checkpoint), checkpoint.fields
    if not peer.keys and not peer.folds:
        yield Problem("no-peer", f"peft keeps the tensors of its type {peer.type} in another form")
    for field in sorted(fields.keys() - defaults.keys()):
        yield Problem("peer-field", f"{field} is no field of this version of peft")
    for field, value in peer.fixed.items():
        if fields.get(field, defaults.get(field)) != value and not _harmless(field, fields.get(field), peer):
            yield Problem("peer-field", f"{field} is {fields.get(field)!r}, and only {value!r} can be expressed")
    said = {
        *peer.settings.values(),
        *peer.fixed,
        *peer.targets,
        *ABOUT,
        *peer.sums,
        *peer.lists,
        *peer.sizes,
        *peer.several,
    }
    for field, value in fields.items():
        if field in said or field not in defaults or value == defaults[field] or not value:
            continue
        if not _harmless(field, value, peer):
            yield Problem("peer-field", f"{field} is {value!r}, which no technique in the catalogs expresses")


def _harmless(field: str, value: object, peer: Peer) -> bool:
    return field in peer.harmless and (not peer.harmless[field] or value in peer.harmless[field])


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
    sites = [site for site in whole if site.path in targeted and site.kind == "linear"]
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


def _leaves(checkpoint: Checkpoint, technique: Technique, host: Host, kept: set[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint as leaves, by the names of their copies; all that is missing, left over or misshapen is told.

    kept: keys of the host's own weights, as they are here.
    """
    made = copies(technique, placements(technique, host))
    keys = exchange.keys(technique, made)
    lies = places(technique, host)
    over = times(checkpoint, technique.peers[exchange.LIBRARY])
    shapes = {key: (over * shape[0], *shape[1:]) for key, shape in wanted(lies.values()).items()}
    problems = [
        Problem("peer-differs", f"the checkpoint has no {key}")
        for key in sorted((keys.keys() | shapes.keys()) - checkpoint.tensors.keys())
    ]
    heads = kept | {key for key in checkpoint.tensors if _head(checkpoint, key)}
    problems += [
        Problem("peer-differs", f"nothing here is the checkpoint's {key}")
        for key in sorted(checkpoint.tensors.keys() - keys.keys() - shapes.keys() - heads)
    ]
    found = {}
    for key, copy in keys.items():
        if key in checkpoint.tensors:
            value = exchange.unpaired(checkpoint.tensors[key], copy, technique.peers[exchange.LIBRARY])
            if value.numel() != copy.numel:
                text = f"{key} is {list(value.shape)} in the checkpoint, and {list(copy.shape)} on this host"
                problems.append(Problem("peer-differs", text))
            else:
                found[copy.name] = value.reshape(copy.shape)
    for key in sorted(shapes.keys() & checkpoint.tensors.keys()):
        if (shape := tuple(checkpoint.tensors[key].shape)) != shapes[key]:
            text = f"{key} is {list(shape)} in the checkpoint, and {list(shapes[key])} on this host"
            problems.append(Problem("peer-differs", text))
    if problems:
        raise PeftrefError(problems)
    first = {key: checkpoint.tensors[key][: shape[0] // over].contiguous() for key, shape in shapes.items()}
    return found | {own: place.take(first[place.key]) for own, place in lies.items()}


def _head(checkpoint: Checkpoint, key: str) -> bool:
    saved = checkpoint.fields.get("modules_to_save") or ()
    return any(key.startswith(f"{exchange.PREFIX}{module}.") or f".{module}." in key for module in saved)


@torch.no_grad()
def _put(attached: Attached, checkpoint: Checkpoint, leaves: Mapping[str, Tensor]) -> None:
    put_leaves(attached, leaves)
    known = dict(attached.model.named_parameters())
    for key, value in checkpoint.tensors.items():
        name = next((name for name in exchange.host_names(key) if name in known), None)
        if _head(checkpoint, key) and name is not None:
            known[name].copy_(value)
            known[name].requires_grad_(True)
