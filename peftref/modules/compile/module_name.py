"""How generated classes are called."""

from __future__ import annotations


def class_name(technique: str, slot: str) -> str:
    """The class of a technique at a slot.

    >>> class_name("lora", "attention.query")
    'LoraAttentionQuery'
    """
    return "".join(part.title() for part in f"{technique}_{slot}".replace(".", "_").split("_"))
