"""The tap at a stack: what its running call is told to the modules, and vectors put in front of its sequence and taken off again.

The added vectors live inside the stack only, unless the technique says that they stay: heads, poolers, labels and losses see the
sequence that the user gave. A stack that
another one reads by cross attention keeps them, with the mask made longer there. Positions: the added vectors come first, so the
user's tokens are counted after them, as in the paper (and in peft). With a cache, they enter it with the first call. Sequences that
are packed into one line get them each; where tokens see no further than a window, which counts places, padding stays in front of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.host.host import Stack
from peftref.modules.running.checkpointing import checkpointing
from peftref.modules.running.flow import Flow, told_mask
from peftref.modules.running.keys import Keys
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.longer import (
    after_rows,
    begun,
    fitted,
    make_room,
    remember,
    rows_in,
    windowed,
    with_rows,
)
from peftref.modules.running.override import Override, arguments
from peftref.modules.running.own import Own
from peftref.modules.running.packing import Packing, behind_padding, caching, packed
from peftref.modules.running.padding import batch_shape, counts_by_itself, hidden, lengthened, padding, told
from peftref.modules.running.run import Run
from peftref.modules.running.table import enough, first_position
from peftref.modules.running.turn import turned

MASKS = "create_masks_for_generate"
"""What transformers calls on a model to make masks before a step with a cache of fixed length."""


class StackTap:
    """What one stack of a host does differently: it fills its flow, and lengthens its sequence where a technique does so."""

    def __init__(self, model: nn.Module, stack: Stack, flow: Flow) -> None:
        self.flow = flow
        self.model = model
        self.entry = model.get_submodule(stack.entry)
        self.names = arguments(self.entry)
        self.live: LiveSite | None = None
        self.keys: Keys | None = None
        self.mixes = False
        self.packing = Packing(0)
        self.pads: Tensor | None = None
        self.leaving = False
        self.overrides = [Override(self.entry, self._enter)]
        if stack.causal:
            model.__dict__[MASKS] = _as_given

    def lengthen(self, model: nn.Module, live: LiveSite, stack: Stack, reader: Stack | None) -> None:
        """Lets the techniques at the sequence of this stack act; reader: the stack that reads this one by cross attention."""
        if self.live is not None:
            return
        self.live = live
        self.embedding = model.get_submodule(live.site.path)
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
        self.model.__dict__.pop(MASKS, None)

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        self.flow.shape = None
        if self.flow.samples is not None:
            self.flow.samples.times(batch_shape(given)[0])
        runs = self._growing()
        numbers = packed(self.entry, given)
        keeps = caching(self.entry, given)
        if self.mixes and given.get("past_key_values") is None and self._begins(given):
            given["past_key_values"] = begun(self.entry, given)
        cache = given.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())
        self.packing, self.leaving = Packing(0, numbers), False
        rows, self.pads = rows_in(cache) if past else (0, None)
        if rows:
            given = after_rows(given, rows, behind=windowed(self.entry))
        elif runs and not past and "inputs_embeds" in self.names:
            given = self._lengthening(given, runs)
        keys = 0
        if self.keys is not None and not past:
            given, keys = self._with_keys(given, self.keys)
            cache = given.get("past_key_values")
        if self.pads is not None:
            given = told(given, self.pads, rows or self.packing.added or keys, past + keys, self.entry, self.names)
        self.flow.shape = None if self.flow.samples is None else batch_shape(given)
        self.flow.cache = getattr(cache, "self_attention_cache", cache)
        self.flow.mask = told_mask(given.get("attention_mask"))
        self.flow.packed = self.packing.sequences()
        self.flow.carried = {}
        if "attention_mask" in given:
            given["attention_mask"] = fitted(given["attention_mask"], cache)
        try:
            with (
                checkpointing(self.entry, self.flow),
                enough(self.entry, given, 0) if rows or runs or keys else nullcontext(),
            ):
                result = original(**given)
        finally:
            self.flow.cache = self.flow.mask = self.flow.packed = self.flow.carried = self.flow.shape = None
        if not past:
            for made in (cache, *(result.values() if isinstance(result, dict) else ())):
                remember(made, self.packing.added + keys, self.pads)
        if keys and not keeps and isinstance(result, dict):  # the cache was for these rows only
            result = type(result)(**{name: value for name, value in result.items() if name != "past_key_values"})
        return _cut(result, self.packing) if self.leaving and self.leaves_at_entry else result

    def _with_keys(self, given: dict[str, Any], found: Keys) -> tuple[dict[str, Any], int]:
        """The arguments of a call whose keys and values begin with rows, and how many."""
        added, pads = found.begin(given, batch_shape(given)[0])
        if added and self.packing.numbers is not None:
            text = "several sequences are packed into one row, and rows in front of their keys would stand in one cache"
            raise fail("packed", text, hint="give each sequence a row of its own, with a mask [batch, tokens]")
        if pads is not None and bool(pads.any()):
            if self.packing.added:
                text = "some samples of the batch get more rows in front of their keys than others, and prompts besides"
                raise fail("samples-length", text, hint="run the samples of each technique in a batch of their own")
            self.pads = pads
        return (after_rows(given, added, behind=False) if added else given), added

    def _growing(self) -> list[Run]:
        """The runs that change the sequence itself, and not what it is looked up in."""
        return [run for run in self.live.runs() if "h" in run.gives] if self.live is not None else []

    def _begins(self, given: dict[str, Any]) -> bool:
        """Whether the host begins a cache by itself, in which the modules that read other tokens keep what they read."""
        wanted = self.flow.causal and "past_key_values" in self.names and not self.entry.training
        return wanted and caching(self.entry, given)

    def _lengthening(self, given: dict[str, Any], runs: list[Run]) -> dict[str, Any]:
        vectors = given.get("inputs_embeds")
        before = self._looked_up(given["input_ids"]) if vectors is None else vectors
        mask = given.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2 and windowed(self.entry):
            self.packing = behind_padding(mask, 0)
        longer = self._lengthened(before, runs)
        make_room(given.get("past_key_values"), self.packing.added)
        first = first_position(self.entry)
        given = with_rows(given, self.packing, first, causal=self.flow.causal and not windowed(self.entry))
        return given | {"input_ids": None, "inputs_embeds": longer}

    def _looked_up(self, ids: Tensor) -> Tensor:
        """The vectors of ids [batch, tokens], looked up as the host does."""
        first = self.live is not None and self.live.site.tokens_first
        found: Tensor = turned(self.embedding(turned(ids))) if first else self.embedding(ids)
        return found

    def _embedded(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        runs = self._growing()
        return self._lengthened(result, runs) if runs else result

    def _lengthened(self, before: Tensor, runs: list[Run]) -> Tensor:
        after, lengths = lengthened(before, runs, self._called)
        self.packing = replace(self.packing, added=after.shape[1] - before.shape[1])
        self.leaving = self.packing.added > 0 and not any(run.stays for run in runs)
        self.pads = padding(runs, lengths, before.shape[0]) if self.packing.added else None
        if self.pads is not None and (why := self._unpaddable(before.shape[-1])):
            text = f"some samples of the batch grow more than others, and {why}"
            raise fail("samples-length", text, hint="run the samples of each technique in a batch of their own")
        if self.packing.numbers is None:
            return after
        return self.packing.spread(after[:, : self.packing.added], after[:, self.packing.added :])

    def _called(self, runs: list[Run], before: Tensor) -> Tensor:
        assert self.live is not None
        after = before
        for run in runs:
            after = run(self.live.site, Own(self.embedding), h=after)["h"]
        return after

    def _unpaddable(self, width: int) -> str | None:
        """Why samples of different lengths cannot be in one batch."""
        if not self.leaving:
            return "the heads see what was put in front"
        if self.packing.numbers is not None:
            return (
                "several sequences are packed into a row"
                if not self.packing.padded
                else "tokens see no further than a window"
            )
        if "attention_mask" not in self.names or "inputs_embeds" not in self.names:
            return "this host has no mask for what fills the others up"
        own = counts_by_itself(self.entry, self.names, self.embedding, width)
        return "this host counts positions by itself and cannot be told of what fills the others up" if own else None

    def _leave(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        return _cut(result, self.packing) if self.leaving else result

    def _read(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if isinstance(mask, Tensor) and isinstance(states, Tensor) and mask.shape[-1] < states.shape[1]:
            mask = nn.functional.pad(mask, (states.shape[1] - mask.shape[-1], 0), value=1)
            kwargs["encoder_attention_mask"] = mask
        if isinstance(states, Tensor) and self.pads is not None:
            count, length = states.shape[:2]
            told_of = hidden(mask, self.pads, self.packing.added, count, length, states.device)
            kwargs["encoder_attention_mask"] = told_of
        return original(*args, **kwargs)


def _as_given(*, attention_mask: Tensor | None = None, **more: Any) -> Tensor | None:
    """The mask [batch, tokens] as it is: the stack makes its own from it, when it knows how long its sequence is."""
    return attention_mask


def _cut(result: Any, packing: Packing) -> Any:
    """The result of a stack without the vectors that were added in front."""
    if isinstance(result, Tensor):
        return packing.kept(result)
    if isinstance(result, tuple):
        return (packing.kept(result[0]), *result[1:])
    result["last_hidden_state"] = packing.kept(result["last_hidden_state"])
    if result.get("hidden_states") is not None:
        result["hidden_states"] = tuple(packing.kept(states) for states in result["hidden_states"])
    return result
