"""An interrupt waits for the end of what is done whole."""

from __future__ import annotations

import signal

import pytest

from peftref.core.interrupts import uninterrupted


def test_an_interrupt_takes_effect_afterwards() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    done = []

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append("inside")
            done.append("outside")

    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["inside", "outside"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
