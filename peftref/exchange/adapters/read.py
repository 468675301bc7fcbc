"""A checkpoint of adapters attached as a module of ours, where a technique in the catalogs expresses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.insertion import insertions
from peftref.design.load import techniques
from peftref.design.peer import Peer
from peftref.design.placement import placements
from peftref.design.technique import Insert, Technique
from peftref.exchange.adapters.form import UNION, groups, otherwise, parts_of, places
from peftref.exchange.adapters.library import LIBRARY, Type, holder, library, standing
from peftref.exchange.adapters.orthogonal import plain
from peftref.exchange.checkpoint import CONFIG, Checkpoint, read_checkpoint
from peftref.exchange.layout import packed, wanted
from peftref.exchange.stands import moved
from peftref.exchange.terms import read_names, value_of
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.host.site import Site
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.leaves import put_leaves

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Config = Mapping[str, Any]


def read_adapters(source: str | Path | Checkpoint, model: PreTrainedModel, name: str = "default") -> Attached:
    """Attaches a checkpoint of adapters to the host that it was trained on.

    source: a local folder, a hub name, or a checkpoint that was read. The technique is the one in the catalogs that expresses it.
    A task head, which adapters keeps apart, is not read.

    Raises PeftrefError `checkpoint-missing`, `checkpoint-pickled`, `checkpoint-damaged`, `no-peer` where no technique expresses
    its type, `peer-field` with every field that none of them can express, `peer-targets`, `peer-differs` for tensors that do not
    fit; the host is untouched then.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    host = resolve(model)
    tensors = _within(checkpoint, host)
    own = str(checkpoint.fields.get("name"))
    configs = _configs(checkpoint)
    technique = _placed(_technique(configs, host), configs, host, tensors, own)
    differing = list(otherwise(technique, placements(technique, host)))
    if differing:
        raise PeftrefError(differing)
    leaves = _leaves(technique, host, tensors, own)
    attached = attach(model, technique, name)
    put_leaves(attached, leaves)
    return attached


def _within(checkpoint: Checkpoint, host: Host) -> dict[str, Tensor]:
    """The tensors by their names within the backbone."""
    base = library().family(host).base
    return plain({key.removeprefix(f"{base}."): value for key, value in checkpoint.tensors.items()})


def _configs(checkpoint: Checkpoint) -> list[Config]:
    """The configs of a checkpoint: one, or those of a union."""
    found = checkpoint.fields["config"]
    configs: list[Config] = found.get("configs", []) if found.get("architecture") == UNION else [found]
    if not all(isinstance(each, dict) for each in configs):
        raise fail("checkpoint-damaged", f"{checkpoint.folder / CONFIG} has configs that are none")
    return configs


def _technique(configs: list[Config], host: Host) -> Technique:
    """The technique that expresses some configs, with its settings; of several, the one that says most of their fields."""
    kinds = [library().type(each.get("architecture")) for each in configs]
    known = [each for each in techniques() if LIBRARY in each.peers and not each.peers[LIBRARY].refused]
    fitting = [each for each in known if [part.type for part, _ in parts_of(each)] == kinds]
    if not fitting:
        named = ", ".join(str(each.get("architecture") or "bottleneck") for each in configs)
        raise fail("no-peer", f"no technique in the catalogs is a config of {LIBRARY} with the architecture {named}")
    refused: list[tuple[int, list[Problem]]] = []
    for technique in sorted(fitting, key=_plainness):
        problems: list[Problem] = []
        settings: dict[str, Any] = {}
        apart = 0
        for (part, kind), config in zip(parts_of(technique), configs, strict=True):
            apart += sum(config.get(field, kind.fields.get(field)) != value for field, value in part.fixed.items())
            problems += _inexpressible(config, part, kind)
            settings |= {**part.ours, **_settings(config, part, kind, host, problems)}
        if not problems:
            try:
                made = technique.with_settings(**settings)
                insertions(made)
            except PeftrefError as error:
                problems += [Problem("peer-field", f"it cannot be expressed: {each.text}") for each in error.problems]
            else:
                return made
        refused.append((apart, problems))
    raise PeftrefError(min(refused, key=lambda each: (each[0], len(each[1])))[1])


def _plainness(technique: Technique) -> tuple[int, bool]:
    """The order in which techniques are tried: what says most fields first, and what stands in all layers before parts of them."""
    said = sum(len(part.fixed) for part, _ in parts_of(technique))
    return -said, any(insert.layers.rule != "all" for insert in technique.insert)


def _settings(config: Config, part: Peer, kind: Type, host: Host, problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    fields = {**host.stacks[0].sizes, **kind.fields, **config}
    for ours, text in part.settings.items():
        value = value_of(text, fields)
        known = {str(there): here for here, there in part.values.get(ours, {}).items()}
        found[ours] = known.get(str(value), value)
        if value is None and text not in fields:
            told = " and ".join(f"{name} is {fields.get(name)!r}" for name in read_names(text))
            problems.append(Problem("peer-field", f"{told}, and {text} gives no number for {ours}"))
    return found


def _inexpressible(config: Config, part: Peer, kind: Type) -> Iterator[Problem]:
    for field in sorted(config.keys() - kind.fields.keys() - {"architecture"}):
        yield Problem("peer-field", f"{field} is no field of {LIBRARY} {library().version}")
    for field, value in part.fixed.items():
        if config.get(field, kind.fields.get(field)) != value:
            found = config.get(field, kind.fields.get(field))
            yield Problem("peer-field", f"{field} is {found!r}, and only {value!r} can be expressed")
    for field, text in part.follow.items():
        value, wanted = config.get(field, kind.fields.get(field)), value_of(str(text), {**kind.fields, **config})
        if value != wanted:
            yield Problem("peer-field", f"{field} is {value!r}, and only {text}, {wanted!r}, can be expressed")
    told = {field for text in part.settings.values() for field in read_names(text)}
    said = {*told, *part.follow, *part.fixed, *part.ignored, *kind.ignored, *kind.stands}
    for field, value in config.items():
        if field in kind.fields and field not in said and value != kind.fields[field]:
            yield Problem("peer-field", f"{field} is {value!r}, which no technique in the catalogs expresses")


def _placed(
    technique: Technique, configs: list[Config], host: Host, tensors: Mapping[str, Tensor], name: str
) -> Technique:
    """The technique at the sites at which the checkpoint has tensors."""
    family = library().family(host)
    inserts: list[Insert] = []
    for insert in technique.insert:
        slots = {slot for word in insert.at for slot in slots_of(word)}
        if all(not slots & kind.known for _, kind in parts_of(technique)):
            inserts.append(insert)
            continue
        found: list[Site] = []
        for (part, kind), config in zip(parts_of(technique), configs, strict=True):
            if part.keys.keys() & insert.leaves.keys():
                could = groups(kind, technique.model_copy(update={"insert": (insert,)}), part)
                sites = (site for site in host.sites if site.slot in could)
                fields = {**kind.fields, **config}
                found += [
                    site
                    for site in sites
                    if _has(kind, host, site, tensors, name) and standing(kind, family, site, host, fields)
                ]
        if not found:
            raise fail("peer-targets", f"the checkpoint has nothing at {', '.join(insert.at)} of {host.name}")
        inserts += moved(insert, found, host)
    made = technique.model_copy(update={"insert": tuple(inserts)})
    try:
        same = {each.site for each in placements(technique, host)} == {each.site for each in placements(made, host)}
    except PeftrefError:
        same = False
    return technique if same else made


def _has(kind: Type, host: Host, site: Site, tensors: Mapping[str, Tensor], name: str) -> bool:
    held = holder(kind, host, site, name)
    return held is not None and any(key.startswith(f"{held}.") for key in tensors)


def _leaves(technique: Technique, host: Host, tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors as leaves, by the names of their copies; all that is missing, left over or misshapen is told."""
    lies = places(technique, host, name)
    shapes = wanted(lies.values())
    problems = [
        Problem("peer-differs", f"the checkpoint has no {key}") for key in sorted(shapes.keys() - tensors.keys())
    ]
    problems += [
        Problem("peer-differs", f"nothing here is the checkpoint's {key}")
        for key in sorted(tensors.keys() - shapes.keys())
    ]
    for key in sorted(shapes.keys() & tensors.keys()):
        if tuple(tensors[key].shape) != shapes[key]:
            text = f"{key} is {list(tensors[key].shape)} in the checkpoint, and {list(shapes[key])} on this host"
            problems.append(Problem("peer-differs", text))
    if problems:
        raise PeftrefError(problems)
    leaves = {own: place.take(tensors[place.key].contiguous()) for own, place in lies.items()}
    lost = [key for key, whole in packed(lies, leaves).items() if not torch.equal(whole, tensors[key])]
    if lost:
        text = "{} of the checkpoint has numbers where " + technique.name + " has none"
        raise PeftrefError([Problem("peer-differs", text.format(key)) for key in sorted(lost)])
    return leaves
