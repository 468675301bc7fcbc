"""What the calculator of a page computes from, as plain data: sizes as polynomials, the leaves of a technique, the sites of hosts.

The calculator places the leaves on the sites as `peftref.design.placement` does, and counts them as `peftref.analyse.count` does;
a browser test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peftref.analyse.count import own_sizes, untransposed
from peftref.design.insertion import Insertion, insertions
from peftref.design.placement import numbers, scaled
from peftref.design.technique import Technique
from peftref.host.architecture import WORDS
from peftref.host.host import Host
from peftref.language.check import Effect
from peftref.language.expr import Expr, Name, names
from peftref.language.rewrite.constant import constants
from peftref.language.show import show
from peftref.language.size import Atom, Size, Symbol

Plain = dict[str, Any]


def size_data(size: Size) -> list[Any]:
    """A size as data: its terms, each a numerator, a denominator, and factors with their powers.

    >>> from peftref.language.read_size import parse_size
    >>> size_data(parse_size("2 * r + d_in // 4"))
    [[1, 1, [[['floordiv', [[1, 1, [['d_in', 1]]]], [[4, 1, []]]], 1]]], [2, 1, [['r', 1]]]]
    """
    return [
        [factor.numerator, factor.denominator, [[_atom(atom), power] for atom, power in monomial]]
        for monomial, factor in size.terms
    ]


def _atom(atom: Atom) -> Any:
    return atom.name if isinstance(atom, Symbol) else [atom.function, *(size_data(arg) for arg in atom.args)]


def technique_numbers(technique: Technique) -> Plain:
    """What is counted of a technique: its settings, and for every insertion its layers, leaves and what each slot reads."""
    whole = {name: value for name, value in technique.settings.items() if type(value) is int}
    return {
        "settings": whole,
        "sizes": [name for name in technique.size_settings() if name in whole],
        "inserts": [_insertion(insertion) for insertion in insertions(technique)],
        "tune": technique.tune if isinstance(technique.tune, str) else list(technique.tune),
    }


def _insertion(insertion: Insertion) -> Plain:
    rule = insertion.layers
    return {
        "at": list(insertion.at),
        "optional": insertion.optional,
        "stacks": list(insertion.stacks) if insertion.stacks is not None else None,
        "layers": {"rule": rule.rule, "listed": list(rule.listed), "count": rule.count},
        "leaves": {
            name: {
                "dims": [size_data(dim) for dim in leaf.dims],
                "shape": " × ".join(dim.show() for dim in leaf.dims) or "1",
                "trained": leaf.trainable,
                "scope": leaf.scope,
                "fit": leaf.fit,
                "needsE": "E" in dict(leaf.init_args).values(),
            }
            for name, leaf in insertion.leaves.items()
        },
        "slots": {slot: _effect(effect, insertion) for slot, effect in insertion.effects.items()},
    }


def _effect(effect: Effect, insertion: Insertion) -> Plain:
    """Of each quantity that is set, the leaves that it reads and the parts of it that need no input, and what must be there to be set."""
    linear = effect.kind == "linear"
    return {
        quantity: {
            "needs": quantity if not linear or (quantity == "b" and scaled("b", value)) else None,
            "reads": [name for name in insertion.leaves if name in names(value)],
            "parts": [_part(part, effect, insertion) for part in _parts(value, effect)],
        }
        for quantity, value in effect.values.items()
    }


def _parts(value: Expr, effect: Effect) -> Iterable[Expr]:
    return dict.fromkeys(untransposed(part) for part in constants(value, effect.scope))


def _part(part: Expr, effect: Effect, insertion: Insertion) -> Plain:
    return {
        "name": show(part),
        "leaf": isinstance(part, Name),
        "dims": [size_data(dim) for dim in effect.scope.kind(part).dims],
        "reads": [name for name in insertion.leaves if name in names(part)],
    }


def host_numbers(host: Host) -> Plain:
    """What is counted on a host: its stacks, and its sites, equal ones of several layers together.

    Each site is its stack, slot, layers (None where it stands once), the position of its sizes, the quantities that it lacks, and
    how many parameters of its own it has.
    """
    sizes: list[dict[str, int]] = []
    groups: dict[tuple[Any, ...], list[int | None]] = {}
    for site in host.sites:
        there = {name: int(value) for name, value in numbers(site, {}).items()}
        if there not in sizes:
            sizes.append(there)
        own = sum(size.evaluate(site.sizes) for size in own_sizes(site))
        key = (site.stack, site.slot, sizes.index(there), tuple(sorted(site.lacks)), own)
        groups.setdefault(key, []).append(site.layer)
    return {
        "parameters": host.parameters,
        "head": host.head_parameters,
        "stacks": [[stack.name, stack.n_layers] for stack in host.stacks],
        "sizes": sizes,
        "sites": [
            [stack, slot, None if layers == [None] else layers, position, list(lacks), own]
            for (stack, slot, position, lacks, own), layers in groups.items()
        ],
    }


def architecture_numbers() -> Plain:
    """What the calculator knows of the reference architecture: words for several slots."""
    return {"words": {word: list(slots) for word, slots in WORDS.items() if slots != (word,)}}
