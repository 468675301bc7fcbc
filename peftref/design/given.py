"""Techniques, settings and learning rates as they are written on a command line."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.fields import Setting
from peftref.design.load import load
from peftref.design.opaque import MARK, Opaque, opaque
from peftref.design.technique import Technique


def given(text: str, settings: Iterable[str] = (), at: Iterable[str] = ()) -> Technique:
    """A technique with settings behind a colon, and those of `settings` that it has. at: slots where it is to stand, if others.

    Raises PeftrefError: what `load` raises, `bad-setting` for what is no setting, `move-several` and `unknown-slot` for slots,
    `opaque` for a technique that can only be run.

    >>> dict(given("lora:r=4", ["alpha=8"]).settings)
    {'r': 4, 'alpha': 8, 'dropout': 0.0}
    >>> given("lora", at=["embedding.tokens"]).insert[0].at
    ('embedding.tokens',)
    """
    found = entrant(text, settings)
    if isinstance(found, Opaque):
        why = f"{text} is opaque: {found.library} makes it, and nothing can be derived of it"
        raise fail("opaque", why, hint="compare runs it beside the others")
    slots = tuple(at)
    return found.moved(*slots) if slots else found


def entrant(text: str, settings: Iterable[str] = ()) -> Technique | Opaque:
    """What may be run beside others: a technique, or an opaque one behind its mark (`peft:xlora`, `peft:LORA:r=4`).

    Raises PeftrefError as `given` does, and what `opaque` raises.

    >>> entrant("peft:LORA:r=4").type
    'LORA'
    """
    mark = MARK if text.startswith(MARK) else ""
    name, colon, rest = text.removeprefix(mark).partition(":")
    own = dict(setting(part) for part in rest.split(",") if part) if colon and rest[:1] not in ("/", "\\") else {}
    more = dict(setting(part) for part in settings)
    if mark:
        return opaque(name if own else text, {**more, **own})
    return load(name if own else text, **{**more, **own})


def setting(text: str) -> tuple[str, Setting]:
    """A setting such as `r=16` as its name and value. Raises PeftrefError `bad-setting`.

    >>> setting("alpha=0.5"), setting("gated=true")
    (('alpha', 0.5), ('gated', True))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise fail("bad-setting", f"{text!r} is no setting", hint="write name=value, such as r=16")
    word = value.strip()
    if word in ("true", "false"):
        return name.strip(), word == "true"
    for kind in (int, float):
        try:
            return name.strip(), kind(word)
        except ValueError:
            continue
    return name.strip(), word


def rates(text: str) -> tuple[float, ...]:
    """Learning rates such as `3e-4,1e-3`. Raises PeftrefError `bad-rate` with every one that is none.

    >>> rates("3e-4, 1e-3")
    (0.0003, 0.001)
    """
    found: list[float] = []
    problems: list[Problem] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            problems.append(Problem("bad-rate", f"{part.strip()!r} is no learning rate", hint="write --lrs 3e-4,1e-3"))
        found.append(value)
    if problems:
        raise PeftrefError(problems)
    return tuple(dict.fromkeys(found))
