"""Non-linear functions of one number."""

from __future__ import annotations

from typing import Literal

from peftref.language.op import FIRST, Op
from peftref.language.rules import elementwise


def _row(
    name: str, about: str, torch: str, numpy: str, latex: str, *, vanishes: bool, zero: Literal["one"] | None = None
) -> Op:
    return Op(
        name=name, family="activation", about=about, example=f"{name}(D @ h)", arity=(1, 1), rule=elementwise,
        torch=torch, oracle=numpy, elementwise=True, vanishes=FIRST if vanishes else frozenset(), zero=zero,
        costly=True, latex=latex + "({0})",
    )  # fmt: skip


OPS = (
    _row("relu", "rectified linear unit", "F.relu({0})", "np.maximum({0}, 0)", r"\operatorname{{ReLU}}", vanishes=True),
    _row(
        "gelu", "Gaussian error linear unit, exact", "F.gelu({0})",
        "{0} * (1 + np.vectorize(math.erf)({0} / math.sqrt(2))) / 2", r"\operatorname{{GELU}}", vanishes=True,
    ),
    _row("silu", "sigmoid linear unit (swish)", "F.silu({0})", "{0} / (1 + np.exp(-{0}))", r"\operatorname{{SiLU}}", vanishes=True),
    _row("tanh", "hyperbolic tangent", "torch.tanh({0})", "np.tanh({0})", r"\tanh", vanishes=True),
    _row("sigmoid", "logistic sigmoid", "torch.sigmoid({0})", "1 / (1 + np.exp(-{0}))", r"\sigma", vanishes=False),
    _row("exp", "exponential", "torch.exp({0})", "np.exp({0})", r"\exp", vanishes=False, zero="one"),
    _row("softplus", "softplus", "F.softplus({0})", "np.log1p(np.exp({0}))", r"\operatorname{{softplus}}", vanishes=False),
    _row("cos", "cosine", "torch.cos({0})", "np.cos({0})", r"\cos", vanishes=False, zero="one"),
    _row("sin", "sine", "torch.sin({0})", "np.sin({0})", r"\sin", vanishes=True),
)  # fmt: skip
