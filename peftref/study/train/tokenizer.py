"""The tokenizer of a host, from whatever the host offers, and the ids that a host needs around a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftref.core.problem import fail

PAD, UNKNOWN, START = "<pad>", "<unk>", "<s>"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A fast tokenizer with the ids that it leaves out: what to pad with, and what to put in front (None: nothing)."""

    fast: Any
    pad_id: int
    front: int | None
    longest: int | None
    note: str = ""


def load_tokenizer(name: str, config: Any) -> Tokenizer:
    """The tokenizer of a folder or of a hub name.

    config: the host's configuration (pad, bos and eos ids, longest sequence). A folder with `tokenizer.json` alone is
    enough. Raises PeftrefError `no-tokenizer`.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(name)
    try:
        if (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
            fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        else:
            fast = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        hint = "the host's folder needs a tokenizer.json" if folder.is_dir() else "check the name and the network"
        raise fail("no-tokenizer", f"no tokenizer for {name}: {reason}", hint=hint) from None
    return fit(fast, config)


def word_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A word-level fast tokenizer over the most frequent words of some texts; `size` entries at most, three special."""
    from tokenizers import Tokenizer as Core
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    counts: dict[str, int] = {}
    splitter, lower = Whitespace(), Lowercase()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(lower.normalize_str(text)):
            counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    words = [PAD, UNKNOWN, START, *ranked][: max(3, size)]
    core = Core(WordLevel({word: number for number, word in enumerate(words)}, unk_token=UNKNOWN))
    core.normalizer, core.pre_tokenizer = lower, splitter
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, unk_token=UNKNOWN, bos_token=START)


def fit(fast: Any, config: Any, note: str = "") -> Tokenizer:
    """A tokenizer with its pad id, the id to put in front, and the longest sequence of the host, in tokens."""
    bos = getattr(config, "bos_token_id", None)
    adds_bos = bos is not None and bos in fast("a")["input_ids"][:1]
    pads = (
        fast.pad_token_id,
        getattr(config, "pad_token_id", None),
        fast.eos_token_id,
        getattr(config, "eos_token_id", None),
    )
    pad = next((_first(one) for one in pads if _first(one) is not None), 0)
    limits = [
        getattr(config, "max_position_embeddings", None),
        getattr(config, "n_positions", None),
        fast.model_max_length,
    ]
    lengths = [int(one) for one in limits if isinstance(one, int) and 0 < one < 10**6]
    encoder_only = not getattr(config, "is_encoder_decoder", False)
    front = bos if bos is not None and not adds_bos and encoder_only else None
    return Tokenizer(fast, int(pad or 0), front, min(lengths, default=None), note)


def _first(value: Any) -> int | None:
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return None if value is None or int(value) < 0 else int(value)
