"""What generated source calls as `op`: the ops that take more than one line of torch. Shapes are in torch's row layout.

`...` stands for the implicit axes [batch, tokens] of a value per token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from peftref.compile.flow import Context
from peftref.compile.keep import Keep as Keep


def add_product(h: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """h [..., a] plus a matrix [a, b] times x [..., b], written in one pass."""
    return torch.addmm(h.reshape(-1, h.shape[-1]), x.reshape(-1, x.shape[-1]), matrix.t()).view(h.shape)


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
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    solved: Tensor = torch.linalg.solve(eye + skew, eye - skew, left=False)
    return solved


def householder(u: Tensor) -> Tensor:
    """The product of the reflections at the rows of [r, n], as [n, n]."""
    result = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
    for row in u:
        result = result - torch.outer(result @ row, 2 * row / (row @ row))
    return result


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


def mean_tokens(h: Tensor, context: Context) -> Tensor:
    """The mean over the tokens that count: [batch, tokens, ...] to [batch, 1, ...]."""
    mask = context.flow.mask
    if mask is None or mask.shape[1] != h.shape[1]:
        return h.mean(1, keepdim=True)
    weight = mask.to(h.dtype).reshape(*mask.shape, *(1,) * (h.dim() - 2))
    return (h * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, context: Context, call: int = 0) -> Tensor:
    """Attention [batch, tokens, d] with `heads` heads, or [batch, tokens, heads, d] with its own; rows [n, ...] are keys of all.

    Padding and, where the stack is causal, later tokens are not seen; rows of a leaf are always seen. With a cache, the tokens
    before are seen too; call: which attention of the equation this is.
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
