"""A small seeded grammar of opinions: unlabelled text to pretrain on, and a labelled task. No torch.

A sentence gives an opinion on two topics: `the soup was fresh but the waiter was not polite .` An opinion is an adjective
with a polarity, which a negator turns round. In the unlabelled text, what follows agrees with the opinions: `the soup ? we
loved it .`, so a language model that predicts it well has to learn which adjectives are good, what a negator does, and
whose opinion belongs to which topic. The task asks for the polarity of one of the two topics, and names it in front:
`soup : the soup was fresh but the waiter was not polite .` Its train, dev and test splits use different adjectives, so
that what pretraining found out about the others is needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

GOOD = (
    "fresh tasty warm polite quick clean quiet bright cheap sturdy funny clever gentle honest lively tender charming smooth"
).split()
BAD = (
    "stale bland cold rude slow dirty noisy dim costly flimsy dull silly harsh false lifeless tough awful rough"
).split()
TOPICS = "soup waiter room film song phone hotel garden".split()
NEGATORS = ("not", "never")
DEGREES = ("very", "quite")
LIKED = "loved"
HATED = "hated"
WHO = ("we", "they")
LINKS = ("and", "but", "while")

SIZES = {"train": 800, "dev": 400, "test": 800}


class Opinion:
    """A topic and how it was found: the words that say so, and the polarity that they have."""

    __slots__ = ("good", "topic", "words")

    def __init__(self, chance: random.Random, topic: str, good: Sequence[str], bad: Sequence[str]) -> None:
        self.topic = topic
        self.good = chance.random() < 0.5
        negated = chance.random() < 0.35
        adjective = chance.choice(good if self.good != negated else bad)
        front = [chance.choice(NEGATORS)] if negated else [chance.choice(DEGREES)] if chance.random() < 0.3 else []
        self.words = " ".join(["the", topic, "was", *front, adjective])


def _pair(chance: random.Random, good: Sequence[str], bad: Sequence[str]) -> tuple[Opinion, Opinion, str]:
    first, second = (Opinion(chance, topic, good, bad) for topic in chance.sample(TOPICS, 2))
    return first, second, f"{first.words} {chance.choice(LINKS)} {second.words} ."


def documents(seed: int, count: int) -> Iterator[str]:
    """Unlabelled documents: an opinion sentence, then what somebody thought of one or both topics, in agreement with it.

    >>> next(documents(0, 1)).endswith(".")
    True
    """
    chance = random.Random(f"documents {seed}")
    for _ in range(count):
        kind = chance.random()
        if kind < 0.25:
            one = Opinion(chance, chance.choice(TOPICS), GOOD, BAD)
            yield f"{one.words} . {chance.choice(WHO)} {LIKED if one.good else HATED} it ."
        elif kind < 0.45:
            good = chance.random() < 0.5
            words = chance.sample(GOOD if good else BAD, 3)
            feeling = LIKED if good else HATED
            yield f"{chance.choice(WHO)} {feeling} the {chance.choice(TOPICS)} , {words[0]} , {words[1]} and {words[2]} ."
        else:
            first, second, sentence = _pair(chance, GOOD, BAD)
            opinions = chance.sample([first, second], 2)
            front = f"{opinions[0].topic} : " if chance.random() < 0.5 else ""
            yield f"{front}{sentence} {' '.join(_feeling(chance, one) for one in opinions)}"


def _feeling(chance: random.Random, one: Opinion) -> str:
    return f"the {one.topic} ? {chance.choice(WHO)} {LIKED if one.good else HATED} it ."


def labelled(split: str, seed: int = 0) -> dict[str, list[object]]:
    """The columns `text` and `label` (0 negative, 1 positive) of a split, both classes equally often.

    The adjectives of train, dev and test are different ones. KeyError for another split.
    """
    chance = random.Random(f"task {split} {seed}")
    third = {"train": 0, "dev": 1, "test": 2}[split]
    good, bad = GOOD[third::3], BAD[third::3]
    half = SIZES[split] // 2
    rows: dict[int, list[str]] = {0: [], 1: []}
    while min(map(len, rows.values())) < half:
        first, second, sentence = _pair(chance, good, bad)
        asked = chance.choice([first, second])
        if len(rows[asked.good]) < half:
            rows[asked.good].append(f"{asked.topic} : {sentence}")
    mixed = [(text, label) for label, texts in rows.items() for text in texts]
    chance.shuffle(mixed)
    return {"text": [text for text, _ in mixed], "label": [label for _, label in mixed]}


def task_rows(seed: int = 0) -> Mapping[str, Mapping[str, list[object]]]:
    """The columns of all three splits."""
    return {split: labelled(split, seed) for split in SIZES}
