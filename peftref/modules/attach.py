"""Attaching a technique to a live host, in place; several by name, active or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peftref.core.problem import PeftrefError, fail, nearest
from peftref.design.load import load
from peftref.design.placement import placements
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.language.rewrite.cost import Load
from peftref.modules.attached import Attached
from peftref.modules.compile.module import Inserted
from peftref.modules.container import CONTAINER, Combine, Modules, container
from peftref.modules.files import keep_out
from peftref.modules.leaves import initialise_leaves
from peftref.modules.tuned import Tuned, tuned_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attach(
    model: PreTrainedModel,
    technique: Technique | str,
    name: str = "default",
    *,
    seed: int = 0,
    batch: int = 8,
    length: int = 64,
    host: Host | None = None,
    dtype: torch.dtype | None = None,
    batches: Iterable[Mapping[str, Any]] | None = None,
) -> Attached:
    """Attaches a technique to a host in place, freezes the host, and makes it the only active one.

    technique: one that was loaded, or its name. The host's own parameters get a gradient only where the technique trains them (`tune`). seed: of the leaves' random inits.
    batch, length: samples and tokens of each for which the cheapest form is chosen; every form computes the same at any other.
    host: where its slots are, for a model that is no transformer that can be followed; found where it is not given.
    dtype: the precision of the leaves, in which their equations are computed as well; left out, it is the host's own, and single
    where the host has half (small steps are lost in half). What the host reads on is in its own precision again; under autocast,
    autocast decides.
    batches: what the model is called with, a few times, for a technique that begins from data; without them it waits for `begin`.
    Raises PeftrefError `name-taken`, and whatever keeps the technique from standing on this host; the host is then untouched.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> tiny = LlamaModel(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64))
    >>> attached = attach(tiny, "lora")
    >>> sum(parameter.numel() for parameter in attached.parameters())
    512
    >>> attached.detach()
    """
    technique = load(technique) if isinstance(technique, str) else technique
    there = model._modules.get(CONTAINER)
    before = there.active if isinstance(there, Modules) else ()
    attached = insert(model, technique, name, seed=seed, batch=batch, length=length, host=host, dtype=dtype)
    try:
        attached.begin(batches)
    except Exception:
        attached.modules.active = before
        attached.detach()
        raise
    return attached


def insert(
    model: PreTrainedModel,
    technique: Technique,
    name: str = "default",
    *,
    seed: int = 0,
    batch: int = 8,
    length: int = 64,
    host: Host | None = None,
    dtype: torch.dtype | None = None,
    filled: bool = True,
) -> Attached:
    """Attaches a technique whose leaves get their values elsewhere: no procedure has begun; otherwise as `attach`.

    filled: whether the leaves get their first values here. On a host without weights (`meta`) they are on the CPU.
    """
    known = model._modules.get(CONTAINER)
    if isinstance(known, Modules):
        known.refuse_chosen()
    modules = known if isinstance(known, Modules) else Modules(host or resolve(model))
    if not name.isidentifier() or hasattr(nn.Module, name):
        raise fail("name-taken", f"{name!r} is no name for an attached technique", hint="letters, digits and _")
    if name in modules._modules:
        raise fail("name-taken", f"a technique named {name} is attached already", hint="give another name")
    placed = placements(technique, modules.host)
    trained = tuned_names(model, technique, modules.host)
    tuned = Tuned(model, trained) if trained else None
    inserted = Inserted(
        technique, modules.host, placed, name=name, flow=modules.flow, load=Load(batch * length, length)
    )
    inserted.seed = seed
    if filled:
        initialise_leaves(model, inserted, seed)
    first = next(each for each in model.parameters() if each.is_floating_point())
    device = None if first.is_meta else first.device
    inserted.to(device=device, dtype=dtype or torch.promote_types(first.dtype, torch.float32))
    if modules is not known:
        modules.frozen = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
        model.add_module(CONTAINER, modules)
        for key in modules.frozen:
            model.get_parameter(key).requires_grad_(False)
    modules.add_module(name, inserted)
    inserted.train(model.training)
    for placement, source in zip(placed, inserted.sources, strict=True):
        modules.tap(model, name, placement, source.mixes)
    if tuned is not None:
        modules.tuned[name] = tuned
    modules.active = (name,)
    modules.settle(model)
    keep_out(model)
    return Attached(model, name)


def set_active(model: PreTrainedModel, names: str | list[str] | tuple[str, ...], combine: Combine = "stack") -> None:
    """Makes some attached techniques active: stacked, each on the result of the one before, or summed, each on the host alone.

    What is put in front of a sequence, or acts at attention itself, always follows one another in the order of the names.
    Raises PeftrefError `detached` for a name that is not attached, `tuned-twice` where two train the same host parameter,
    `merge-order` where a merged one would act after one that is not, and `stack-order` where one reads a weight that no linear
    map before it gives.
    """
    modules = container(model)
    modules.refuse_chosen()
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in modules.inserted():
            raise fail("detached", f"no technique named {name} is attached", hint=nearest(name, modules.inserted()))
    modules.refuse_overlap(wanted)
    before = modules.active, modules.combine
    modules.active, modules.combine = wanted, combine
    try:
        modules.refuse_order()
        modules.refuse_stack()
    except PeftrefError:
        modules.active, modules.combine = before
        raise
    modules.settle(model)
