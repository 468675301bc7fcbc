"""One technique with everything that the pages say of it, computed once."""

from __future__ import annotations

from dataclasses import dataclass

from peftref.analyse.diff import Relative
from peftref.analyse.row import Row
from peftref.core.problem import PeftrefError
from peftref.design.technique import Technique
from peftref.host.presets import preset_names
from peftref.report.code import code_of

SHOWN_ON = ("bert-base", "llama-3.2-1b", "t5-base", "vit-base")
"""The hosts that code is shown for: the first on which a technique stands."""


@dataclass(frozen=True)
class Entry:
    """A technique, its typology row, its nearest relatives, the host that its page begins with, and its code there."""

    technique: Technique
    row: Row
    relatives: tuple[Relative, ...]
    host: str
    code: str

    @property
    def name(self) -> str:
        """The name, which is that of its page too."""
        return self.technique.name


def entry(technique: Technique, row: Row, relatives: tuple[Relative, ...]) -> Entry:
    """The entry of a technique; one that stands on no preset has no code."""
    for host in dict.fromkeys((*SHOWN_ON, *preset_names())):
        try:
            return Entry(technique, row, relatives, host, code_of(technique, host))
        except PeftrefError:
            continue
    return Entry(technique, row, relatives, SHOWN_ON[0], "")
