"""How a field's validator says what is wrong: a code, the user's words, a hint, and the part of the value that is meant."""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def refuse(code: str, text: str, *, hint: str | None = None, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """An error for a validator to raise; `at` is the path of the offending part below the field, keys included.

    >>> refuse("bad-value", "this is no number", at=("normal",)).message()
    'this is no number'
    """
    context = {"text": text, "hint": hint, "at": at}
    return PydanticCustomError(code, "{text}", context)
