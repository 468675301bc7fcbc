"""Techniques, settings and learning rates as they are written on a command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.fields import Setting
from peftref.design.load import load
from peftref.design.opaque import MARK, Opaque, opaque
from peftref.design.technique import Technique

_Read = TypeVar("_Read", bound=Technique | Opaque)


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


def several(
    texts: Sequence[str], settings: Sequence[str] = (), at: Iterable[str] = ()
) -> tuple[list[Technique], tuple[str, ...]]:
    """Techniques as `given` reads each, where `settings` go to those that have them; and what was not taken up, in sentences.

    Raises PeftrefError with the problems of all of them, and `unknown-setting` for a setting that none of them has.

    >>> several(["lora", "bitfit"], ["r=4"])[1]
    ('bitfit has no setting r',)
    """
    slots = tuple(at)
    return _shared_out(texts, settings, lambda text, own: given(text, own, slots))


def several_entrants(
    texts: Sequence[str], settings: Sequence[str] = ()
) -> tuple[list[Technique | Opaque], tuple[str, ...]]:
    """What may be run, as `entrant` reads each; settings are shared out as `several` does, and an opaque one takes all."""
    return _shared_out(texts, settings, entrant)


def _shared_out(
    texts: Sequence[str], settings: Sequence[str], read: Callable[[str, Sequence[str]], _Read]
) -> tuple[list[_Read], tuple[str, ...]]:
    told = {setting(each)[0]: each for each in settings}
    found: list[_Read] = []
    problems: list[Problem] = []
    lacking: dict[str, list[str]] = {name: [] for name in told}
    for text in texts:
        try:
            alone: Technique | Opaque = read(text, ())
            has = told if isinstance(alone, Opaque) else {name: told[name] for name in told if name in alone.settings}
            found.append(read(text, list(has.values())))
        except PeftrefError as error:
            problems += error.problems
            continue
        for name in set(told) - set(has):
            lacking[name].append(text)
    for name, those in lacking.items():
        if found and len(those) == len(found):
            try:
                read(those[0], [told[name]])
            except PeftrefError as error:
                problems += error.problems
    if problems:
        raise PeftrefError(problems)
    return found, tuple(f"{', '.join(those)} has no setting {name}" for name, those in lacking.items() if those)


def labels(texts: Sequence[str], techniques: Sequence[Technique]) -> tuple[str, ...]:
    """What tables call techniques: their names; where two are alike, what tells them apart as it was written.

    >>> both = ["lora:r=4", "lora:r=8"]
    >>> labels(both, [given(text) for text in both])
    ('lora:r=4', 'lora:r=8')
    """
    names = [technique.name for technique in techniques]
    return tuple(text if names.count(name) > 1 else name for text, name in zip(texts, names, strict=True))


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
