"""Which techniques a command takes where none is named: `catalog/defaults.yaml`."""

from __future__ import annotations

from functools import cache

import yaml

from peftref.core.data import data_folder
from peftref.host.architecture import Frozen


class Defaults(Frozen):
    """Names of techniques.

    compare: what is compared. new: what a new technique begins as a copy of.
    """

    compare: tuple[str, ...]
    new: str


@cache
def defaults() -> Defaults:
    """The names in the catalog that ships with the package.

    >>> defaults().new in defaults().compare
    True
    """
    text = (data_folder("catalog") / "defaults.yaml").read_text(encoding="utf-8")
    return Defaults.model_validate(yaml.safe_load(text))
