"""Where data stands: the catalog and the schemas that ship with the package, and the cache of what is made here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(kind: Literal["catalog", "schemas"]) -> Path:
    """The folder of the shipped catalog or of the shipped schemas.

    An installed wheel carries it inside the package; a checkout has it beside the package. Raises FileNotFoundError
    where neither has it, which means a broken installation.

    >>> data_folder("catalog").name
    'catalog'
    """
    for folder in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"peftref was installed without its {kind} folder; install it again")


def cache_folder() -> Path:
    """Where pretrained hosts and computed rows are kept: `PEFTREF_CACHE`, or the user's cache folder."""
    own = os.environ.get("PEFTREF_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "peftref"
