"""The op table, one row per op: the parser, the checker, the analyses, the emitter, the oracle and the reference page read it.

To add an op: one row here, its literal definition in `peftref/modules/compile/definitions.py`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from peftref.language import rules
from peftref.language.kind import Kind
from peftref.language.size import Size

Family = Literal["arithmetic", "activation", "contraction", "structure", "normalisation", "orthogonal", "token", "flow"]
Rule = Callable[[tuple[Kind, ...]], Kind]
SizedRule = Callable[[tuple[Kind, ...], Mapping[str, Size]], Kind]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """A row of the op table.

    name: as called; symbol: as written infix. arity: least and most operands. rule: kinds of the operands to the kind of the
    result. linear: operands in which it is linear, each by itself. vanishes: operands that, when zero, make the result zero.
    elementwise: acts on each number by itself. torch: source text of the result with {0}, {1} … for operands in torch's row
    layout, {axes} for the number of axes of the first operand, and {option} for options (their defaults in `options`; one with None must be given, one with 0 may be left out).
    sized: the rule of an op whose options are sizes, in place of rule. positions: operands that are whole numbers, positions in
    another one. leaves: operands that are leaves as they stand. flops: floating-point operations of one result, from the operands' and the result's
    shapes (multiply and add count one each; elementwise work is not counted, as in torch's own counter). about and example:
    for the reference page; the example is run through every stage.
    """

    name: str
    family: Family
    about: str
    example: str
    arity: tuple[int, int]
    rule: Rule
    torch: str
    symbol: str | None = None
    linear: frozenset[int] = frozenset()
    vanishes: frozenset[int] = frozenset()
    elementwise: bool = False
    flops: Callable[[tuple[Shape, ...], Shape], int] | None = None
    options: tuple[tuple[str, int | None], ...] = ()
    sized: SizedRule | None = None
    positions: frozenset[int] = frozenset()
    leaves: frozenset[int] = frozenset()
    setting: str | None = None
    latex: str | None = None


def _product(shape: Shape) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def _matmul_flops(args: tuple[Shape, ...], out: Shape) -> int:
    return 2 * _product(out) * args[0][-1]


def _cayley_flops(args: tuple[Shape, ...], out: Shape) -> int:
    n = out[-1]
    return _product(out[:-2]) * (2 * n**3 // 3 + 2 * n**3)


def _qr_flops(args: tuple[Shape, ...], out: Shape) -> int:
    return 4 * out[0] * out[1] * min(out)


def _wy_flops(args: tuple[Shape, ...], out: Shape) -> int:
    return 2 * out[0] * _product(args[0])


def _butterfly_flops(args: tuple[Shape, ...], out: Shape) -> int:
    return 2 * args[0][0] * args[0][-1] * _product(out)


def _householder_flops(args: tuple[Shape, ...], out: Shape) -> int:
    r, n = args[0]
    return 2 * r * r * n + 2 * r * n * n


def _correlate_flops(args: tuple[Shape, ...], out: Shape) -> int:
    columns, vector = args
    return 4 * _product(columns) + _REAL * (vector[0] + out[0])


def _fourier_flops(args: tuple[Shape, ...], out: Shape) -> int:
    values, _, vector = args
    return _COMPLEX * (vector[0] + out[0] + values[0])


def _sparse_flops(args: tuple[Shape, ...], out: Shape) -> int:
    return 2 * _ENTRY * args[0][0] + _TURNED * (args[2][0] + out[0])


_ENTRY, _TURNED = 14, 350
"""Operations of a dense product that take as long as one of a sparse product, and as bringing one number there and back (measured)."""
_REAL, _COMPLEX = 200, 400
"""Operations of a matrix product that take as long as one number of a fast Fourier transform, there and written (measured)."""
_ONE, _TWO = (1, 1), (2, 2)
_FIRST, _BOTH = frozenset({0}), frozenset({0, 1})


def _activation(name: str, about: str, torch: str, latex: str, *, zero: bool) -> Op:
    return Op(
        name, "activation", about, f"{name}(D @ h)", _ONE, rules.elementwise, torch,
        elementwise=True, vanishes=_FIRST if zero else frozenset(), latex=latex,
    )  # fmt: skip


def _infix(name: str, symbol: str, about: str, example: str, torch: str, **more: object) -> Op:
    return Op(name, "arithmetic", about, example, _TWO, rules.elementwise, torch, symbol, elementwise=True, **more)  # type: ignore[arg-type]  # rows below give the fields of Op by name


OPS: tuple[Op, ...] = (
    _infix("add", "+", "sum", "h + beta", "{0} + {1}"),
    _infix("sub", "-", "difference", "h - beta", "{0} - {1}"),
    _infix("mul", "*", "elementwise product; a column [n] scales the rows of [n, m]", "l * h", "{0} * {1}", linear=_BOTH, vanishes=_BOTH),
    _infix("div", "/", "elementwise quotient", "h / l", "{0} / {1}", linear=_FIRST, vanishes=_FIRST),
    _infix("pow", "**", "power with a constant exponent", "h ** 2", "{0} ** {1}", vanishes=_FIRST),
    Op("neg", "arithmetic", "negative", "-h", _ONE, rules.elementwise, "-{0}", "-", linear=_FIRST, vanishes=_FIRST, elementwise=True),
    Op("matmul", "contraction", "matrix product", "A @ x", _TWO, rules.matmul, "{0} @ {1}", "@", linear=_BOTH, vanishes=_BOTH, flops=_matmul_flops),
    Op("transpose", "structure", "transposed matrix", "B.T @ h", _ONE, rules.transpose, "{0}.mT", ".T", linear=_FIRST, vanishes=_FIRST),
    Op("einsum", "contraction", "contraction with named axes; (a c) groups axes", 'einsum("o r, r -> o", B, A @ x)', (2, 9), rules.elementwise, "torch.einsum({pattern!r}, {operands})", linear=frozenset(range(8)), vanishes=frozenset(range(8))),
    Op("kron", "structure", "Kronecker product; of two stacks, one by one", "kron(S, T)", _TWO, rules.kron, "op.kron({0}, {1})", linear=_BOTH, vanishes=_BOTH, latex=r"{0} \otimes {1}"),
    Op("block_diag", "structure", "block-diagonal matrix of a stack [n, a, b]", "block_diag(S)", _ONE, rules.block_diag, "op.block_diag({0})", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{blockdiag}}({0})"),
    Op("diag", "structure", "diagonal matrix of a vector", "diag(l)", _ONE, rules.diag, "torch.diag_embed({0})", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{diag}}({0})"),
    Op("sum", "contraction", "sum over the first (stack) axis", "sum(S)", _ONE, rules.sum_stack, "{0}.sum(op.first({0}, {per}))", linear=_FIRST, vanishes=_FIRST, latex=r"\sum_i {0}_i"),
    Op("part", "structure", "part i of n equal parts along the first axis; `a, b = split(z)` is short for parts", "part(z, 0, 2)", (3, 3), rules.elementwise, "op.part({0}, {1}, {2}, {per})", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{part}}_{{{1}/{2}}}({0})"),
    _activation("relu", "rectified linear unit", "F.relu({0})", r"\operatorname{{ReLU}}({0})", zero=True),
    _activation("gelu", "Gaussian error linear unit, exact", "F.gelu({0})", r"\operatorname{{GELU}}({0})", zero=True),
    _activation("silu", "sigmoid linear unit (swish)", "F.silu({0})", r"\operatorname{{SiLU}}({0})", zero=True),
    _activation("tanh", "hyperbolic tangent", "torch.tanh({0})", r"\tanh({0})", zero=True),
    _activation("sigmoid", "logistic sigmoid", "torch.sigmoid({0})", r"\sigma({0})", zero=False),
    _activation("exp", "exponential", "torch.exp({0})", r"\exp({0})", zero=False),
    _activation("softplus", "softplus", "F.softplus({0})", r"\operatorname{{softplus}}({0})", zero=False),
    _activation("cos", "cosine", "torch.cos({0})", r"\cos({0})", zero=False),
    _activation("sin", "sine", "torch.sin({0})", r"\sin({0})", zero=True),
    Op("sqrt", "arithmetic", "square root", "sqrt(r)", _ONE, rules.elementwise, "op.sqrt({0})", vanishes=_FIRST, elementwise=True, latex=r"\sqrt{{{0}}}"),
    Op("clamp", "arithmetic", "the larger of a value and a number", "clamp(l - beta, 0.0001)", _TWO, rules.elementwise, "{0}.clamp_min({1})", elementwise=True, latex=r"\max({0}, {1})"),
    Op("softmax", "normalisation", "softmax of a vector", "softmax(D @ h)", _ONE, rules.vector, "torch.softmax({0}, -1)", latex=r"\operatorname{{softmax}}({0})"),
    Op("norm", "normalisation", "Frobenius norm, a number", "norm(B)", _ONE, rules.number, "torch.linalg.vector_norm({0})", vanishes=_FIRST, latex=r"\lVert {0} \rVert"),
    Op("norm_rows", "normalisation", "norm of each row", "norm_rows(W)", _ONE, rules.rows, "torch.linalg.vector_norm({0}, dim=1)", vanishes=_FIRST, latex=r"\lVert {0} \rVert_{{\mathrm{{row}}}}"),
    Op("norm_cols", "normalisation", "norm of each column", "norm_cols(W)", _ONE, rules.columns, "torch.linalg.vector_norm({0}, dim=0)", vanishes=_FIRST, latex=r"\lVert {0} \rVert_{{\mathrm{{col}}}}"),
    Op("layer_norm", "normalisation", "layer normalisation of a vector per token, with gain and shift where given", "layer_norm(h, l, beta)", (1, 3), rules.vector, "op.layer_norm({operands})", latex=r"\operatorname{{LN}}({operands})"),
    Op("cayley", "orthogonal", "orthogonal matrix of a skew one, (I - S) (I + S)^-1; each of a stack", "cayley(Q - Q.T)", _ONE, rules.square, "op.cayley({0})", flops=_cayley_flops, latex=r"\operatorname{{Cayley}}({0})"),
    Op("householder", "orthogonal", "product of the reflections at the rows u of [r, n], I - 2 u u^T / |u|^2 each", "householder(A)", _ONE, rules.householder, "op.householder({0})", flops=_householder_flops, latex=r"\operatorname{{H}}({0})"),
    Op("qr", "orthogonal", "orthonormal columns that span those of a matrix, as the QR decomposition has them", "qr(B)", _ONE, rules.tall, "op.qr({0})", flops=_qr_flops, latex=r"\operatorname{{qr}}({0})"),
    Op("gram_schmidt", "orthogonal", "orthonormal columns that span those of a matrix and follow it without a jump: qr with a positive diagonal", "gram_schmidt(B)", _ONE, rules.tall, "op.gram_schmidt({0})", flops=_qr_flops, latex=r"\operatorname{{GS}}({0})"),
    Op("skew", "orthogonal", "skew matrix of the numbers above its diagonal, row by row; each of a stack", "skew(u, n=r)", _ONE, rules.square, "op.skew({0}, {n})", linear=_FIRST, vanishes=_FIRST, options=(("n", None),), sized=rules.skew, latex=r"\operatorname{{skew}}({0})"),
    Op("butterfly", "orthogonal", "product of m block-diagonal matrices of blocks [m, n, b, b], the j-th on halves of blocks that stand 2^j halves apart; or applied to a vector; transposed with back=1", "butterfly(K)", (1, 2), rules.butterfly, "op.butterfly({operands}, back={back})", linear=frozenset({1}), vanishes=frozenset({1}), options=(("back", 0),), flops=_butterfly_flops, latex=r"\operatorname{{B}}({0})"),
    Op("circulant", "structure", "circulant matrix of a first column; each of a stack", "circulant(l)", _ONE, rules.circulant, "op.circulant({0})", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{circ}}({0})"),
    Op("correlate", "contraction", "circular correlation, block by block: the transposed circulant matrices of columns [m, n, b] applied to a vector [n b]", "correlate(M, h)", _TWO, rules.correlate, "op.correlate({0}, {1})", linear=_BOTH, vanishes=_BOTH, flops=_correlate_flops, latex=r"{0} \star {1}"),
    Op("fourier", "contraction", "ifft2 of the matrix with values at given positions, applied to a vector", "fourier(l, at, h, n=d_model)", (3, 3), rules.number, "op.fourier({0}, {1}, {2}, {n})", linear=frozenset({0, 2}), vanishes=frozenset({0, 2}), options=(("n", None),), sized=rules.entries, positions=frozenset({1}), flops=_fourier_flops, latex=r"\operatorname{{Re}}\,\mathcal{{F}}^{{-1}}({0}) {2}"),
    Op("sparse", "contraction", "the matrix with values at given flat positions, zero elsewhere, applied to a vector", "sparse(l, at, h, n=d_model)", (3, 3), rules.number, "op.sparse({0}, {1}, {2}, {n})", linear=frozenset({0, 2}), vanishes=frozenset({0, 2}), options=(("n", None),), sized=rules.entries, positions=frozenset({1}), flops=_sparse_flops, latex=r"\operatorname{{scatter}}_{{{1}}}({0})\, {2}"),
    Op("scatter", "structure", "values at given positions of a vector of n, or of the flat matrix [n, m], zero elsewhere", "scatter(l, at, n=r, m=d_model)", _TWO, rules.elementwise, "op.scatter({0}, {1}, {n}, {m})", linear=_FIRST, vanishes=_FIRST, options=(("n", None), ("m", 0)), sized=rules.scatter, positions=frozenset({1}), latex=r"\operatorname{{scatter}}_{{{1}}}({0})"),
    Op("gather", "structure", "the values at given positions", "gather(l, at)", _TWO, rules.gather, "op.gather({0}, {1}, {axes})", linear=_FIRST, vanishes=_FIRST, positions=frozenset({1}), latex=r"{0}[{1}]"),
    Op("tile", "structure", "a value n times over, along a new first axis", "tile(B, n=3)", _ONE, rules.elementwise, "op.tile({0}, {n}, {axes})", linear=_FIRST, vanishes=_FIRST, options=(("n", None),), sized=rules.tile, latex=r"\operatorname{{tile}}_{{{n}}}({0})"),
    Op("ifft2", "structure", "real part of the inverse Fourier transform of a matrix in both axes", "ifft2(B)", _ONE, rules.tall, "torch.fft.ifft2({0}).real", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{Re}}\,\mathcal{{F}}^{{-1}}({0})"),
    Op("top_softmax", "normalisation", "softmax over the k largest along the last axis, zero for the others", "top_softmax(A, k=2)", _ONE, rules.vector, "op.top_softmax({0}, {k})", options=(("k", None),), sized=rules.top, latex=r"\operatorname{{softmax}}_{{\mathrm{{top}}\,{k}}}({0})"),
    Op("sample", "flow", "while training a normal number of the given mean and logarithm of the variance, else the mean", "sample(D @ h, D @ h)", _TWO, rules.elementwise, "op.sample({0}, {1}, self.training)", elementwise=True, linear=_FIRST),
    Op("edges", "token", "1 for the first and the last tokens of each sample, as many as given, and 0 between; padding left out", "edges(h, first=1, last=1)", _ONE, rules.number, "op.edges({0}, {first}, {last}, self.context)", options=(("first", 0), ("last", 0)), sized=rules.token_number, latex=r"\operatorname{{edges}}_{{{first},{last}}}"),
    Op("relaxed", "flow", "while training a relaxed Bernoulli number between 0 and 1 with the given logit, else the sigmoid", "relaxed(D @ h)", _ONE, rules.elementwise, "op.relaxed({0}, self.training)", elementwise=True, latex=r"\operatorname{{relaxed}}({0})"),
    Op("by_task", "token", "the entry along the first axis that belongs to each sample's task, as `attached.tasks` tells it; the first where nothing is told", "by_task(S, h)", _TWO, rules.by_task, "op.by_task({0}, {1}, self.context)", linear=_FIRST, vanishes=_FIRST, latex=r"{0}_{{\operatorname{{task}}({1})}}"),
    Op("wy", "orthogonal", "the triangular T of a chain of reflections: householder(U) is I - U.T @ T @ U", "wy(A)", _ONE, rules.wy, "op.wy({0})", flops=_wy_flops, latex=r"\operatorname{{T}}({0})"),
    Op("attend", "token", "softmax attention of queries to keys and values, scaled by the root of the head size, causal where the stack is", "attend(D @ h, D @ h, D @ h, heads=1)", (3, 3), rules.attend, "op.attend({0}, {1}, {2}, heads={heads}, context=self.context)", linear=frozenset({2}), vanishes=frozenset({2}), options=(("heads", 1),)),
    Op("concat", "token", "rows of a leaf and the tokens of the sequence, one after the other", "concat(P, h)", (2, 4), rules.concat, "op.concat({operands})", latex=r"[{operands}]"),
    Op("join", "structure", "one vector after the other, along their own axis: what split takes apart", "join(z, D @ h)", (2, 4), rules.join, "op.join({operands})", latex=r"[{operands}]"),
    Op("mean_tokens", "token", "mean over the tokens of each sample, padding left out", "mean_tokens(h)", _ONE, rules.mean_tokens, "op.mean_tokens({0}, self.context)", linear=_FIRST, vanishes=_FIRST, latex=r"\operatorname{{mean}}_{{\mathrm{{tokens}}}}({0})"),
    Op("dropout", "flow", "dropout while training; its rate is the setting `dropout`, or the second operand", "dropout(x)", (1, 2), lambda kinds: kinds[0], "op.dropout({0}, {1}, self.training)", linear=_FIRST, vanishes=_FIRST, setting="dropout"),
    Op("stop_gradient", "flow", "the same value, through which no gradient flows", "stop_gradient(W)", _ONE, rules.elementwise, "{0}.detach()", linear=_FIRST, vanishes=_FIRST, elementwise=True, latex=r"\operatorname{{sg}}({0})"),
    Op("steered", "flow", "a leaf whose gradient g becomes what the second operand, linear in the leaf, is with g in its place", "steered(l, 2 * l)", _TWO, rules.elementwise, "", linear=_FIRST, vanishes=_FIRST, leaves=_FIRST),
)  # fmt: skip

TABLE: MappingProxyType[str, Op] = MappingProxyType({op.name: op for op in OPS})
