"""Dev and test splits for sources that lack them, carved from train by a hash of the text: equal texts stay together."""

from __future__ import annotations

import hashlib

from peftref.study.train.rows import Split

BUCKETS = {"test": 0, "dev": 1}


def bucket(text: str, text2: str | None = None) -> int:
    """A number from 0 to 9 that depends on the lower-cased text alone (both texts of a pair): SHA-1 modulo 10.

    >>> bucket("Good") == bucket("good")
    True
    """
    key = text.lower() if text2 is None else f"{text.lower()}\t{text2.lower()}"
    return int(hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest(), 16) % 10


def carve(train: Split, missing: tuple[str, ...]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Train without what was carved, each missing split carved from it (about a tenth each), and notes that say so."""
    numbers = [bucket(text, text2) for text, text2, _ in train]
    taken = {BUCKETS[name]: name for name in missing}
    splits = {
        name: train.take([at for at, number in enumerate(numbers) if number == BUCKETS[name]]) for name in missing
    }
    splits["train"] = train.take([at for at, number in enumerate(numbers) if number not in taken])
    notes = tuple(
        f"the source has no {name} split: {len(splits[name])} rows were carved from train by a hash of the text"
        for name in missing
    )
    return splits, notes


def overlap_notes(splits: dict[str, Split]) -> tuple[str, ...]:
    """A note for each of dev and test that repeats texts of train."""
    known = {(text.lower(), (text2 or "").lower()) for text, text2, _ in splits["train"]}
    notes = []
    for name in ("dev", "test"):
        rows = splits[name]
        count = sum((text.lower(), (text2 or "").lower()) in known for text, text2, _ in rows)
        if count:
            notes.append(f"{count} of {len(rows)} {name} texts also stand in train")
    return tuple(notes)
