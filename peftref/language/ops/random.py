"""Numbers that are drawn while training: sample, relaxed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.op import FIRST, Op
from peftref.language.rules import elementwise

if TYPE_CHECKING:
    from torch import Tensor


def sample(mean: Tensor, log_variance: Tensor, training: bool) -> Tensor:
    """A normal sample while training, else the mean."""
    import torch

    return mean + torch.randn_like(mean) * (log_variance / 2).exp() if training else mean


def relaxed(logits: Tensor, training: bool) -> Tensor:
    """A relaxed Bernoulli sample at temperature 1 while training, else its logit's sigmoid."""
    import torch

    if training:
        noise = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        logits = logits + noise.log() - (-noise).log1p()
    return torch.sigmoid(logits)


OPS = (
    Op(
        name="sample", family="flow",
        about="while training a normal number of the given mean and logarithm of the variance, else the mean",
        example="sample(D @ h, D @ h)", arity=(2, 2), rule=elementwise, torch="op.sample({0}, {1}, self.training)",
        function=sample, oracle="{0}", elementwise=True, linear=FIRST, passes=True, random=True,
    ),
    Op(
        name="relaxed", family="flow",
        about="while training a relaxed Bernoulli number between 0 and 1 with the given logit, else the sigmoid",
        example="relaxed(D @ h)", arity=(1, 1), rule=elementwise, torch="op.relaxed({0}, self.training)", function=relaxed,
        oracle="1 / (1 + np.exp(-{0}))", elementwise=True, random=True, latex=r"\operatorname{{relaxed}}({0})",
    ),
)  # fmt: skip
