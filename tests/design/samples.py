"""YAML and hypothesis strategies that the tests of techniques share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from peftref.design.inits import INITS
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE

LORA = """# yaml-language-server: $schema=../../schemas/technique.json
name: sample
title: Sample
about: a low-rank product beside a linear map
source: {arxiv: "2106.09685", year: 2021}
settings: {r: 8, alpha: 16, dropout: 0.0}
insert:
  - at: [attention.query, attention.value]
    leaves:
      A: {shape: [r, d_in], init: kaiming_uniform}
      B: {shape: [d_out, r], init: zeros}
    equation: h' = h + (alpha / r) * B @ A @ dropout(x)
"""

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
SETTINGS = st.dictionaries(NAMES, st.one_of(NUMBERS, st.booleans(), LINES), max_size=4)


@st.composite
def inits(draw: st.DrawFn) -> Any:
    """Any way in which an init may be written."""
    row = draw(st.sampled_from(sorted(INITS.values(), key=lambda row: row.name)))
    given: dict[str, Any] = {}
    for parameter in row.parameters:
        if parameter.default is None or draw(st.booleans()):
            number = st.one_of(NUMBERS, NAMES)
            kinds = {"quantity": st.sampled_from("WbgE"), "leaf": NAMES, "number": number}
            given[parameter.name] = draw(kinds[parameter.kind])
    if not given:
        return row.name
    first = row.parameters[0].name
    bare = list(given) == [first] and draw(st.booleans())
    return {row.name: given[first] if bare else given}


@st.composite
def inserts(draw: st.DrawFn) -> dict[str, Any]:
    """An insertion with sound fields; what it says need not make sense."""
    sizes = st.one_of(st.integers(1, 99), st.sampled_from(["r", "d_in", "d_out // 2", "2 * r", "ceil(d_in / r)"]))
    leaf = st.fixed_dictionaries(
        {"shape": st.lists(sizes, max_size=3), "init": inits()},
        optional={
            "frozen": st.booleans(),
            "fit": st.booleans(),
            "lr": st.one_of(st.floats(0.5, 9.0), NAMES),
            "scope": st.sampled_from(["site", "layer", "slot", "design"]),
        },
    )
    count = st.one_of(st.integers(1, 99), NAMES)
    layers = st.one_of(
        st.just("all"),
        st.lists(st.integers(-99, 99), min_size=1, max_size=3),
        st.just({"span": [1, 3, 4]}),
        *(st.fixed_dictionaries({rule: count}) for rule in ("first", "last", "every")),
    )
    text = st.text(st.characters(codec="utf-8"), max_size=30)
    return draw(
        st.fixed_dictionaries(
            {
                "at": st.lists(st.sampled_from(ARCHITECTURE.names()), min_size=1, max_size=3),
                "equation": st.one_of(st.sampled_from(["h' = 2 * h", "z = x\n\nh' = h + z", "h' = h # same"]), text),
            },
            optional={
                "layers": layers,
                "stacks": st.lists(NAMES, min_size=1, max_size=2),
                "leaves": st.dictionaries(NAMES, leaf, max_size=3),
            },
        )
    )


def peers() -> st.SearchStrategy[dict[str, Any]]:
    """What a library calls a technique."""
    names = st.dictionaries(NAMES, NAMES, max_size=2)
    values = st.dictionaries(NAMES, st.lists(st.one_of(st.booleans(), NUMBERS, NAMES), max_size=2), max_size=1)
    return st.fixed_dictionaries(
        {"type": LINES.filter(bool)},
        optional={
            "settings": names,
            "keys": names,
            "buffers": names,
            "harmless": values,
            "pairs": st.lists(NAMES, max_size=2),
        },
    )


@st.composite
def techniques(draw: st.DrawFn) -> Technique:
    """Any technique that the models accept."""
    fields = draw(
        st.fixed_dictionaries(
            {"name": st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), "title": LINES.filter(bool)},
            optional={
                "about": LINES,
                "settings": SETTINGS,
                "insert": st.lists(inserts(), max_size=2),
                "tune": st.one_of(st.sampled_from(["none", "all"]), st.just(["ffn.norm"])),
                "budget": NAMES,
                "mutates": st.just("host"),
                "procedures": st.lists(st.fixed_dictionaries({"name": NAMES, "settings": SETTINGS}), max_size=2),
                "peers": st.dictionaries(NAMES, peers(), max_size=1),
                "note": st.text(st.characters(codec="utf-8"), max_size=30),
                "source": st.fixed_dictionaries({}, optional={"year": st.integers(1900, 2200), "note": LINES}),
            },
        )
    )
    return Technique.model_validate(fields)
