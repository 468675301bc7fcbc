"""The table of inits: how a leaf gets its first values. One row per init; every later stage reads this table. No torch.

`torch` is source text with `{t}` for the tensor and a hole for each parameter, run under `torch.no_grad()` with `torch`, `nn`
and `math` at hand. A quantity of the host stands in the reference's layout: `W` is [d_out, d_in].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ParameterKind = Literal["number", "quantity", "leaf"]
Argument = int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an init: a number (or the name of a setting), a quantity of the host, or another leaf of the insertion.

    Of another leaf it reads the copy that serves the same site; a leaf that the whole design shares reads all copies, one after
    the other. No default: it must be given.
    """

    name: str
    kind: ParameterKind
    about: str
    default: Argument | None = None


@dataclass(frozen=True, slots=True)
class Init:
    """One init. `axes` is the least number of axes it needs; `exact` what every number is, where that is certain.

    whole: gives whole numbers, positions in another value, that are never trained.
    positive: no number of it is negative. mutates: the host's own weights must change along with it (the technique then says `mutates: host`).
    """

    name: str
    about: str
    torch: str
    parameters: tuple[Parameter, ...] = ()
    axes: int = 0
    exact: Literal["zeros", "ones"] | None = None
    random: bool = False
    mutates: bool = False
    whole: bool = False
    positive: bool = False

    @property
    def reads_host(self) -> bool:
        """Whether it reads a quantity of the host."""
        return any(parameter.kind == "quantity" for parameter in self.parameters)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of a name."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def source(self, tensor: str, arguments: Mapping[str, str]) -> str:
        """The init as torch source. tensor: the source of what is filled; arguments: the source of each argument, by parameter.

        >>> INITS["uniform"].source("self.A", {"bound": "0.1"})
        'nn.init.uniform_(self.A, -0.1, 0.1)'
        """
        return self.torch.format(t=tensor, **arguments)


def _number(name: str, about: str, default: Argument | None = None) -> Parameter:
    return Parameter(name, "number", about, default)


def _weight(about: str, default: str | None = "W") -> Parameter:
    return Parameter("of", "quantity", about, default)


def _leaf(name: str, about: str) -> Parameter:
    return Parameter(name, "leaf", about)


_GAIN = _number("gain", "factor on the standard deviation", 1.0)
_POWER = _number("power", "of the singular values that scale the vectors: 0.5 shares them between left and right", 0.0)
_SVD = "svd({of})"

INITS: Mapping[str, Init] = {
    row.name: row
    for row in (
        Init("zeros", "all 0", "nn.init.zeros_({t})", exact="zeros"),
        Init("ones", "all 1", "nn.init.ones_({t})", exact="ones"),
        Init("constant", "one number", "nn.init.constant_({t}, {value})", (_number("value", "the number"),)),
        Init(
            "normal",
            "normal numbers",
            "nn.init.normal_({t}, mean={mean}, std={std})",
            (_number("std", "standard deviation"), _number("mean", "mean", 0.0)),
            random=True,
        ),
        Init(
            "unit_normal",
            "normal numbers with variance 1 over the last axis",
            "nn.init.normal_({t}, std={t}.shape[-1] ** -0.5)",
            axes=1,
            random=True,
        ),
        Init(
            "unit_uniform",
            "uniform numbers up to 1 over the root of the length of one axis, as a linear layer of torch begins",
            "nn.init.uniform_({t}, -({t}.shape[int({axis})] ** -0.5), {t}.shape[int({axis})] ** -0.5)",
            (_number("axis", "which axis, counted from the end", -1),),
            axes=1,
            random=True,
        ),
        Init(
            "truncated_normal",
            "normal numbers, cut at two standard deviations",
            "nn.init.trunc_normal_({t}, std={std}, a=-2 * {std}, b=2 * {std})",
            (_number("std", "standard deviation before the cut"),),
            random=True,
        ),
        Init(
            "uniform",
            "uniform numbers between -bound and bound",
            "nn.init.uniform_({t}, -{bound}, {bound})",
            (_number("bound", "largest absolute value"),),
            random=True,
        ),
        Init(
            "kaiming_uniform",
            "uniform, variance by the number of inputs, as a linear layer of torch begins",
            "nn.init.kaiming_uniform_({t}, a={a})",
            (_number("a", "negative slope", 5**0.5),),
            axes=2,
            random=True,
        ),
        Init(
            "kaiming_normal",
            "normal, variance by the number of inputs",
            "nn.init.kaiming_normal_({t}, a={a})",
            (_number("a", "negative slope", 0.0),),
            axes=2,
            random=True,
        ),
        Init(
            "xavier_uniform",
            "uniform, variance by the numbers of inputs and outputs",
            "nn.init.xavier_uniform_({t}, gain={gain})",
            (_GAIN,),
            axes=2,
            random=True,
        ),
        Init(
            "xavier_normal",
            "normal, variance by the numbers of inputs and outputs",
            "nn.init.xavier_normal_({t}, gain={gain})",
            (_GAIN,),
            axes=2,
            random=True,
        ),
        Init(
            "orthogonal",
            "orthonormal rows or columns, whichever are fewer",
            "nn.init.orthogonal_({t}, gain={gain})",
            (_GAIN,),
            axes=2,
            random=True,
        ),
        Init("identity", "ones on the diagonal, zeros beside it", "nn.init.eye_({t})", axes=2),
        Init(
            "quarter_turn",
            "turns a plane by a right angle: [[0, -1], [1, 0]]",
            "{t}.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))",
            axes=2,
        ),
        Init(
            "haar",
            "the Haar wavelet: sum and difference, [[1, 1], [1, -1]] over the root of 2",
            "{t}.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2))",
            axes=2,
        ),
        Init(
            "coordinates",
            "a weight in the coordinates of the orthonormal columns that span another leaf",
            "{t}.copy_(torch.linalg.qr({by}.float()).Q.T @ {of}.float())",
            (_leaf("by", "the leaf"), _weight("the weight")),
            axes=2,
        ),
        Init(
            "evened",
            "for each position 1 over the root of how often two other leaves hold it, so that a gather of both keeps lengths",
            "{t}.copy_(torch.bincount(torch.cat([{one}, {other}]), minlength={t}.shape[0]).clamp(min=1) ** -0.5)",
            (_leaf("one", "the first leaf of positions"), _leaf("other", "the second")),
            axes=1,
        ),
        Init("copy", "a copy of a quantity of the host", "{t}.copy_({of})", (_weight("what is copied", None),)),
        Init(
            "norm_rows",
            "the length of every row of a weight",
            "{t}.copy_(torch.linalg.vector_norm({of}.float(), dim=1))",
            (_weight("the weight"),),
            axes=1,
            positive=True,
        ),
        Init(
            "norm_cols",
            "the length of every column of a weight",
            "{t}.copy_(torch.linalg.vector_norm({of}.float(), dim=0))",
            (_weight("the weight"),),
            axes=1,
            positive=True,
        ),
        Init(
            "svd_left",
            "the first left singular vectors of a weight, as columns",
            f"left, values, _ = {_SVD}\n{{t}}.copy_((left * values**{{power}})[:, : {{t}}.shape[1]])",
            (_weight("the weight"), _POWER),
            axes=2,
        ),
        Init(
            "svd_left_last",
            "the last left singular vectors of a weight, as columns",
            f"left, values, _ = {_SVD}\n{{t}}.copy_((left * values**{{power}})[:, -{{t}}.shape[1] :])",
            (_weight("the weight"), _POWER),
            axes=2,
        ),
        Init(
            "svd_values_last",
            "the last singular values of a weight",
            "{t}.copy_(svd({of})[1][-{t}.shape[0] :])",
            (_weight("the weight"),),
            axes=1,
            positive=True,
        ),
        Init(
            "svd_right_last",
            "the last right singular vectors of a weight, as rows",
            f"_, values, right = {_SVD}\n{{t}}.copy_((values[:, None] ** {{power}} * right)[-{{t}}.shape[0] :])",
            (_weight("the weight"), _POWER),
            axes=2,
        ),
        Init(
            "qr_left",
            "the first columns of the orthogonal factor of a weight",
            "{t}.copy_(torch.linalg.qr({of}.float()).Q[:, : {t}.shape[1]])",
            (_weight("the weight"),),
            axes=2,
        ),
        Init(
            "qr_right",
            "the first rows of the triangular factor of a weight",
            "{t}.copy_(torch.linalg.qr({of}.float()).R[: {t}.shape[0]])",
            (_weight("the weight"),),
            axes=2,
        ),
        Init(
            "svd_values",
            "the first singular values of a weight",
            "{t}.copy_(svd({of})[1][: {t}.shape[0]])",
            (_weight("the weight"),),
            axes=1,
            positive=True,
        ),
        Init(
            "svd_right",
            "the first right singular vectors of a weight, as rows",
            f"_, values, right = {_SVD}\n{{t}}.copy_((values[:, None] ** {{power}} * right)[: {{t}}.shape[0]])",
            (_weight("the weight"), _POWER),
            axes=2,
        ),
        Init(
            "paired_columns",
            "columns two by two alike, as a linear layer of torch begins: reflections at them undo each other",
            "nn.init.kaiming_uniform_({t}, a=5**0.5)\n{t}[:, 1::2] = {t}[:, : {t}.shape[1] // 2 * 2 : 2]",
            axes=2,
            random=True,
        ),
        Init(
            "random_positions",
            "positions in a flat weight, drawn at random, each once",
            "{t}.copy_(torch.randperm({of}.numel())[: {t}.numel()])",
            (_weight("the weight"),),
            axes=1,
            random=True,
            whole=True,
        ),
        Init(
            "largest",
            "the positions in a flat weight of its largest absolute values",
            "{t}.copy_({of}.abs().flatten().topk({t}.numel()).indices)",
            (_weight("the weight"),),
            axes=1,
            whole=True,
        ),
        Init(
            "random_indices",
            "whole numbers from 0 up to a number, drawn at random",
            "{t}.copy_(torch.randint(int({below}), {t}.shape))",
            (_number("below", "the number that none reaches"),),
            random=True,
            whole=True,
        ),
        Init(
            "consecutive",
            "whole numbers one after the other",
            "{t}.copy_(torch.arange({t}.numel()) + int({first}))",
            (_number("first", "the first one", 0),),
            axes=1,
            whole=True,
        ),
        Init(
            "vocabulary",
            "rows of the embedding matrix, drawn at random",
            "{t}.copy_({of}[torch.randint({of}.shape[0], {t}.shape[:1])])",
            (_weight("the embedding matrix", "E"),),
            axes=2,
            random=True,
        ),
    )
}
"""Every init, by name."""
