"""The colours of drawings stand out from what they lie on, in light and in dark."""

from __future__ import annotations

import pytest

from peftref.report.atlas.palette import PALETTE, rules, style_alone


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize(
    ("front", "ground", "least"),
    [
        ("ink", "host-fill", 4.5),
        ("ink", "accent-fill", 4.5),
        ("soft", "paper", 4.5),
        ("soft", "frame-fill", 4.5),
        ("accent-ink", "accent-fill", 4.5),
        ("accent", "paper", 4.5),
        ("accent", "frame-fill", 4.5),
        ("accent", "host-fill", 4.5),
        ("accent", "accent-fill", 3),
        ("read", "frame-fill", 3),
        ("host-line", "frame-fill", 3),
        ("host-line", "paper", 3),
    ],
)
def test_shapes_and_texts_stand_out(front: str, ground: str, least: float, scheme: int) -> None:
    assert ratio(PALETTE[front][scheme], PALETTE[ground][scheme]) >= least


def test_every_colour_is_known_and_used() -> None:
    text = rules()
    assert {name for name in PALETTE if f"var(--{name})" in text} == set(PALETTE)
    assert "var(" not in style_alone()
