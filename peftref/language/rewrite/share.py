"""What the sites of one layer can make together: products of their leaves with the value that all of them read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from peftref.host.site import Site
from peftref.language.expr import Call, Expr, Name, call, rebuild, walk
from peftref.language.rewrite.cost import Meter


def without_dropout(expr: Expr, numbers: Mapping[str, object]) -> Expr:
    """The expression without dropout where its rate is zero.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
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


def products(values: Iterable[Expr], leaves: Iterable[str], meter: Meter) -> tuple[str, ...]:
    """The narrow leaves that are multiplied with x as it comes in.

    A leaf is narrow with half as many rows as x has numbers, or fewer: a wider one takes longer to be stacked than x to be read,
    and what is kept of one product would keep all of them.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.read_size import parse_size
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.rewrite.cost import Load
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> leaves = {"A": leaf("A", "r", "d_in"), "B": leaf("B", "d_out", "r"), "Q": leaf("Q", "d_out", "d_in")}
    >>> meter = Meter(scope_at("attention.query", leaves, {"r": 8}), {"r": 8, "d_in": 768, "d_out": 768}, Load())
    >>> products([parse_expression("Q @ x + B @ (A @ x)")], leaves, meter)
    ('A',)
    """
    nodes = {node for value in values for node in walk(value)}
    return tuple(leaf for leaf in leaves if product(leaf) in nodes and _narrow(meter.shape(Name(leaf))))


def _narrow(shape: tuple[int, ...]) -> bool:
    return 2 * shape[0] <= shape[-1]


def read_by(site: Site) -> str:
    """What a site reads: equal for the sites of one layer that read one tensor."""
    return f"{site.stack} {site.reads}"


def together(sites: Sequence[Site], asked: Sequence[tuple[str, ...]]) -> list[bool]:
    """For every site, whether its products with x are made in one with those of another site that reads the same tensor."""
    asking = Counter(read_by(site) for site, wanted in zip(sites, asked, strict=True) if wanted)
    return [bool(site.reads) and asking[read_by(site)] > 1 for site in sites]
