"""by_task: what belongs to the task of each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftref.core.problem import fail
from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(values: Kind, token: Kind) -> Kind:
    """One of [n, ...] for each sample."""
    if not values.dims or values.per != "none" or token.per != "token":
        raise KindError(
            f"by_task needs values along an axis, and a value per token, not {values.show()} and {token.show()}"
        )
    return Kind(values.dims[1:], "sample")


def by_task(values: Tensor, h: Tensor, context: Any) -> Tensor:
    """Of values [n, ...] those of each sample's task, as [batch, 1, ...]; of the first task where none was told."""
    tasks = context.flow.tasks
    if tasks is None:
        return values[:1].unsqueeze(1).expand(h.shape[0], 1, *values.shape[1:])
    if h.shape[0] % tasks.shape[0]:
        text = f"{tasks.shape[0]} tasks are told, and the batch has {h.shape[0]} samples"
        raise fail("tasks", text, hint="tell one task for each sample: with attached.tasks(...)")
    return values[tasks.to(values.device).repeat_interleave(h.shape[0] // tasks.shape[0])].unsqueeze(1)


def _oracle(values: Array, token: Array, **_: object) -> Array:
    import numpy as np

    return np.broadcast_to(values[0], (token.shape[0], 1, *values.shape[1:]))


OPS = (
    Op(
        name="by_task", family="token",
        about="the entry along the first axis that belongs to each sample's task, as `attached.tasks` tells it; the first where nothing is told",
        example="by_task(S, h)", arity=(2, 2), rule=rule, torch="op.by_task({0}, {1}, self.context)", function=by_task,
        oracle=_oracle, mixes=True, linear=FIRST, vanishes=FIRST, still=frozenset({1}),
        latex=r"{0}_{{\operatorname{{task}}({1})}}",
    ),
)  # fmt: skip
