"""An attached module written as a checkpoint of huggingface/peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.write import whole_folder
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.alike import refuse_others, unlike, unshared
from peftref.exchange.peft.front import front_fields, unread
from peftref.exchange.peft.installed import need_peft
from peftref.exchange.peft.shell import peft_model
from peftref.modules.attached import Attached
from peftref.modules.own_parameters import own_parameters

if TYPE_CHECKING:
    from peft import PeftModel


def write_peft(attached: Attached, folder: str | Path) -> Path:
    """Writes a module so that `PeftModel.from_pretrained` loads it on the same host with the same outputs; returns the folder.

    A task head that is trained beside it is written too. Raises PeftrefError `no-peer`, `peft-missing`, `peer-slice`, `peer-refuses`,
    `peer-differs` where peft would make other frozen tensors than the module has, `save-place`; nothing is written then.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise fail("save-place", f"{target} holds something else", hint="give a new folder")
    technique, host, module = attached.technique, attached.modules.host, attached.module
    peer = exchange.peer_of(technique)
    if peer.refused or not (peer.keys or peer.folds):
        raise fail(
            "no-peer", peer.refused or f"{exchange.LIBRARY} keeps the tensors of {technique.name} in another form"
        )
    need_peft()
    leaves = {copy.name: module.leaf(copy.name).detach() for copy in module.copies}
    fields = exchange.config(technique, host, leaves)
    front = front_fields(fields["peft_type"], attached.model)
    if front:
        problems = list(unread(technique, host, attached.model))
        if problems:
            raise PeftrefError(problems)
        fields |= {**front, "inference_mode": True}
    heads = sorted({name.split(".")[0] for name, each in own_parameters(attached.model) if each.requires_grad})
    if heads:
        fields["modules_to_save"] = heads
    with peft_model(attached.model, fields, apart=peer.mutates is not None) as theirs:
        refuse_others(technique, host, theirs)
        _fill(attached, theirs, leaves)
        try:
            with whole_folder(target) as made:
                theirs.save_pretrained(str(made), save_embedding_layers=False)  # they are as the host has them
        except OSError as error:
            raise fail("save-place", f"{target} cannot be written: {error.strerror or error}") from None
    return target


@torch.no_grad()
def _fill(attached: Attached, theirs: PeftModel, leaves: Mapping[str, Tensor]) -> None:
    from peft.utils import set_peft_model_state_dict

    technique, host = attached.technique, attached.modules.host
    mutates = exchange.peer_of(technique).mutates is not None
    tensors, like = exchange.state(technique, host, leaves, theirs), exchange.beginning(theirs)
    problems = [
        Problem("peer-differs", f"peft makes {name} itself, and not as it is here")
        for name, value in exchange.made(technique, host, theirs).items()
        if not mutates and not torch.equal(value.reshape(leaves[name].shape).to(leaves[name]), leaves[name])
    ]
    problems += unshared(exchange.keys(technique, attached.module.copies, exchange.targeted(theirs)), like)
    for key in sorted(tensors.keys() - like.keys()):
        problems.append(Problem("peer-differs", f"peft has no tensor {key}"))
    for key, value in tensors.items():
        if key in like and like[key].numel() != value.numel():
            text = f"{key} is {list(like[key].shape)} in peft, and {list(value.shape)} here"
            problems.append(Problem("peer-differs", text))
        elif key in like and not torch.equal(value.to(like[key].dtype).to(value.dtype), value):
            kept = str(like[key].dtype).removeprefix("torch.")
            problems.append(Problem("peer-differs", f"peft keeps {key} in {kept}, which loses some of what it is here"))
    if problems:
        raise PeftrefError(problems)
    shaped = {key: value.reshape(like[key].shape) for key, value in tensors.items()}
    set_peft_model_state_dict(theirs, like | shaped)
    if exchange.looked_at(technique) and (problems := list(unlike(attached, theirs))):
        raise PeftrefError(problems)
