"""The tap at a stack's sequence: token vectors are added in front of what enters its layers, and taken off what leaves them.

The added vectors live inside the stack only: heads, poolers, labels and losses see the sequence that the user gave. A stack that
another one reads by cross attention keeps them, with the mask made longer there. Positions: the added vectors come first, so the
user's tokens are counted after them, as in the paper (and in peft). With a cache, they enter it with the first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from peftref.compile.override import Override
from peftref.compile.run import Run
from peftref.host.host import Stack
from peftref.host.site import Site


class SequenceTap:
    """What one stack of the host does differently with its sequence."""

    def __init__(
        self, model: nn.Module, site: Site, stack: Stack, reader: Stack | None, active: Callable[[Site], list[Run]]
    ) -> None:
        self.site = site
        self.embedding = model.get_submodule(site.path)
        self.active = active
        self.keeps = reader is not None
        self.added = 0
        entry = model.get_submodule(stack.entry)
        self.takes_vectors = "inputs_embeds" in inspect.signature(entry.forward).parameters
        self.overrides = [Override(entry, self._enter)]
        if not self.takes_vectors:
            self.overrides.append(Override(self.embedding, self._embedded))
        if stack.exit != stack.entry and not self.keeps:
            self.overrides.append(Override(model.get_submodule(stack.exit), self._leave))
        self.same = stack.exit == stack.entry
        if reader is not None:
            self.overrides.append(Override(model.get_submodule(reader.entry), self._read))

    def remove(self) -> None:
        """Takes every override off."""
        for override in self.overrides:
            override.remove()

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        runs = self.active(self.site)
        if not runs:
            self.added = 0
            return original(*args, **kwargs)
        if not self.takes_vectors:
            return original(*args, **kwargs)
        call = inspect.signature(original).bind_partial(*args, **kwargs)
        given = dict(call.arguments)
        given.update(given.pop("kwargs", {}))
        cache = given.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            return original(**_longer(given, self.added, prompt=False))
        vectors = given.get("inputs_embeds")
        before = self.embedding(given["input_ids"]) if vectors is None else vectors
        after = self._lengthened(before, runs)
        given |= {"input_ids": None, "inputs_embeds": after}
        result = original(**_longer(given, self.added, prompt=True))
        return _cut(result, self.added) if self.same and not self.keeps else result

    def _embedded(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        runs = self.active(self.site)
        return self._lengthened(result, runs) if runs else result

    def _lengthened(self, before: Tensor, runs: list[Run]) -> Tensor:
        after = before
        for run in runs:
            after = run(self.site, self.embedding, h=after)["h"]
        self.added = after.shape[1] - before.shape[1]
        return after

    def _leave(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        first = result if isinstance(result, Tensor) else result[0]
        cached = kwargs.get("past_key_values")
        grown = cached is not None and cached.get_seq_length() > first.shape[1]
        return _cut(result, self.added) if self.added and self.active(self.site) and not grown else result

    def _read(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if isinstance(mask, Tensor) and isinstance(states, Tensor) and mask.shape[-1] < states.shape[1]:
            kwargs["encoder_attention_mask"] = nn.functional.pad(mask, (states.shape[1] - mask.shape[-1], 0), value=1)
        return original(*args, **kwargs)


def _longer(given: dict[str, Any], added: int, *, prompt: bool) -> dict[str, Any]:
    """The arguments of a call whose sequence, or whose past, is longer by `added`."""
    mask, positions, types = (given.get(name) for name in ("attention_mask", "position_ids", "token_type_ids"))
    if isinstance(mask, Tensor) and mask.dim() == 2:
        given["attention_mask"] = nn.functional.pad(mask, (added, 0), value=1)
    if isinstance(positions, Tensor):
        shifted = positions + added
        first = torch.arange(added, device=positions.device, dtype=positions.dtype).expand(*positions.shape[:-1], added)
        given["position_ids"] = torch.cat([first, shifted], -1) if prompt else shifted
    if isinstance(types, Tensor) and prompt:
        given["token_type_ids"] = nn.functional.pad(types, (added, 0))
    return given


def _cut(result: Any, added: int) -> Any:
    """The result of a stack without the vectors that were added in front."""
    if isinstance(result, Tensor):
        return result[:, added:]
    if isinstance(result, tuple):
        return (result[0][:, added:], *result[1:])
    result["last_hidden_state"] = result["last_hidden_state"][:, added:]
    if result.get("hidden_states") is not None:
        result["hidden_states"] = tuple(states[:, added:] for states in result["hidden_states"])
    return result
