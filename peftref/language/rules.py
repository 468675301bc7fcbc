"""Rules: the kind of what an op gives, by the kinds of its operands; each raises KindError where it cannot take them."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.language.kind import Kind, KindError, widest
from peftref.language.size import Size


def elementwise(kinds: tuple[Kind, ...]) -> Kind:
    """Equal shapes, numbers, or a column [n] that acts on every column of [n, m]."""
    dims = max((kind.dims for kind in kinds), key=len)
    for kind in kinds:
        if kind.dims and dims[: len(kind.dims)] != kind.dims:
            clash = next(pair for pair in zip(kind.dims, dims, strict=False) if pair[0] != pair[1])
            raise KindError(
                f"the shapes {kind.show()} and {Kind(dims).show()} do not fit",
                "operands need equal shapes, a number, or a column [n] against [n, m]",
                clash,
            )
    return Kind(dims, widest(kinds))


def matmul(kinds: tuple[Kind, ...]) -> Kind:
    """[a, b] @ [b, c], [a, b] @ [b], and stacks [n, a, b] @ [n, b, c]; per token where the right operand is."""
    left, right = kinds
    if len(left.dims) < 2:
        raise KindError(
            f"the left operand is {left.show()}, not a matrix", "scale by a vector with *, or make it diag(v)"
        )
    if not right.dims:
        raise KindError("the right operand is a number", "scale by a number with *")
    if left.per != "none" and right.per == "none":
        raise KindError(
            f"the left operand is {left.show()} and the right one is not", "in the column convention, write M @ x"
        )
    stack = left.dims[:-2]
    inner = right.dims[len(stack)] if len(right.dims) > len(stack) else None
    if right.dims[: len(stack)] != stack or inner is None or len(right.dims) > len(stack) + 2:
        raise KindError(f"a stack {left.show()} needs a stack of the same length, not {right.show()}")
    if inner != left.dims[-1]:
        raise KindError(f"inner sizes differ: {left.dims[-1].show()} and {inner.show()}", None, (left.dims[-1], inner))
    return Kind((*stack, left.dims[-2], *right.dims[len(stack) + 1 :]), widest(kinds))


def transpose(kinds: tuple[Kind, ...]) -> Kind:
    """The last two axes change places."""
    (kind,) = kinds
    if len(kind.dims) < 2:
        raise KindError(f".T needs a matrix, and this is {kind.show()}")
    return Kind((*kind.dims[:-2], kind.dims[-1], kind.dims[-2]), kind.per)


def sum_stack(kinds: tuple[Kind, ...]) -> Kind:
    """The first axis is summed away."""
    (kind,) = kinds
    if not kind.dims:
        raise KindError("sum needs a stack, and this is a number")
    return Kind(kind.dims[1:], kind.per)


def kron(kinds: tuple[Kind, ...]) -> Kind:
    """[a, b] and [c, d] give [a c, b d]; stacks of equal length give a stack."""
    left, right = kinds
    if len(left.dims) < 2 or len(right.dims) != len(left.dims) or left.dims[:-2] != right.dims[:-2]:
        raise KindError(f"kron needs two matrices, or two equal stacks of them, not {left.show()} and {right.show()}")
    a, b = left.dims[-2:]
    c, d = right.dims[-2:]
    return Kind((*left.dims[:-2], a * c, b * d), widest(kinds))


def block_diag(kinds: tuple[Kind, ...]) -> Kind:
    """A stack [n, a, b] gives [n a, n b]."""
    (kind,) = kinds
    if len(kind.dims) != 3:
        raise KindError(f"block_diag needs a stack of matrices [n, a, b], and this is {kind.show()}")
    n, a, b = kind.dims
    return Kind((n * a, n * b), kind.per)


def diag(kinds: tuple[Kind, ...]) -> Kind:
    """A vector [n] gives a diagonal matrix [n, n]."""
    (kind,) = kinds
    if len(kind.dims) != 1:
        raise KindError(f"diag needs a vector, and this is {kind.show()}", "scale rows by a vector with *")
    return Kind(kind.dims * 2, kind.per)


def square(kinds: tuple[Kind, ...]) -> Kind:
    """A square matrix, or a stack of them, keeps its shape."""
    (kind,) = kinds
    if len(kind.dims) < 2 or kind.dims[-1] != kind.dims[-2]:
        raise KindError(f"a square matrix is needed, and this is {kind.show()}")
    return kind


def householder(kinds: tuple[Kind, ...]) -> Kind:
    """Vectors [r, n] give the orthogonal matrix [n, n]."""
    (kind,) = kinds
    if len(kind.dims) != 2:
        raise KindError(f"householder needs vectors [r, n], and this is {kind.show()}")
    return Kind((kind.dims[1], kind.dims[1]), kind.per)


def wy(kinds: tuple[Kind, ...]) -> Kind:
    """Vectors [r, n] give the triangular matrix [r, r] of their reflections."""
    (kind,) = kinds
    if len(kind.dims) != 2:
        raise KindError(f"wy needs vectors [r, n], and this is {kind.show()}")
    return Kind((kind.dims[0], kind.dims[0]), kind.per)


def rows(kinds: tuple[Kind, ...]) -> Kind:
    """A matrix [n, m] gives a number for each row, [n]."""
    (kind,) = kinds
    if len(kind.dims) != 2:
        raise KindError(f"a matrix is needed, and this is {kind.show()}")
    return Kind(kind.dims[:1], kind.per)


def columns(kinds: tuple[Kind, ...]) -> Kind:
    """A matrix [n, m] gives a number for each column, [m]."""
    (kind,) = kinds
    if len(kind.dims) != 2:
        raise KindError(f"a matrix is needed, and this is {kind.show()}")
    return Kind(kind.dims[1:], kind.per)


def vector(kinds: tuple[Kind, ...]) -> Kind:
    """A vector (with further operands of its shape) keeps its shape."""
    kind = kinds[0]
    if len(kind.dims) != 1:
        raise KindError(f"a vector is needed, and this is {kind.show()}")
    for other in kinds[1:]:
        if other.dims != kind.dims:
            raise KindError(f"the shapes {kind.show()} and {other.show()} differ", None, (kind.dims[0],))
    return Kind(kind.dims, widest(kinds))


def tall(kinds: tuple[Kind, ...]) -> Kind:
    """A matrix keeps its shape."""
    (kind,) = kinds
    if len(kind.dims) != 2 or kind.per != "none":
        raise KindError(f"a matrix is needed, and this is {kind.show()}")
    return kind


def skew(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """The numbers above the diagonal [..., n (n - 1) / 2] give the skew matrix [..., n, n]."""
    (kind,) = kinds
    n = sizes["n"]
    above = n * (n - Size.of(1)) / Size.of(2)
    if not kind.dims or kind.dims[-1] != above:
        clash = (kind.dims[-1], above) if kind.dims else ()
        raise KindError(f"skew of n = {n.show()} needs {above.show()} numbers, and this is {kind.show()}", None, clash)
    return Kind((*kind.dims[:-1], n, n), kind.per)


def butterfly(kinds: tuple[Kind, ...]) -> Kind:
    """Blocks [m, n, b, b] give the product of m block-diagonal matrices [n b, n b], each in another order of its axes.

    With a second operand, a vector [n b], that matrix applied to it.
    """
    kind = kinds[0]
    if len(kind.dims) != 4 or kind.dims[2] != kind.dims[3]:
        raise KindError(f"butterfly needs blocks [m, n, b, b], and this is {kind.show()}")
    width = kind.dims[1] * kind.dims[2]
    if len(kinds) == 1:
        return Kind((width, width), kind.per)
    if kinds[1].dims != (width,):
        raise KindError(f"butterfly of {kind.show()} acts on {width.show()} numbers, not on {kinds[1].show()}")
    return kinds[1]


def circulant(kinds: tuple[Kind, ...]) -> Kind:
    """A first column [..., n] gives the circulant matrix [..., n, n]."""
    (kind,) = kinds
    if not kind.dims:
        raise KindError("circulant needs a vector, and this is a number")
    return Kind((*kind.dims, kind.dims[-1]), kind.per)


def correlate(kinds: tuple[Kind, ...]) -> Kind:
    """Columns [m, n, b] and a vector [n b] give [m b]."""
    columns, vector = kinds
    if len(columns.dims) != 3 or columns.per != "none":
        raise KindError(f"correlate needs columns [m, n, b], and this is {columns.show()}")
    m, n, b = columns.dims
    if vector.dims != (n * b,):
        raise KindError(f"correlate of {columns.show()} acts on {(n * b).show()} numbers, not on {vector.show()}")
    return Kind((m * b,), vector.per)


def entries(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """Values [k] at positions [k] of a matrix [n, m], and a vector [m], give [n]."""
    values, at, vector = kinds
    if len(values.dims) != 1 or values.dims != at.dims or len(vector.dims) != 1:
        raise KindError(
            f"values [k], positions [k] and a vector are needed, not {values.show()}, {at.show()} and {vector.show()}"
        )
    return Kind((sizes["n"],), vector.per)


def scatter(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """Values [k, ...] at positions [k] give [n, ...]; with m, numbers [k] at the positions of a matrix give [n, m]."""
    values, at = kinds
    if not values.dims or len(at.dims) != 1 or values.dims[0] != at.dims[0] or "none" not in (values.per, at.per):
        raise KindError(f"scatter needs as many values as positions, not {values.show()} and {at.show()}")
    if "m" not in sizes:
        return Kind((sizes["n"], *values.dims[1:]), values.per)
    if len(values.dims) != 1:
        raise KindError(f"scatter into a matrix needs numbers [k], and this is {values.show()}")
    return Kind((sizes["n"], sizes["m"]), values.per)


def gather(kinds: tuple[Kind, ...]) -> Kind:
    """From [k, ...] what stands at positions [...]: the shape of the positions, then that of one value."""
    values, at = kinds
    if not values.dims:
        raise KindError("gather needs values along an axis, and this is a number")
    return Kind((*at.dims, *values.dims[1:]), values.per)


def by_task(kinds: tuple[Kind, ...]) -> Kind:
    """One of [n, ...] for each sample."""
    values, token = kinds
    if not values.dims or values.per != "none" or token.per != "token":
        raise KindError(
            f"by_task needs values along an axis, and a value per token, not {values.show()} and {token.show()}"
        )
    return Kind(values.dims[1:], "sample")


def tile(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """A value [...] n times over gives [n, ...]."""
    return Kind((sizes["n"], *kinds[0].dims), kinds[0].per)


def top(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """Weights over the last axis keep their shape."""
    (kind,) = kinds
    if not kind.dims:
        raise KindError("weights over an axis are needed, and this is a number")
    return kind


def token_number(kinds: tuple[Kind, ...], sizes: Mapping[str, Size]) -> Kind:
    """A value per token gives a number per token."""
    (kind,) = kinds
    if kind.per != "token":
        raise KindError(f"a value per token is needed, and this is {kind.show()}")
    return Kind((), "token")


def number(kinds: tuple[Kind, ...]) -> Kind:
    """Anything gives a number."""
    return Kind((), kinds[0].per)


def mean_tokens(kinds: tuple[Kind, ...]) -> Kind:
    """A value per token gives one per sample."""
    (kind,) = kinds
    if kind.per != "token":
        raise KindError(f"mean_tokens needs a value per token, and this is {kind.show()}")
    return Kind(kind.dims, "sample")


def concat(kinds: tuple[Kind, ...]) -> Kind:
    """Rows [n, ...] and values [...] per token are put one after the other on the token axis."""
    first = next((kind for kind in kinds if kind.per == "token"), None)
    if first is None:
        raise KindError("one operand of concat must carry the token axis", "concat(P, h) puts the rows of P in front")
    for kind in kinds:
        dims = kind.dims if kind.per == "token" else kind.dims[1:]
        if dims != first.dims or (kind.per != "token" and not kind.dims):
            wanted = ", ".join(["n", *(dim.show() for dim in first.dims)])
            raise KindError(f"{kind.show()} cannot join {first.show()}", f"a leaf of shape [{wanted}] can")
    return first


def join(kinds: tuple[Kind, ...]) -> Kind:
    """Vectors [a] and [b] give [a + b]."""
    wrong = next((kind for kind in kinds if len(kind.dims) != 1), None)
    if wrong is not None:
        raise KindError(f"join needs vectors, and this is {wrong.show()}")
    total = kinds[0].dims[0]
    for kind in kinds[1:]:
        total = total + kind.dims[0]
    return Kind((total,), widest(kinds))


def attend(kinds: tuple[Kind, ...]) -> Kind:
    """Queries [d] per token, keys [d] and values [e] per token or as rows [n, d] and [n, e], give [e] per token.

    Where heads are an axis of their own, queries [n, d], keys [m, d] and values [m, e] carry them, m dividing n.
    """
    query, key, value = kinds
    if query.per != "token":
        raise KindError(f"the queries of attend must be per token, and these are {query.show()}")
    key_dims = key.dims if key.per == "token" else key.dims[1:]
    value_dims = value.dims if value.per == "token" else value.dims[1:]
    if key.per != value.per or not (len(query.dims) == len(key_dims) == len(value_dims)) or not query.dims:
        raise KindError(f"queries {query.show()}, keys {key.show()} and values {value.show()} do not fit")
    if query.dims[-1] != key_dims[-1]:
        clash = (query.dims[-1], key_dims[-1])
        raise KindError(f"queries and keys differ in size: {clash[0].show()} and {clash[1].show()}", None, clash)
    return Kind((*query.dims[:-1], value_dims[-1]), "token")
