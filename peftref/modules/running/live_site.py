"""A site on a live host: the techniques' runs that stand there, and what is kept for it during a call.

What differs between two layers that are alike is here in objects, and in no name or number: `torch.compile` guards on those, and
would make a graph of its own for each layer where layers are compiled one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from peftref.host.site import Site
from peftref.modules.running.flow import Flow
from peftref.modules.running.run import Run


class LiveSite:
    """One site of a live host.

    chosen: gives the runs that act at it now. flow: what is known of the running call of the site's stack. by_name: the runs of
    each technique that stands there. held: what a sublayer reads, `x` or `res`, until its output is there. norm: what the host makes
    of the sum of stream and output, where it does.
    """

    def __init__(self, site: Site, chosen: Chosen, flow: Flow) -> None:
        self.site = site
        self.kind = site.kind
        self.chosen = chosen
        self.flow = flow
        self.by_name: dict[str, list[Run]] = {}
        self.held: dict[str, Tensor] = {}
        self.norm: nn.Module | None = None

    def runs(self) -> list[Run]:
        """The runs that act now, in order; each takes the quantities it reads and gives those it sets."""
        return self.chosen(self)


Chosen: TypeAlias = Callable[[LiveSite], list[Run]]
