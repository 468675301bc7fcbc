"""An op from outside is one file: with it alone, a technique is checked, described, counted, run, trained, merged and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from peftref import PeftrefError, attach, cost, count, load, register_op, restore, typology
from peftref.analyse.rows import catalog_rows
from peftref.design.insertion import insertions
from peftref.language.ops import OPS, TABLE
from peftref.language.typeset.latex import latex
from peftref.language.typeset.mathml import mathml
from peftref.language.typeset.notate import notate
from peftref.report.code import code_of
from tests.hosts.families import build, inputs
from tests.language import shift
from tests.language.every_op import EVERY_OP

TEXT = """\
name: shifted
title: Shifted LoRA
about: moves the numbers between the two factors of LoRA
settings: {r: 4, step: 3}
insert:
  - at: [attention.query]
    leaves:
      A: {shape: [r, d_in], init: {normal: 0.02}}
      B: {shape: [d_out, r], init: zeros}
    equation: h' = h + B @ EXPRESSION
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    assert "shift" in {op.name for op in EVERY_OP} - {op.name for op in OPS}
    path = tmp_path / "shifted.yaml"
    path.write_text(TEXT.replace("EXPRESSION", "shift(A @ x, by=step)"), encoding="utf-8")
    return path


def test_it_is_described_counted_and_shown(file: Path, tmp_path: Path) -> None:
    technique = load(file)
    plain_file = tmp_path / "plain.yaml"
    plain_file.write_text(TEXT.replace("EXPRESSION", "(A @ x)").replace("shifted", "plain").replace(", step: 3", ""))
    plain, (row,) = load(plain_file), typology([technique])
    assert row["mergeable"] == "yes"
    assert "B @ shift(A, by=step)" in row.cells["mergeable"].reason
    assert row["identity at init"] == "yes"
    assert count(technique, "bert-base").trained == 12 * 4 * (768 + 768)
    dearer = cost(technique, "bert-base").forward - cost(plain, "bert-base").forward
    assert dearer == 12 * 4, "a number costs an operation, by its row"
    assert "op.shift(" in code_of(technique, "bert-base")
    (insertion,) = insertions(technique)
    value = insertion.effects["attention.query"].values["h"]
    ElementTree.fromstring(mathml(notate(value)))
    assert r"\operatorname{shift}" in latex(value)


def test_it_runs_trains_merges_and_comes_back(file: Path, tmp_path: Path) -> None:
    """Against a host whose weight is changed by hand: W + B @ roll(A), with the same gradients, in double precision."""
    model = build("bert").double()
    batch, weight = inputs(model), model.encoder.layer[0].attention.self.query.weight
    before = weight.detach().clone()
    attached = attach(model, load(file))
    for number, value in enumerate(attached.parameters()):
        value.data.normal_(generator=torch.Generator().manual_seed(number))
    leaves = attached.module.leaves.get_submodule("encoder.0.attention.query")
    (out := model(**batch)[0]).square().sum().backward()
    trained = [each.clone().detach().requires_grad_() for each in (leaves.A, leaves.B)]
    changed = before + trained[1] @ torch.roll(trained[0], 3, 0)
    with attached.disabled():
        others = attached.module.leaves.get_submodule("encoder.1.attention.query")
        second = model.encoder.layer[1].attention.self.query.weight
        weights = {
            "encoder.layer.0.attention.self.query.weight": changed,
            "encoder.layer.1.attention.self.query.weight": second.detach()
            + (others.B @ torch.roll(others.A, 3, 0)).detach(),
        }
        by_hand = torch.func.functional_call(model, weights, kwargs=batch)[0]
    torch.testing.assert_close(out, by_hand, rtol=1e-12, atol=1e-12)
    by_hand.square().sum().backward()
    for leaf, own in zip((leaves.A, leaves.B), trained, strict=True):
        torch.testing.assert_close(leaf.grad, own.grad, rtol=1e-9, atol=1e-9)
    attached.merge()
    torch.testing.assert_close(weight.detach(), changed.detach(), rtol=1e-12, atol=1e-12)
    attached.unmerge()
    folder = attached.save(tmp_path / "saved")
    attached.detach()
    restore(model, folder)
    torch.testing.assert_close(model(**batch)[0], out, rtol=1e-12, atol=1e-12)


def test_what_is_wrong_with_it_is_said(file: Path) -> None:
    file.write_text(TEXT.replace("EXPRESSION", "shift(step * A @ x) + C"), encoding="utf-8")
    with pytest.raises(PeftrefError) as error:
        load(file)
    assert {problem.code for problem in error.value.problems} == {"shape", "unknown-name"}
    assert "shift needs the option by" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "kron"}, "the language has an op of this name"),
        ({"name": "two words"}, "its name is no name"),
        ({"name": "other"}, "does not call it"),
        ({"example": "shift(h"}, "its example"),
        ({"torch": "", "function": None}, "neither torch source nor a function"),
        ({"linear": frozenset({1})}, "operand 2 is named, and it has 1"),
        ({"latex": r"\nonsense({0})"}, "no command of a notation"),
    ],
)
def test_what_is_no_op_is_refused(changes: dict[str, object], text: str) -> None:
    known = dict(TABLE)
    with pytest.raises(PeftrefError, match="bad-op") as error:
        register_op(replace(shift.OPS[0], **changes))  # type: ignore[arg-type]  # fields by name
    assert text in str(error.value)
    assert dict(TABLE) == known


def test_its_row_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change while this package and the technique's file stay."""
    folder = file.parent
    monkeypatch.setenv("PEFTREF_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PEFTREF_CATALOG", str(folder))
    assert "shifted" in {row.name for row in catalog_rows()}
    remembered = (folder / "cache" / "typology.json").read_text(encoding="utf-8")
    assert '"lora"' in remembered
    assert '"shifted"' not in remembered


def install(folder: Path, source: str) -> dict[str, str]:
    """Puts a module where an installed package would stand, and gives the environment that sees it."""
    (folder / "shift_op.py").write_text(source, encoding="utf-8")
    about = folder / "shift_op-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shift-op\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[peftref.ops]\nshift = shift_op\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def check(file: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "peftref", "check", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_package_brings_it(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    assert "there is no op shift" in check(file, dict(os.environ)).stderr
    environment = install(folder, Path(shift.__file__).read_text(encoding="utf-8"))
    found = check(file, environment)
    assert (found.returncode, found.stderr) == (0, "")
    asked = "import sys, peftref.language.ops as ops; print('shift' in ops.TABLE, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "False"]
    found = check(file, install(folder, "raise RuntimeError('no luck')"))
    assert found.returncode == 2
    assert "the op plug-in shift (shift_op) is broken: RuntimeError: no luck" in found.stderr
