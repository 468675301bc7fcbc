"""What `save_pretrained` writes of a host with techniques on it: the files of the host alone."""

from __future__ import annotations

from typing import Any

from peftref.modules.container import CONTAINER


def keep_out(model: Any) -> None:
    """Tells transformers which tensors of the state dict are not the host's own.

    `save_pretrained` leaves them out, and its trainer does not miss them in a checkpoint of the host. Called whenever what is
    attached has changed; with nothing attached, the host's own list is as it was.
    """
    if not hasattr(model, "_keys_to_ignore_on_save"):
        return
    own = {key for key in model._keys_to_ignore_on_save or () if not key.startswith(f"{CONTAINER}.")}
    modules = model._modules.get(CONTAINER)
    ours = set() if modules is None else {f"{CONTAINER}.{key}" for key in modules.state_dict()}
    model._keys_to_ignore_on_save = own | ours
