"""What generated source calls as `op`: the ops that take more than one line of torch. Shapes are in torch's row layout.

`...` stands for the implicit axes [batch, tokens] of a value per token.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peftref.core.problem import fail
from peftref.modules.compile.fourier import correlate as correlate
from peftref.modules.compile.fourier import fourier as fourier
from peftref.modules.compile.sparse import sparse as sparse
from peftref.modules.compile.steered import steered as steered
from peftref.modules.compile.unrolled import unrolled as unrolled
from peftref.modules.running.entering import Entering
from peftref.modules.running.flow import Context
from peftref.modules.running.keep import Keep as Keep


def add_product(h: Tensor, x: Tensor | Entering, matrix: Tensor, sign: int = 1) -> Tensor:
    """h [..., a] plus, or minus, a matrix [a, b] times x [..., b], written in one pass."""
    if isinstance(x, Entering):
        return h + sign * x.product(matrix)
    return torch.addmm(h.reshape(-1, h.shape[-1]), x.reshape(-1, x.shape[-1]), matrix.t(), alpha=sign).view(h.shape)


def kron(a: Tensor, b: Tensor) -> Tensor:
    """[..., a, b] and [..., c, d] to [..., a c, b d]."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], a.shape[-1] * b.shape[-1])


def block_diag(stack: Tensor) -> Tensor:
    """[n, a, b] to [n a, n b]."""
    n, a, b = stack.shape
    eye = torch.eye(n, dtype=stack.dtype, device=stack.device)
    return (eye[:, None, :, None] * stack[:, :, None, :]).reshape(n * a, n * b)


def cayley(skew: Tensor) -> Tensor:
    """(I - S) (I + S)^-1, each of a stack [..., n, n]."""
    exact = _single(skew)
    eye = torch.eye(skew.shape[-1], dtype=exact.dtype, device=skew.device)
    solved: Tensor = torch.linalg.solve(eye + exact, eye - exact, left=False)
    return solved.to(skew.dtype)


def householder(u: Tensor) -> Tensor:
    """The product of the reflections at the rows of [r, n], as [n, n]."""
    eye = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
    return eye - u.mT @ (wy(u) @ u)


def wy(u: Tensor) -> Tensor:
    """T of the reflections at the rows of [r, n]: their product is I - u^T T u (Schreiber and Van Loan's compact form)."""
    exact = _single(u)
    with torch.autocast(u.device.type, enabled=False):
        gram = exact @ exact.mT
    inverse = gram.triu(1) + torch.diag(gram.diagonal() / 2)
    eye = torch.eye(u.shape[0], dtype=exact.dtype, device=u.device)
    found: Tensor = torch.linalg.solve_triangular(inverse, eye, upper=True)
    return found.to(u.dtype)


def qr(matrix: Tensor) -> Tensor:
    """Orthonormal columns."""
    columns: Tensor = torch.linalg.qr(_single(matrix)).Q
    return columns.to(matrix.dtype)


def gram_schmidt(matrix: Tensor) -> Tensor:
    """Orthonormal columns, each on the side of the column that it comes from: as in qr, save for its signs, which may jump."""
    columns, corner = torch.linalg.qr(_single(matrix))
    side = torch.where(corner.diagonal() < 0, -1.0, 1.0).to(columns.dtype)
    found: Tensor = columns * side
    return found.to(matrix.dtype)


def skew(above: Tensor, n: int) -> Tensor:
    """The numbers above the diagonal [..., n (n - 1) / 2], row by row, to skew [..., n, n]."""
    upper = above.new_zeros(*above.shape[:-1], n, n)
    upper[(..., *torch.triu_indices(n, n, 1, device=above.device))] = above
    return upper - upper.mT


def butterfly(blocks: Tensor, x: Tensor | None = None, back: int = 0) -> Tensor:
    """[m, n, b, b] applied to [..., n b], or as [n b, n b]: the j-th blocks act on halves of blocks that stand 2^j halves apart."""
    m, n, b, _ = blocks.shape
    if b % 2 or n % (1 << m - 1):
        text = (
            f"butterfly of {m} stages needs blocks of an even size, a multiple of {1 << m - 1} of them, not {n} of {b}"
        )
        raise fail("indivisible", text, hint="choose sizes that divide")
    if x is None:
        return butterfly(blocks, torch.eye(n * b, dtype=blocks.dtype, device=blocks.device), back).mT
    for j in reversed(range(m)) if back else range(m):
        stage, apart = blocks[j].mT if back else blocks[j], 1 << j
        near = x.reshape(*x.shape[:-1], -1, 2, apart, b // 2).transpose(-3, -2).reshape(*x.shape[:-1], n, b)
        turned = torch.einsum("nij, ...nj -> ...ni", stage, near)
        x = turned.reshape(*x.shape[:-1], -1, apart, 2, b // 2).transpose(-3, -2).reshape(x.shape)
    return x


def circulant(column: Tensor) -> Tensor:
    """A first column [..., n] to [..., n, n]."""
    n = column.shape[-1]
    at = torch.arange(n, device=column.device)
    return column[..., (at[:, None] - at) % n]


def scatter(values: Tensor, at: Tensor, n: int, m: int = 0) -> Tensor:
    """Values [k, ...] at positions [k] of n; with m, numbers at the flat positions of [n, m]."""
    flat = values.new_zeros(n * m if m else n, *values.shape[1:]).index_add(0, at, values)
    return flat.view(n, m) if m else flat


def gather(value: Tensor | Entering, at: Tensor, axes: int) -> Tensor:
    """What stands at positions [...] along the first axis of [..., *shape], where the shape has some axes."""
    if isinstance(value, Entering):
        return value.entries(at)
    index: Any = (..., at, *(slice(None),) * (axes - 1))
    return value[index]


def tile(value: Tensor, n: int, axes: int) -> Tensor:
    """[..., *shape] to [..., n, *shape], where the shape has some axes."""
    at = value.dim() - axes
    return value.unsqueeze(at).expand(*value.shape[:at], n, *value.shape[at:])


def top_softmax(logits: Tensor, k: int) -> Tensor:
    """Softmax over the k largest of the last axis, zero elsewhere."""
    values, at = logits.topk(k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, at, values.softmax(-1))


def sample(mean: Tensor, log_variance: Tensor, training: bool) -> Tensor:
    """A normal sample while training, else the mean."""
    return mean + torch.randn_like(mean) * (log_variance / 2).exp() if training else mean


def relaxed(logits: Tensor, training: bool) -> Tensor:
    """A relaxed Bernoulli sample at temperature 1 while training, else its logit's sigmoid."""
    if training:
        noise = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        logits = logits + noise.log() - (-noise).log1p()
    return torch.sigmoid(logits)


def by_task(values: Tensor, h: Tensor, context: Context) -> Tensor:
    """Of values [n, ...] those of each sample's task, as [batch, 1, ...]; of the first task where none was told."""
    tasks = context.flow.tasks
    if tasks is None:
        return values[:1].unsqueeze(1).expand(h.shape[0], 1, *values.shape[1:])
    if h.shape[0] % tasks.shape[0]:
        text = f"{tasks.shape[0]} tasks are told, and the batch has {h.shape[0]} samples"
        raise fail("tasks", text, hint="tell one task for each sample: with attached.tasks(...)")
    return values[tasks.to(values.device).repeat_interleave(h.shape[0] // tasks.shape[0])].unsqueeze(1)


def edges(h: Tensor, first: int, last: int, context: Context) -> Tensor:
    """1 for the first and last tokens that count of each sample, as [batch, tokens]; tokens that follow a cache are no last ones."""
    new, mask = h.shape[1], context.flow.tokens()
    seen = h.new_ones(h.shape[:2]) if mask is None or mask.shape[1] < new else mask.to(h.dtype)
    chosen = seen.cumsum(1) <= first
    if seen.shape[1] == new:
        chosen = chosen | (seen.flip(1).cumsum(1).flip(1) <= last)
    return (chosen.to(h.dtype) * seen)[:, -new:]


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout while training; at a rate of zero, x itself."""
    return F.dropout(x, rate) if training and rate > 0 else x


def layer_norm(h: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Layer normalisation over the last axis."""
    return F.layer_norm(h, h.shape[-1:], gain, shift)


def concat(*parts: Tensor) -> Tensor:
    """Rows [n, ...] and values [batch, tokens, ...], one after the other on the token axis."""
    batch = next(part.shape[0] for part in parts if part.dim() == max(each.dim() for each in parts))
    most = max(part.dim() for part in parts)
    return torch.cat([part if part.dim() == most else part.expand(batch, *part.shape) for part in parts], dim=1)


def join(*parts: Tensor) -> Tensor:
    """Vectors one after the other along the last axis; those that are the same for all tokens are repeated."""
    whole = max(parts, key=torch.Tensor.dim)
    return torch.cat([part.expand(*whole.shape[:-1], part.shape[-1]) for part in parts], -1)


def mean_tokens(h: Tensor, context: Context, call: int = 0) -> Tensor:
    """The mean over the tokens that count: [batch, tokens, ...] to [batch, 1, ...].

    With a cache it is the mean over the tokens so far; call: as in `attend`.
    """
    flat, _ = context.past(each := h.reshape(*h.shape[:2], -1).unsqueeze(1), each, call)
    flat, mask = flat[:, 0], context.flow.tokens()
    if mask is None or mask.shape[1] != flat.shape[1]:
        mean = flat.mean(1, keepdim=True)
    else:
        weight = mask.to(h.dtype).unsqueeze(-1)
        mean = (flat * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    return mean.reshape(h.shape[0], 1, *h.shape[2:])


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, context: Context, call: int = 0) -> Tensor:
    """Attention [batch, tokens, d] with `heads` heads, or [batch, tokens, heads, d] with its own; rows [n, ...] are keys of all.

    Padding and, where the stack is causal, later tokens are not seen; rows of a leaf are always seen. With a cache, the tokens
    before are seen too; call: which reading of other tokens in the equation this is.
    """
    flat = query.dim() == 3
    rows = key.dim() < query.dim()
    if rows:
        key, value = (each.expand(query.shape[0], *each.shape) for each in (key, value))
    if flat:
        query, key, value = (each.reshape(*each.shape[:-1], heads, -1) for each in (query, key, value))
    q, k, v = (each.transpose(1, 2) for each in (query, key, value))
    mask = None
    if not rows:
        k, v = context.past(k, v, call)
        mask = context.seen(q.shape[2], k.shape[2], q.device)
    out = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=q.shape[1] != k.shape[1])
    out = out.transpose(1, 2)
    return out.flatten(-2) if flat else out


def sqrt(value: Tensor | float) -> Tensor | float:
    """The square root of a tensor or a number."""
    return torch.sqrt(value) if isinstance(value, Tensor) else math.sqrt(value)


def _single(value: Tensor) -> Tensor:
    """A value in single precision at least: there are no solvers in half."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
