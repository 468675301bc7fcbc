"""What the sites of one layer can make together: products of their leaves with the value that all of them read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from peftref.host.site import Site
from peftref.lang.expr import Call, Expr, Name, call, rebuild, walk


def without_dropout(expr: Expr, numbers: Mapping[str, object]) -> Expr:
    """The expression without dropout where its rate is zero.

    >>> from peftref.lang.parse import parse_expression
    >>> from peftref.lang.show import show
    >>> show(without_dropout(parse_expression("A @ dropout(x)"), {"dropout": 0.0}))
    'A @ x'
    """
    if isinstance(expr, Call) and expr.op == "dropout":
        rate = expr.args[1] if len(expr.args) > 1 else Name("dropout")
        value = numbers.get(rate.name) if isinstance(rate, Name) else getattr(rate, "value", None)
        if value == 0:
            return without_dropout(expr.args[0], numbers)
    return rebuild(expr, lambda child: without_dropout(child, numbers))


def product(leaf: str) -> Expr:
    """The product of a leaf with x."""
    return call("matmul", Name(leaf), Name("x"))


def products(values: Iterable[Expr], leaves: Iterable[str]) -> tuple[str, ...]:
    """The leaves that are multiplied with x as it comes in.

    >>> from peftref.lang.parse import parse_expression
    >>> products([parse_expression("h + B @ (A @ x)")], ["A", "B"])
    ('A',)
    """
    nodes = {node for value in values for node in walk(value)}
    return tuple(leaf for leaf in leaves if product(leaf) in nodes)


def read_by(site: Site) -> str:
    """What a site reads: equal for the sites of one layer that read one tensor."""
    return f"{site.stack} {site.reads}"


def together(sites: Sequence[Site], asked: Sequence[tuple[str, ...]]) -> list[bool]:
    """For every site, whether its products with x are made in one with those of another site that reads the same tensor."""
    asking = Counter(read_by(site) for site, wanted in zip(sites, asked, strict=True) if wanted)
    return [bool(site.reads) and asking[read_by(site)] > 1 for site in sites]
