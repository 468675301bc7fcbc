"""The functions of every procedure, by its name and its moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from peftref.modules.procedures import (
    allocate_clusters,
    allocate_ranks,
    cluster_rows,
    covariance_directions,
    input_directions,
    joint_decomposition,
    quantised_residual,
)
from peftref.modules.procedures.work import Work


@dataclass(frozen=True, slots=True)
class Functions:
    """What a procedure does at each of its moments; None where it does nothing."""

    begin: Callable[[Work], None] | None = None
    penalty: Callable[[Work], Tensor | float] | None = None
    step: Callable[[Work, int, int], None] | None = None


FUNCTIONS: Mapping[str, Functions] = {
    "allocate_clusters": Functions(step=allocate_clusters.step),
    "allocate_ranks": Functions(penalty=allocate_ranks.penalty, step=allocate_ranks.step),
    "input_directions": Functions(begin=input_directions.begin),
    "covariance_directions": Functions(begin=covariance_directions.begin),
    "quantised_residual": Functions(begin=quantised_residual.begin),
    "joint_decomposition": Functions(begin=joint_decomposition.begin),
    "cluster_rows": Functions(begin=cluster_rows.begin),
}
"""Every procedure, by name."""
