"""Random well-typed expressions at a linear slot, with leaves of small sizes."""

from __future__ import annotations

from hypothesis import strategies as st

from peftref.language.expr import Call, Expr, Name, Number
from peftref.language.scope import Leaf, Scope, scope_at
from peftref.language.size import Size

SIZES = {"d_in": 4, "d_out": 6, "r": 2, "n": 2}
_s = Size.symbol
LEAVES = {
    "A": Leaf("A", (_s("r"), _s("d_in"))),
    "B": Leaf("B", (_s("d_out"), _s("r"))),
    "A2": Leaf("A2", (_s("r"), _s("d_in"))),
    "B2": Leaf("B2", (_s("d_out"), _s("r"))),
    "M": Leaf("M", (_s("r"), _s("r"))),
    "d": Leaf("d", (_s("r"),)),
    "l": Leaf("l", (_s("d_out"),)),
    "S": Leaf("S", (_s("n"), _s("r"), _s("r"))),
    "C": Leaf("C", (_s("d_out") / _s("n"), _s("d_in") / _s("n"))),
    "T": Leaf("T", (_s("n"), _s("n"))),
    "K": Leaf("K", (_s("n"), _s("d_out") / _s("n"), _s("d_in") / _s("n"))),
}
SETTINGS = {"r": 2, "n": 2, "alpha": 4.0}


def scope() -> Scope:
    """The scope in which the expressions are well typed."""
    return scope_at("attention.query", LEAVES, SETTINGS)


def _products(inner: st.SearchStrategy[Expr], *ops: str) -> st.SearchStrategy[Expr]:
    return st.builds(lambda op, a, b: Call(op, (a, b)), st.sampled_from(ops), inner, inner)


def _matmul(left: st.SearchStrategy[Expr], right: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.builds(lambda a, b: Call("matmul", (a, b)), left, right)


scalars: st.SearchStrategy[Expr] = st.sampled_from(
    [Name("alpha"), Number(2), Number(0.5), Call("div", (Name("alpha"), Name("r")))]
)


def matrices(rows: str, cols: str, depth: int) -> st.SearchStrategy[Expr]:
    """Matrices [rows, cols] over the leaves."""
    plain: dict[tuple[str, str], list[Expr]] = {
        ("r", "d_in"): [Name("A"), Name("A2")],
        ("d_out", "r"): [Name("B"), Name("B2")],
        ("r", "r"): [Name("M"), Call("sum", (Name("S"),)), Call("diag", (Name("d"),)), Call("transpose", (Name("M"),))],
        ("d_out", "d_in"): [Name("W"), Call("kron", (Name("T"), Name("C"))), Call("block_diag", (Name("K"),))],
    }
    base = st.sampled_from(plain[(rows, cols)])
    if depth == 0:
        return base
    again = matrices(rows, cols, depth - 1)
    options = [base, _products(again, "add", "mul"), st.builds(lambda s, m: Call("mul", (s, m)), scalars, again)]
    if rows == "d_out" and cols == "d_in":
        options.append(_matmul(matrices("d_out", "r", depth - 1), matrices("r", "d_in", depth - 1)))
    if rows == "r" and cols == "d_in":
        options.append(_matmul(matrices("r", "r", depth - 1), again))
    if rows == "d_out":
        options.append(st.builds(lambda m: Call("mul", (Name("l"), m)), again))
    return st.one_of(options)


def vectors(size: str, depth: int) -> st.SearchStrategy[Expr]:
    """Values [size] per token."""
    base: dict[str, st.SearchStrategy[Expr]] = {
        "d_in": st.just(Name("x")),
        "d_out": st.just(Name("h")),
        "r": _matmul(st.just(Name("A")), st.just(Name("x"))),
    }
    if depth == 0:
        return base[size]
    again = vectors(size, depth - 1)
    options = [base[size], _products(again, "add", "sub", "mul"), st.builds(lambda v: Call("neg", (v,)), again)]
    options.append(st.builds(lambda s, v: Call("mul", (s, v)), scalars, again))
    options.append(st.builds(lambda f, v: Call(f, (v,)), st.sampled_from(["tanh", "gelu", "relu", "sigmoid"]), again))
    if size == "r":
        options += [
            _matmul(matrices("r", "r", depth - 1), again),
            _matmul(matrices("r", "d_in", depth - 1), st.just(Name("x"))),
        ]
        options.append(st.builds(lambda v: Call("mul", (Name("d"), v)), again))
    if size == "d_out":
        options.append(_matmul(matrices("d_out", "r", depth - 1), vectors("r", depth - 1)))
        options.append(_matmul(matrices("d_out", "d_in", depth - 1), st.just(Name("x"))))
    return st.one_of(options)


def expressions(depth: int = 3) -> st.SearchStrategy[Expr]:
    """Replacements of h: values [d_out] per token."""
    return vectors("d_out", depth)
