"""A saved module brought onto a host again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.older import self_attention_alone
from peftref.design.placement import Copy
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.modules.attach import insert
from peftref.modules.attached import Attached
from peftref.modules.own_parameters import host_fingerprint, own_parameters, saved_name
from peftref.modules.run_procedures import remember
from peftref.modules.seeded import digest, seeded
from peftref.modules.state.saved import Saved, read_saved
from peftref.modules.state.sharded import put
from peftref.modules.tuned import Tuned

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def restore(
    model: PreTrainedModel, folder: str | Path, name: str = "default", *, other_weights: bool = False
) -> Attached:
    """Attaches a saved module to a host that fits it. other_weights: also where the host's weights are not those it was trained on.

    A host without weights yet (on `meta`, as `device_map` makes them) is taken by its architecture alone; the module's tensors are
    then on the CPU, as they were read, and none is copied.
    Raises PeftrefError `host-differs` for another architecture, other sizes or other weights, `host-empty` where the host must have
    weights, `saved-missing`, `saved-damaged`, `saved-version`, `saved-seed` where a frozen random leaf cannot be made again as it
    was, and what `attach` raises; the host is then untouched.

    >>> import tempfile
    >>> from transformers import LlamaConfig, LlamaModel
    >>> from peftref.modules.attach import attach
    >>> from peftref.design.load import load
    >>> tiny = LlamaModel(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     attached = attach(tiny, load("lora", r=2))
    ...     place = attached.save(f"{folder}/mine")
    ...     attached.detach()
    ...     restore(tiny, place).technique.settings["r"]
    2
    """
    saved = read_saved(folder)
    attached = insert(model, saved.technique, name, seed=saved.record.seed, filled=False)
    try:
        _check(attached, saved, other_weights)
        _fill(attached, saved)
    except Exception:
        attached.detach()
        raise
    return attached


def refill(attached: Attached, folder: str | Path) -> None:
    """Gives what is attached the values of a saved module of the same technique, and whatever else of the host was saved with it.

    Parameters stay the ones that they are, so that an optimizer goes on with them; of a host that is sharded over processes, each
    takes its part. Raises PeftrefError `technique-differs` for a module of another technique or other settings, `host-differs`,
    `saved-missing`, `saved-damaged`, `saved-version`; nothing is changed then.
    """
    saved, model = read_saved(folder), attached.model
    here, there = attached.technique, saved.technique
    if not _same(here, there, attached.modules.host):
        text = f"{folder} holds {there.name} with {dict(there.settings)}, and {attached.name} is {here.name} with {dict(here.settings)}"
        raise fail("technique-differs", text, hint="restore(model, folder, name) attaches it as it was")
    _check(attached, saved, other_weights=False)
    names = {saved_name(model, key): key for key, _ in own_parameters(model)}
    trained = {names[key]: value for key, value in saved.tensors.items() if key in names}
    for key, value in trained.items():
        if model.get_parameter(key).shape != value.shape:
            raise fail("host-differs", f"{key} is {list(value.shape)} in the file, and of another shape on this host")
    for copy in attached.module.copies:
        put(attached.module.leaf(copy.name), saved.tensors[f"leaves.{copy.name}"])
    tuned = attached.modules.tuned.get(attached.name)
    for key, value in trained.items():
        if tuned is not None and key in tuned.names and not tuned.inside:
            tuned.aside[key] = value.to(tuned.aside[key].dtype)
        else:
            put(model.get_parameter(key), value)
    remember(attached.module, saved.tensors)
    attached.module.train(attached.module.training)


def _same(here: Technique, there: Technique, host: Host) -> bool:
    """Whether two techniques are one on a host: where no layer has cross attention, `attention` is self attention alone."""
    if not any(slot.startswith("cross_attention") for slot in host.slots()):
        here, there = self_attention_alone(here), self_attention_alone(there)
    return (here.insert, dict(here.settings), here.tune) == (there.insert, dict(there.settings), there.tune)


def _check(attached: Attached, saved: Saved, other_weights: bool) -> None:
    here, there = host_fingerprint(attached.model), saved.record.host
    problems = []
    if here.architecture != there.architecture:
        text = f"it was trained on {there.name} ({there.model_type}), and this host is {here.name} ({here.model_type}) of other sizes or slots"
        raise fail("host-differs", text)
    if here.weights and there.weights and here.weights != there.weights and not other_weights:
        text = f"it was trained on {there.name} with other weights than this host has"
        problems.append(Problem("host-differs", text, hint="restore(..., other_weights=True) takes it all the same"))
    made = saved.record.made
    wanted = {f"leaves.{copy.name}": copy.shape for copy in attached.module.copies if copy.name not in made}
    given = {key: tuple(value.shape) for key, value in saved.tensors.items() if key.startswith("leaves.")}
    for key in sorted(wanted.keys() | given.keys()):
        if wanted.get(key) != given.get(key):
            text = (
                f"{key} is {given.get(key, 'not there')} in the file, and {wanted.get(key, 'not wanted')} on this host"
            )
            problems.append(Problem("saved-damaged", text))
    if problems:
        raise PeftrefError(problems)


def _made(attached: Attached, saved: Saved, copy: Copy) -> Tensor:
    """A leaf made again from the seed."""
    record = saved.record
    value = seeded(attached.model, attached.module, copy, record.seed)
    if value is None or digest(value) != record.made[copy.name]:
        text = f"{copy.name} of {saved.technique.name} is not stored, and its seed gives other numbers here than where it was saved"
        note = f"it was saved with torch {record.versions.get('torch', 'unknown')}"
        hint = "save it with attached.save(folder, everything=True) there"
        raise fail("saved-seed", text, notes=(note,), hint=hint)
    return value


@torch.no_grad()
def _fill(attached: Attached, saved: Saved) -> None:
    model, module = attached.model, attached.module
    for copy in module.copies:
        leaf = module.leaf(copy.name)
        value = _made(attached, saved, copy) if copy.name in saved.record.made else saved.tensors[f"leaves.{copy.name}"]
        leaf.data = value.to(leaf.device, leaf.dtype)
    remember(module, saved.tensors)
    module.trained = dict(saved.record.training)
    known = {saved_name(model, key): key for key, _ in own_parameters(model)}
    trained = {key: value for key, value in saved.tensors.items() if not key.startswith(("leaves.", "procedures."))}
    names = tuple(known[key] for key in trained if key in known)
    for key, value in trained.items():
        if key not in known and key.startswith("host."):
            raise fail("host-differs", f"this host has no parameter {key.removeprefix('host.')}")
        if key in known and model.get_parameter(known[key]).shape != value.shape:
            raise fail(
                "host-differs", f"{known[key]} is {list(value.shape)} in the file, and of another shape on this host"
            )
    if not names:
        return
    modules = attached.modules
    modules.active = tuple(each for each in modules.active if each != attached.name)
    modules.settle(model)
    tuned = modules.tuned[attached.name] = Tuned(model, names)
    for key, value in trained.items():
        if key in known:
            tuned.aside[known[key]] = value.to(tuned.aside[known[key]].dtype)
    modules.active = (attached.name,)
    modules.settle(model)
