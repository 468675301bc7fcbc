"""Whether peft is there: peftref installs it only with the extra `peers`."""

from __future__ import annotations

from importlib.util import find_spec

from peftref.core.problem import fail


def need_peft() -> None:
    """Raises PeftrefError `peft-missing` where peft is not installed.

    >>> need_peft()
    """
    if find_spec("peft") is None:
        raise fail("peft-missing", "this needs peft, which is not installed", hint="pip install 'peftref[peers]'")
