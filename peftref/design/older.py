"""A technique as a file of another time meant it."""

from __future__ import annotations

import re

from peftref.design.technique import Technique

_ATTENTION = re.compile(r"(?<![\w])attention(?=\.[a-z_]+\.[A-Za-z]\b)")
"""The word in front of another slot's quantity in an equation: `attention.key.W`."""
_WORD = re.compile(r"(^|\.)attention(?=\.|$)")


def self_attention_alone(technique: Technique) -> Technique:
    """The technique with `self_attention` wherever it says `attention`, which had that meaning in saved modules up to format 2.

    >>> mine = Technique(name="mine", title="Mine", insert=[{"at": ["attention.key", "decoder.attention", "ffn"], "equation": "h' = 2 * h"}])
    >>> self_attention_alone(mine).insert[0].at
    ('self_attention.key', 'decoder.self_attention', 'ffn')
    """
    inserts = tuple(
        insert.model_copy(
            update={
                "at": tuple(_word(each) for each in insert.at),
                "equation": _ATTENTION.sub("self_attention", insert.equation),
            }
        )
        for insert in technique.insert
    )
    tune = technique.tune if isinstance(technique.tune, str) else tuple(_word(each) for each in technique.tune)
    return technique.model_copy(update={"insert": inserts, "tune": tune})


def _word(wanted: str) -> str:
    return _WORD.sub(r"\1self_attention", wanted)
