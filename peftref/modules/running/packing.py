"""Rows in front of sequences: one in each line of a batch, or several that are packed into one line, each of which gets its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

STARTS = ("cu_seq_lens_q", "cu_seq_lens_k")
LONGEST = ("max_length_q", "max_length_k")


@dataclass(frozen=True)
class Packing:
    """Where `added` rows go that stand in front of each sequence.

    numbers: [batch or 1, tokens], the number of the sequence that a token belongs to, counted from 0 in each line, and -1 for padding
    that stays in front; None where a line holds one sequence. A line with fewer sequences than another gets rows for the missing ones
    at its end. padded: whether numbers tell padding from one sequence, and no packed ones apart.

    >>> two = Packing(1, torch.tensor([[0, 0, 1]]))
    >>> two.spread(torch.tensor([[7]]), torch.tensor([[1, 2, 3]]))
    tensor([[7, 1, 2, 7, 3]])
    >>> two.kept(torch.tensor([[7, 1, 2, 7, 3]]))
    tensor([[1, 2, 3]])
    """

    added: int
    numbers: Tensor | None = None
    padded: bool = False

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Where the rows of every sequence go, [batch, sequences * added], and where the tokens go, [batch, tokens]."""
        assert self.numbers is not None
        each = torch.arange(int(self.numbers.max()) + 1, device=self.numbers.device)
        before = (self.numbers[:, None, :] < each[None, :, None]).sum(-1)
        rows = (before + each * self.added)[..., None] + torch.arange(self.added, device=each.device)
        tokens = torch.arange(self.numbers.shape[1], device=each.device) + (self.numbers + 1) * self.added
        return rows.flatten(1), tokens

    def spread(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Rows [batch, added, ...] and tokens [batch, tokens, ...] as one: the rows in front of every sequence."""
        if self.numbers is None:
            return torch.cat([rows, tokens], 1)
        places = torch.cat(self._places, 1)
        several = self._places[0].shape[1] // max(self.added, 1)
        both = torch.cat([rows.repeat(1, several, *(1,) * (rows.dim() - 2)), tokens], 1)
        return _along(both, places.argsort(1))

    def kept(self, values: Tensor) -> Tensor:
        """The tokens' part of values [batch, rows and tokens, ...]."""
        return values[:, self.added :] if self.numbers is None else _along(values, self._places[1])

    def sequences(self) -> Tensor | None:
        """The number of the sequence that each row and token belongs to, [batch or 1, rows and tokens]; None where it is one."""
        if self.numbers is None or self.padded:
            return None
        each = torch.arange(int(self.numbers.max()) + 1, device=self.numbers.device).repeat_interleave(self.added)
        rows, _ = self._places
        both = torch.cat([each.expand(rows.shape), self.numbers], 1)
        return _along(both, torch.cat(self._places, 1).argsort(1))

    def lengths(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments that say where packed sequences start and how long the longest is."""
        longer = dict(given)
        for name in (name for name in STARTS if isinstance(given.get(name), Tensor)):
            starts = given[name]
            longer[name] = starts + self.added * torch.arange(len(starts), device=starts.device, dtype=starts.dtype)
        for name in (name for name in LONGEST if given.get(name) is not None):
            longer[name] = given[name] + self.added
        return longer


def behind_padding(mask: Tensor, added: int) -> Packing:
    """Rows behind the padding in front of each line of a mask [batch, tokens].

    >>> behind_padding(torch.tensor([[0, 1, 1], [1, 1, 0]]), 1).spread(torch.full((2, 1), 7), torch.tensor([[0, 1, 2], [1, 2, 0]]))
    tensor([[0, 7, 1, 2],
            [7, 1, 2, 0]])
    """
    return Packing(added, (mask.cumsum(1) > 0).long() - 1, padded=True)


def packed(entry: nn.Module, given: dict[str, Any]) -> Tensor | None:
    """The number of the sequence of each token, as `Packing` has it, where a call of a stack packs several; else None.

    A stack is told by where sequences start, or by positions that start anew while there is neither a mask nor a cache
    (transformers takes no others for packed).
    """
    starts, positions = given.get(STARTS[0]), given.get("position_ids")
    if isinstance(starts, Tensor):
        tokens = given.get("input_ids") if given.get("inputs_embeds") is None else given["inputs_embeds"]
        assert isinstance(tokens, Tensor)
        places = torch.arange(tokens.shape[1], device=starts.device, dtype=starts.dtype)
        return torch.searchsorted(starts[1:].contiguous(), places, right=True)[None]
    if not isinstance(positions, Tensor) or positions.dim() != 2 or given.get("attention_mask") is not None:
        return None
    if caching(entry, given) and not (flash(entry) and positions.shape[0] == 1):
        return None
    anew = torch.diff(positions, prepend=positions[:, :1] - 1) != 1
    return anew.cumsum(-1) if bool(anew.any()) else None


def flash(module: nn.Module) -> bool:
    """Whether a module of the host attends by flash attention, which is told of packing and windows instead of given a mask."""
    return "flash" in str(getattr(getattr(module, "config", None), "_attn_implementation", ""))


def caching(entry: nn.Module, given: dict[str, Any]) -> bool:
    """Whether a call keeps keys and values."""
    if given.get("past_key_values") is not None:
        return True
    wanted, config = given.get("use_cache"), getattr(entry, "config", None)
    if entry.training and getattr(entry, "gradient_checkpointing", False):
        return False
    return bool(getattr(config, "use_cache", False) if wanted is None else wanted)


def _along(values: Tensor, places: Tensor) -> Tensor:
    """Values [batch, n, ...] at places [batch or 1, m]."""
    index = places.expand(values.shape[0], -1).reshape(values.shape[0], -1, *(1,) * (values.dim() - 2))
    return torch.take_along_dim(values, index, 1)
