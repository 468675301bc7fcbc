"""The tap at a stack: what its running call is told to the modules, and vectors put in front of its sequence and taken off again.

The added vectors live inside the stack only, unless the technique says that they stay: heads, poolers, labels and losses see the
sequence that the user gave. A stack that
another one reads by cross attention keeps them, with the mask made longer there. Positions: the added vectors come first, so the
user's tokens are counted after them, as in the paper (and in peft). With a cache, they enter it with the first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from peftref.compile.checkpointing import checkpointing
from peftref.compile.flow import Flow, token_mask
from peftref.compile.override import Override
from peftref.compile.own import Own
from peftref.compile.run import Run
from peftref.host.host import Stack
from peftref.host.site import Site
from peftref.problem import fail


class StackTap:
    """What one stack of a host does differently: it fills its flow, and lengthens its sequence where a technique does so."""

    def __init__(self, model: nn.Module, stack: Stack, flow: Flow) -> None:
        self.flow = flow
        self.entry = model.get_submodule(stack.entry)
        self.names = tuple(inspect.signature(self.entry.forward).parameters)
        self.site: Site | None = None
        self.added = self.leaving = 0
        self.overrides = [Override(self.entry, self._enter)]

    def lengthen(
        self, model: nn.Module, site: Site, stack: Stack, reader: Stack | None, active: Callable[[Site], list[Run]]
    ) -> None:
        """Lets the techniques at the sequence of this stack act; reader: the stack that reads this one by cross attention."""
        if self.site is not None:
            return
        self.site, self.active = site, active
        self.embedding = model.get_submodule(site.path)
        self.leaves_at_entry = stack.exit == stack.entry and reader is None
        embedded = "inputs_embeds" not in self.names
        if embedded:
            self.overrides.append(Override(self.embedding, self._embedded))
        if (embedded or stack.exit != stack.entry) and reader is None:
            self.overrides.append(Override(model.get_submodule(stack.exit), self._leave))
        if reader is not None:
            self.overrides.append(Override(model.get_submodule(reader.entry), self._read))

    def remove(self) -> None:
        """Takes every override off."""
        for override in self.overrides:
            override.remove()

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        runs = self.active(self.site) if self.site is not None else []
        lengthened = bool(runs) and "inputs_embeds" in self.names
        if not lengthened and not runs:
            self.added = self.leaving = 0
        if lengthened:
            given = self._prompted(given, runs)
        cache = given.get("past_key_values")
        self.flow.cache = getattr(cache, "self_attention_cache", cache)
        self.flow.mask = token_mask(given.get("attention_mask"))
        self.flow.carried = {}
        try:
            with checkpointing(self.entry, self.flow):
                result = original(**given)
        finally:
            self.flow.cache = self.flow.mask = self.flow.carried = None
        cut = lengthened and self.leaves_at_entry and not self.continued
        return _cut(result, self.leaving) if cut else result

    def _prompted(self, given: dict[str, Any], runs: list[Run]) -> dict[str, Any]:
        cache = given.get("past_key_values")
        self.continued = cache is not None and cache.get_seq_length() > 0
        if self.continued:
            return _longer(given, self.added, prompt=False)
        vectors = given.get("inputs_embeds")
        before = self.embedding(given["input_ids"]) if vectors is None else vectors
        given |= {"input_ids": None, "inputs_embeds": self._lengthened(before, runs)}
        _room(cache, self.added)
        return _longer(given, self.added, prompt=True)

    def _embedded(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        runs = self.active(self.site) if self.site is not None else []
        return self._lengthened(result, runs) if runs else result

    def _lengthened(self, before: Tensor, runs: list[Run]) -> Tensor:
        assert self.site is not None
        after = before
        for run in runs:
            after = run(self.site, Own(self.embedding), h=after)["h"]
        self.added = after.shape[1] - before.shape[1]
        self.leaving = 0 if any(run.stays for run in runs) else self.added
        return after

    def _leave(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        first = result if isinstance(result, Tensor) else result[0]
        cached = kwargs.get("past_key_values")
        grown = cached is not None and cached.get_seq_length() > first.shape[1]
        return _cut(result, self.leaving) if self.leaving and not grown else result

    def _read(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if isinstance(mask, Tensor) and isinstance(states, Tensor) and mask.shape[-1] < states.shape[1]:
            kwargs["encoder_attention_mask"] = nn.functional.pad(mask, (states.shape[1] - mask.shape[-1], 0), value=1)
        return original(*args, **kwargs)


def _room(cache: Any, added: int) -> None:
    """Makes room for the added vectors in a cache of fixed length that is still empty."""
    for layer in getattr(cache, "layers", ()):
        if hasattr(layer, "max_cache_len") and not layer.is_initialized:
            layer.max_cache_len += added


def _longer(given: dict[str, Any], added: int, *, prompt: bool) -> dict[str, Any]:
    """The arguments of a call whose sequence, or whose past, is longer by `added`."""
    mask, positions, types = (given.get(name) for name in ("attention_mask", "position_ids", "token_type_ids"))
    if isinstance(mask, Tensor) and mask.dim() == 2:
        given["attention_mask"] = nn.functional.pad(mask, (added, 0), value=1)
    elif mask is not None:
        raise fail(
            "mask-fixed",
            "the sequence grows, and the mask given is made for a fixed one",
            hint="give a mask [batch, tokens]",
        )
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
