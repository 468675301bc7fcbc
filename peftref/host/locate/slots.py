"""The sites of a host, from whatever names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.host.locate.resolve import resolve
from peftref.host.site import Site

if TYPE_CHECKING:
    from peftref.host.locate.resolve import HostLike


def slots(host: HostLike) -> tuple[Site, ...]:
    """Every slot of a host where it stands: sites with `slot`, `stack`, `layer`, `path` and `sizes`. Raises what `resolve` raises.

    >>> site = next(site for site in slots("bert-base") if site.slot == "attention.query")
    >>> site.layer, site.path, site.sizes["d_out"]
    (0, 'encoder.layer.0.attention.self.query', 768)
    """
    return resolve(host).sites
