"""Every problem that the package can report has its full text here; `PEFTREF_WRITE_GOLDEN=1` writes the texts anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from peftref.core.problem import PeftrefError
from tests.golden.cases import CASES
from tests.golden.codes import codes

TEXTS = Path(__file__).parent / "texts"


@pytest.mark.parametrize("code", sorted(CASES))
def test_the_full_text_of_a_problem(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PEFTREF_CATALOG", raising=False)
    with pytest.raises(PeftrefError) as caught:
        CASES[code](tmp_path)
    assert code in {problem.code for problem in caught.value.problems}
    text = re.sub(r"process \d+ on \S+", "process N on HOST", str(caught.value).replace(str(tmp_path), "FOLDER"))
    text = re.sub(r"\S*/catalog/", "CATALOG/", text) + "\n"
    path = TEXTS / f"{code}.txt"
    if os.environ.get("PEFTREF_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_every_code_has_a_golden_text() -> None:
    known = set(codes())
    assert set(CASES) == known
    assert {path.stem for path in TEXTS.glob("*.txt")} == set(CASES)
