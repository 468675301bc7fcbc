"""The leaves that the module of a site holds are those of the technique's tree, also where another library puts others there.

The tree is what torch knows. Sharding (FSDP2) puts the whole of a leaf there for a forward pass and its shard after it, and
`load_state_dict(assign=True)` puts new ones; the modules of the sites, which stand outside the tree, follow.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from peftref.modules.running.keep import Keep
from peftref.modules.running.projection import Part


class Bound:
    """What one site's module holds of the tree.

    places: for each leaf, the module of the tree where it stands, and its name there. together: all of one technique, which share
    products, and so follow the tree at the same time. first: the first leaf that is no table of whole numbers.
    """

    def __init__(self, forward: nn.Module, places: tuple[tuple[nn.Module, str], ...], together: list[Bound]) -> None:
        self.forward = forward
        self.places = places
        self.held: list[Any] = [owner._parameters[name] for owner, name in places]
        self.first = _first(self.held)
        self.together = together
        together.append(self)

    def renew(self) -> None:
        """Takes what stands in the tree now."""
        for (owner, name), leaf in zip(self.places, self.held, strict=True):
            if owner._parameters[name] is not leaf:
                for each in self.together:
                    each._follow()
                return

    def _follow(self) -> None:
        now = [owner._parameters[name] for owner, name in self.places]
        new: dict[int, Any] = {id(old): leaf for old, leaf in zip(self.held, now, strict=True)}
        self.held, self.first = now, _first(now)
        _put(self.forward._parameters, new)
        for value in vars(self.forward).values():
            if isinstance(value, SimpleNamespace):
                _put(vars(value), new)
            elif isinstance(value, Keep):
                value.leaves = tuple(new.get(id(leaf), leaf) for leaf in value.leaves)
                value.forget()
            elif isinstance(value, Part):
                value.projection.leaves = [new.get(id(leaf), leaf) for leaf in value.projection.leaves]


def _first(leaves: list[Any]) -> Tensor | None:
    return next((leaf for leaf in leaves if leaf.is_floating_point()), None)


def _put(names: dict[str, Any], new: dict[int, Tensor]) -> None:
    for name, value in names.items():
        if id(value) in new:
            names[name] = new[id(value)]
