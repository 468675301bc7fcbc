"""attend: softmax attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from peftref.language.kind import Kind, KindError
from peftref.language.op import Op, Shape
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(query: Kind, key: Kind, value: Kind, heads: Size | None = None) -> Kind:
    """Queries [d] per token, keys [d] and values [e] per token or as rows [n, d] and [n, e], give [e] per token.

    Where heads are an axis of their own, queries [n, d], keys [m, d] and values [m, e] carry them, m dividing n.
    """
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


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, context: Any, call: int = 0) -> Tensor:
    """Attention [batch, tokens, d] with `heads` heads, or [batch, tokens, heads, d] with its own; rows [n, ...] are keys of all.

    Padding and, where the stack is causal, later tokens are not seen; rows of a leaf are always seen. With a cache, the tokens
    before are seen too; call: which reading of other tokens in the equation this is.
    """
    from torch.nn.functional import scaled_dot_product_attention

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
    out = scaled_dot_product_attention(q, k, v, mask, enable_gqa=q.shape[1] != k.shape[1])
    out = out.transpose(1, 2)
    return out.flatten(-2) if flat else out


def _oracle(query: Array, key: Array, value: Array, *, kinds: list[Kind], causal: bool, heads: int = 1) -> Array:
    import numpy as np

    flat = len(kinds[0].dims) == 1
    batch, tokens = query.shape[:2]
    if kinds[1].per == "none":
        key, value = (np.broadcast_to(each, (batch, *each.shape)) for each in (key, value))
    if flat:
        query, key, value = (each.reshape(*each.shape[:2], heads, -1) for each in (query, key, value))
    groups = query.shape[2] // key.shape[2]
    result = np.zeros((batch, tokens, query.shape[2], value.shape[-1]))
    for i in range(batch):
        for n in range(query.shape[2]):
            for t in range(tokens):
                seen = t + 1 if causal and kinds[1].per == "token" else key.shape[1]
                logits = key[i, :seen, n // groups] @ query[i, t, n] / math.sqrt(query.shape[-1])
                weights = np.exp(logits - logits.max())
                result[i, t, n] = weights / weights.sum() @ value[i, :seen, n // groups]
    return np.asarray(result.reshape(batch, tokens, -1) if flat else result)


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    query, key, value = args
    keys = length if len(key) == len(query) else key[0]
    return 2 * (math.prod(query) + math.prod(query[:-1]) * value[-1]) * keys


def _backward(flops: int, needing: frozenset[int]) -> int:
    """Scores and weighted sum are half of the work each, and both the queries' and the keys' gradient go through the scores."""
    return flops * (len(needing) + bool({0, 1} & needing)) // 2


OPS = (
    Op(
        name="attend", family="token",
        about="softmax attention of queries to keys and values, scaled by the root of the head size, causal where the stack is",
        example="attend(D @ h, D @ h, D @ h, heads=1)", arity=(3, 3), rule=rule, options={"heads": 1},
        torch="op.attend({0}, {1}, {2}, {heads}, self.context{read})", function=attend, oracle=_oracle, mixes=True,
        linear=frozenset({2}), vanishes=frozenset({2}), flops=_flops, backward=_backward,
    ),
)  # fmt: skip
