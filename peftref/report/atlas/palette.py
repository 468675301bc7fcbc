"""The colours of diagrams in light and dark, and the style of their shapes: for a page that has both, and for a file that stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"

PALETTE: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#16181d"),
    "host-line": ("#8b9099", "#7b828d"),
    "host-fill": ("#f3f4f6", "#23262d"),
    "frame-fill": ("#fafbfc", "#1b1e24"),
    "frame-line": ("#d5d8dd", "#363b45"),
    "ink": ("#23262c", "#e6e8ec"),
    "soft": ("#5a606b", "#a3a9b4"),
    "accent": ("#b3380f", "#ff9a6b"),
    "accent-fill": ("#ffe9df", "#4a2415"),
    "accent-ink": ("#7a2306", "#ffd9c7"),
    "read": ("#1660a8", "#7db8f5"),
}
"""Names of colours, each in light and in dark."""


def rules() -> str:
    """The style of the shapes, in terms of the colours' names."""
    return (ASSETS / "diagram.css").read_text(encoding="utf-8")


def style_with_variables() -> str:
    """The style for a page: every colour is a variable that follows the page's colour scheme."""
    variables = "".join(f"  --{name}: light-dark({light}, {dark});\n" for name, (light, dark) in PALETTE.items())
    return f":root {{\n{variables}}}\n{rules()}"


def style_alone() -> str:
    """The style for a file that stands alone: plain colours that every viewer knows, and dark ones where they are wished."""
    return f"{_plain(0)}@media (prefers-color-scheme: dark) {{\n{_plain(1)}}}\n"


def _plain(scheme: int) -> str:
    text = rules()
    for name, colours in PALETTE.items():
        text = text.replace(f"var(--{name})", colours[scheme])
    return text
