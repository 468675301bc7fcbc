"""What is known of the running forward pass: per stack, which tokens count, whether they look ahead, and the cache of the past."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from peftref.core.problem import fail

Known = tuple[
    Tensor | None,
    Tensor | None,
    Tensor | None,
    dict[tuple[str, str], Tensor] | None,
    Any,
    tuple[int, int | None] | None,
]
"""The mask, the packed sequences, the tasks, what is carried, which technique acts on which sample, and how many samples and tokens
there are."""


@dataclass
class Flow:
    """The running call of one stack.

    mask: [batch, tokens so far], nonzero where a token counts, or [batch, 1, queries, keys], true where a query sees a key;
    packed: [batch, tokens], the number of the sequence that each token belongs to, where several stand in one row; cache: the host's,
    when it has one; tasks: [batch], the number of each sample's task, where it was told. carried: what techniques carry through this
    call, by the technique's name and its own; None where no call is running. checkpoints: whether parts of it will be run again for
    the backward pass. samples: which technique acts on which sample, where that was told (`Samples`); part: those that a module is
    being called for, where it is not for all (`Part`); shape: how many samples and tokens the call has.
    """

    causal: bool = False
    layers: int = 0
    mask: Tensor | None = None
    packed: Tensor | None = None
    cache: Any = None
    tasks: Tensor | None = None
    carried: dict[tuple[str, str], Tensor] | None = None
    checkpoints: bool = False
    samples: Any = None
    part: Any = None
    shape: tuple[int, int | None] | None = None

    @property
    def running(self) -> bool:
        """Whether a call of the stack is running."""
        return self.carried is not None

    def known(self) -> Known:
        """What a layer is told now."""
        carried = None if self.carried is None else dict(self.carried)
        return self.mask, self.packed, self.tasks, carried, self.samples, self.shape

    def tell(self, known: Known) -> None:
        """Tells what a layer was told before."""
        self.mask, self.packed, self.tasks, self.carried, self.samples, self.shape = known

    def tokens(self) -> Tensor | None:
        """Which tokens of each sample count, [batch, tokens so far], or None for all; raises PeftrefError `packed`.

        A row in which several sequences stand is no single sample.
        """
        mask, several = self.mask, self.packed is not None
        if mask is not None and mask.dim() == 4:
            seen = mask[:, 0]
            mask, several = seen[:, -1], bool((seen.any(1) != seen[:, -1]).any())
        if several:
            text = "a value of a whole sample is asked for, and several sequences are packed into one row"
            raise fail("packed", text, hint="give each sequence a row of its own, with a mask [batch, tokens]")
        return mask


@dataclass
class Context:
    """What a module at one site may know of the running call; `key` names the site and the technique in the cache."""

    flow: Flow = field(default_factory=Flow)
    key: str = ""

    def past(self, key: Tensor, value: Tensor, call: int) -> tuple[Tensor, Tensor]:
        """Keys and values [batch, heads, tokens, d] with those of the tokens before, kept in the host's own cache."""
        cache = self.flow.cache
        if cache is None:
            return key, value
        kept: dict[str, Any] = cache.__dict__.setdefault("peftref", {})
        name = f"{self.key}.{call}"
        if name not in kept:
            kept[name] = DynamicLayer()
            while getattr(cache, "layer_class_to_replicate", None) and len(cache.layers) < self.flow.layers:
                cache.layers.append(cache.layer_class_to_replicate())
            cache.layers.append(kept[name])
        part, batch = self.flow.part, self.flow.shape
        if part is None or batch is None:
            keys, values = kept[name].update(key, value)
            return keys, values
        # the cache has an entry for each sample: others' stay zero, so that beams are sorted as in the host's own layers
        spread = (part.put(each.new_zeros(batch[0], *each.shape[1:]), each) for each in (key, value))
        keys, values = kept[name].update(*spread)
        return part.take(keys), part.take(values)

    def seen(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Which keys each query sees, [batch or 1, 1, queries, keys], or None for all; a query always sees its own token."""
        mask, packed = self.flow.mask, self.flow.packed
        own = torch.eye(keys, dtype=torch.bool, device=device)[keys - queries :][None, None]
        if mask is not None and mask.dim() == 4:
            return mask[..., :keys] | own
        seen: Tensor | None = None
        if self.flow.causal and queries > 1:
            seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)[None, None]
        if packed is not None:
            same = packed[:, None, -queries:, None] == packed[:, None, None, :keys]
            seen = same if seen is None else seen & same
        if mask is not None and mask.shape[1] >= keys:
            valid = mask[:, None, None, :keys].bool() | own
            seen = valid if seen is None else seen & valid
        return seen


def told_mask(mask: Any) -> Tensor | None:
    """What tokens see from whatever a stack was given: [batch, tokens]; or [batch, 1, queries, keys], of the layers that see most."""
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if not isinstance(mask, Tensor):
        return None
    if mask.dim() == 4:
        first = mask[:, :1]
        return first if first.dtype == torch.bool else first >= 0
    return mask if mask.dim() == 2 else None
