"""An attached module written as a checkpoint of adapters."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from peftref.core.problem import fail
from peftref.design.write import whole_folder
from peftref.exchange.adapters.form import config, state
from peftref.exchange.adapters.library import LIBRARY, library
from peftref.exchange.checkpoint import CONFIG, FORMATS
from peftref.modules.attached import Attached
from peftref.modules.own_parameters import own_parameters

TENSORS = next(form.tensors for form in FORMATS if form.library == LIBRARY)


def write_adapters(attached: Attached, folder: str | Path) -> Path:
    """Writes a module so that `load_adapter` of adapters loads it on the same host with the same outputs; returns the folder.

    Load it there with `use_safetensors=True`. Raises PeftrefError `no-peer`, `peer-field` for a setting that adapters cannot
    have, `peer-targets` where it could not stand at the same sites, `peer-differs` for a task head that is trained beside it,
    `save-place`; nothing is written then.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise fail("save-place", f"{target} holds something else", hint="give a new folder")
    heads = sorted({name.split(".")[0] for name, each in own_parameters(attached.model) if each.requires_grad})
    if heads:
        hint = "save the head with the model, or freeze it first"
        raise fail("peer-differs", f"{LIBRARY} keeps no {heads[0]} in a checkpoint of a module", hint=hint)
    technique, host, module, model = attached.technique, attached.modules.host, attached.module, attached.model
    fields = {
        "config": config(technique, host),
        "hidden_size": host.stacks[0].sizes["d_model"],
        "model_class": type(model).__name__,
        "model_name": getattr(model.config, "_name_or_path", ""),
        "model_type": host.model_type,
        "name": attached.name,
        "version": f"{LIBRARY}.{library().version}",
    }
    leaves = {copy.name: module.leaf(copy.name) for copy in module.copies}
    tensors = {key: value.contiguous() for key, value in state(technique, host, leaves, attached.name).items()}
    try:
        with whole_folder(target) as made:
            (made / CONFIG).write_text(json.dumps(fields, indent=2, sort_keys=True), encoding="utf-8")
            save_file(tensors, made / TENSORS)
    except OSError as error:
        raise fail("save-place", f"{target} cannot be written: {error.strerror or error}") from None
    return target
