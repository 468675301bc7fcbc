"""The table of procedures, and their functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftref.core.problem import PeftrefError
from peftref.design.load import read, techniques
from peftref.design.procedures import PROCEDURES
from peftref.modules.procedures.table import FUNCTIONS

TEXT = """name: sample
title: Sample
settings: {{r: 8, rate: 0.5, word: first}}
insert:
  - at: attention.query
    leaves:
      A: {{shape: [r, d_in], init: kaiming_uniform}}
      B: {{shape: [d_out, r], init: zeros}}
      E: {{shape: [r], init: zeros}}
    equation: h' = h + rate * B @ (E * (A @ x)) * r
procedures:
  - name: {name}
    settings: {settings}
"""


def problems(name: str, settings: str) -> set[str]:
    """The codes of what is wrong with a procedure."""
    with pytest.raises(PeftrefError) as caught:
        read(TEXT.format(name=name, settings=settings))
    return {problem.code for problem in caught.value.problems} - {"unused-setting", "no-gradient"}


def test_every_row_has_the_functions_of_its_moments() -> None:
    assert set(FUNCTIONS) == set(PROCEDURES)
    for name, hook in PROCEDURES.items():
        has = {moment for moment in ("begin", "penalty", "step") if getattr(FUNCTIONS[name], moment) is not None}
        assert has == set(hook.moments)
        assert (Path("peftref/modules/procedures") / f"{name}.py").name == f"{name}.py"


def test_every_procedure_is_used_by_a_technique() -> None:
    used = {procedure.name for technique in techniques() for procedure in technique.procedures}
    assert used == set(PROCEDURES)


@pytest.mark.parametrize(
    ("name", "settings", "code"),
    [
        ("allocate_rank", "{}", "unknown-procedure"),
        ("allocate_ranks", "{values: E, rows: A}", "missing-field"),
        ("allocate_ranks", "{values: E, rows: A, columns: B, turns: 3}", "unknown-field"),
        ("allocate_ranks", "{values: E, rows: A, columns: B, beta1: 1.5}", "bad-value"),
        ("allocate_ranks", "{values: E, rows: A, columns: B, beta1: word}", "bad-value"),
        ("allocate_ranks", "{values: E, rows: A, columns: C}", "unknown-leaf"),
        ("covariance_directions", "{down: A, up: B, down_copy: A, up_copy: B, take: middle}", "bad-value"),
        ("input_directions", "{down: 3}", "bad-value"),
    ],
)
def test_what_is_wrong_is_told(name: str, settings: str, code: str) -> None:
    assert code in problems(name, settings)


def test_a_setting_of_the_technique_is_told_by_its_name() -> None:
    from peftref.design.load import load
    from peftref.design.procedures import arguments, settings_read

    technique = load("adalora", target=3, beta1=0.5)
    (procedure,) = technique.procedures
    assert arguments(procedure, technique)["target"] == 3
    assert "beta1" in settings_read(procedure, technique)
