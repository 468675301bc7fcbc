"""Letters and signs: their Unicode and what LaTeX calls them; and the names of an equation as symbols."""

from __future__ import annotations

import re
from collections.abc import Mapping

from peftref.language.typeset.box import SPACE, Box, Digits, Script, Word, listed

GREEK: Mapping[str, str] = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
}  # fmt: skip

SIGNS: Mapping[str, str] = {
    "odot": "⊙", "otimes": "⊗", "sum": "∑", "top": "⊤", "times": "×", "cdot": "⋅", "lVert": "‖", "rVert": "‖",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "to": "→", ",": "\u2009", "prime": "′",
    "lbrace": "{", "rbrace": "}", "star": "⋆",
}  # fmt: skip
"""Commands of LaTeX for signs, with their characters."""

FUNCTIONS = ("max", "min", "tanh", "exp", "cos", "sin", "log", "det")
"""Commands of LaTeX for functions that are written upright."""

COMMANDS: Mapping[str, str] = {char: f"\\{name}" for name, char in {**GREEK, **SIGNS}.items() if name != "rVert"}


def symbol(name: str) -> Box:
    """The name of an equation as a symbol.

    A Greek name is its letter; a letter with more behind it has an index: `B1`, `Pk`, `d_model`. A quantity of a sibling slot has
    the slot as its index. Words stay words.

    >>> symbol("d_model")
    Script(base=Word(text='d', style='italic'), sub=Word(text='model', style='upright'), sup=None)
    """
    if name in GREEK:
        return Word(GREEK[name])
    slot, dot, quantity = name.rpartition(".")
    if dot:
        return Script(symbol(quantity), sub=Word(slot, "upright"))
    base, _, rest = name.partition("_")
    if base and rest:
        return Script(symbol(base), sub=listed([_index(part) for part in rest.split("_")], SPACE.text))
    letter = re.fullmatch(r"([A-Za-z])(\d+|[A-Za-z])", name)
    if letter:
        return Script(Word(letter[1]), sub=_index(letter[2]))
    return Word(name) if len(name) == 1 else Word(name, "upright")


def _index(text: str) -> Box:
    if text.isdigit():
        return Digits(text)
    return Word(text) if len(text) == 1 else Word(text, "upright")
