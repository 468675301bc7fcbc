"""The table of positions of a host: from which row it counts, how many rows it has, and a clear error where they do not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.modules.running.override import arguments

PAST = "past_key_values_length"
"""The argument by which a module that adds positions is told how long the past is."""


def first_position(entry: nn.Module) -> int:
    """The position from which a host counts: behind the row that its table of positions keeps for padding, where it has one."""
    table = _table(entry)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def n_positions(entry: nn.Module) -> int | None:
    """How many positions a stack has; None where it has no table of them."""
    table = _table(entry)
    return None if table is None else table.num_embeddings - int(getattr(table, "offset", 0)) - first_position(entry)


@contextmanager
def enough(entry: nn.Module, given: dict[str, Any], rows: int | Tensor) -> Iterator[None]:
    """While inside, a call of a stack fails with PeftrefError `table-full` where rows and tokens are more than its positions.

    given: the arguments of the call; rows: how many a technique puts in front, in all samples or in each, which are counted and are no
    part of the arguments.
    """
    cache, tokens = given.get("past_key_values"), given.get("inputs_embeds")
    tokens = given.get("input_ids") if tokens is None else tokens
    past = 0 if cache is None else cache.get_seq_length()
    past = past.clone() if isinstance(past, Tensor) else past  # a cache of fixed length counts on in place
    try:
        yield
    except (IndexError, RuntimeError) as error:
        size = n_positions(entry)
        most = rows if isinstance(rows, int) else int(rows.max())
        places = int(past) + most + (tokens.shape[1] if isinstance(tokens, Tensor) else 0)
        if size is None or places <= size:
            raise
        text = f"rows of techniques and tokens are {places}, and the host has {size} positions"
        raise fail("table-full", text, hint="shorten the input, or take fewer rows") from error


def _table(entry: nn.Module) -> nn.Embedding | None:
    size = getattr(getattr(entry, "config", None), "max_position_embeddings", None)
    own = getattr(entry, "get_input_embeddings", lambda: None)()
    for each in entry.modules():
        if (
            isinstance(each, nn.Embedding)
            and each is not own
            and (each.num_embeddings == size or PAST in arguments(each))
        ):
            return each
    return None
