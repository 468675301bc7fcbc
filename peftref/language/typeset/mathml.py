"""Boxes -> MathML, which browsers set themselves."""

from __future__ import annotations

import html
from collections.abc import Iterable

from peftref.language.typeset.box import Box, Digits, Fence, Fraction, Hole, Root, Row, Script, Sign, Word, tall

_SCRIPTS = {(True, True): "msubsup", (True, False): "msub", (False, True): "msup", (False, False): "mrow"}
_SCRIPT = {"F": "ℱ", "N": "𝒩", "L": "ℒ"}


def mathml(box: Box, *, label: str = "") -> str:
    """A box as an inline `math` element; label: the plain text of it.

    >>> mathml(Script(Word("h"), sup=Digits("2")))
    '<math><msup><mi>h</mi><mn>2</mn></msup></math>'
    """
    return f"<math{_label(label)}>{_element(box)}</math>"


def mathml_lines(lines: Iterable[tuple[Box, Box]], *, label: str = "") -> str:
    """Equations as one display, aligned at their equals signs."""
    rows = "".join(
        f"<mtr><mtd>{_element(left)}</mtd><mtd><mo>=</mo></mtd><mtd>{_element(right)}</mtd></mtr>"
        for left, right in lines
    )
    return f'<math display="block"{_label(label)}><mtable class="lines" displaystyle="true">{rows}</mtable></math>'


def _label(text: str) -> str:
    return f' alttext="{html.escape(text)}"' if text else ""


def _element(box: Box) -> str:
    match box:
        case Word(text, style):
            if style == "script":
                return f"<mi>{_SCRIPT.get(text, text)}</mi>"
            upright = ' mathvariant="normal"' if style != "italic" and len(text) == 1 else ""
            return f"<mi{upright}>{html.escape(text)}</mi>"
        case Digits(text):
            return f"<mn>{text}</mn>"
        case Sign("\u2009"):
            return '<mspace width="0.17em"/>'
        case Sign(text):
            return f"<mo>{html.escape(text)}</mo>"
        case Row(parts):
            return f"<mrow>{''.join(_element(part) for part in parts)}</mrow>"
        case Fraction(top, bottom):
            return f"<mfrac>{_element(top)}{_element(bottom)}</mfrac>"
        case Root(inner):
            return f"<msqrt>{_element(inner)}</msqrt>"
        case Fence(left, inner, right):
            stretchy = "true" if tall(inner) else "false"
            opening, closing = (
                f'<mo fence="true" form="{form}" stretchy="{stretchy}">{html.escape(char)}</mo>'
                for form, char in (("prefix", left), ("postfix", right))
            )
            return f"<mrow>{opening}{_element(inner)}{closing}</mrow>"
        case Script(Sign() as base, sub, None) if sub is not None:
            return f'<munder><mo movablelimits="false">{base.text}</mo>{_element(sub)}</munder>'
        case Script(base, sub, Sign("′")):  # raised by the font itself
            primed = f'<mrow>{_element(base)}<mo form="postfix" lspace="0" rspace="0">′</mo></mrow>'
            return primed if sub is None else f"<msub>{primed}{_element(sub)}</msub>"
        case Script(base, sub, sup):
            content = "".join(_element(part) for part in (base, sub, sup) if part is not None)
            tag = _SCRIPTS[sub is not None, sup is not None]
            return f"<{tag}>{content}</{tag}>"
        case Hole(field):
            return f"<mi>{html.escape(field)}</mi>"
