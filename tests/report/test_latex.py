"""What is printed as LaTeX compiles with a plain LaTeX, and says all that it was given."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from peftref.analyse.rows import catalog_rows
from peftref.design.load import techniques
from peftref.report.latex import latex_table, latex_text
from peftref.report.table import Column, Table
from peftref.report.technique import technique_latex
from peftref.report.typology import typology_table

NASTY = "\\ { } $ & # % ^ _ ~ < > | \" ' ` ± ² − … α ⊙ é 漢 🙂 [x] -- a@b !` ?`"


def document(body: str) -> str:
    """A document with the packages that the text asks for in its comments."""
    packages = sorted(set(re.findall(r"^% (\\usepackage\{[\w,]+\})$", body, flags=re.MULTILINE)))
    return "\n".join([r"\documentclass{article}", *packages, r"\begin{document}", body, r"\end{document}", ""])


def compiled(body: str, folder: Path) -> str:
    """The log of the second run of pdflatex; skips where there is none."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    (folder / "paper.tex").write_text(document(body), encoding="utf-8")
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        log = (folder / "paper.log").read_text(encoding="utf-8", errors="replace")
        assert done.returncode == 0, log[-2000:]
    assert (folder / "paper.pdf").is_file()
    return log


@pytest.mark.parametrize("everything", [False, True])
def test_the_typology_of_the_whole_catalog_compiles_and_fits(everything: bool, tmp_path: Path) -> None:
    text = latex_table(typology_table(catalog_rows(), all_columns=everything))
    for row in catalog_rows():
        assert latex_text(row.title) in text
    log = compiled(text, tmp_path)
    assert "Overfull" not in log
    assert "Missing character" not in log


def test_the_equations_of_the_whole_catalog_compile(tmp_path: Path) -> None:
    log = compiled("\n".join(technique_latex(technique) for technique in techniques()), tmp_path)
    assert "Missing character" not in log


@pytest.mark.parametrize("columns", [1, 3, 30])
def test_any_text_compiles(columns: int, tmp_path: Path) -> None:
    """In a table that is narrow, wide, or wider than a page; every character but those that plain LaTeX lacks is kept."""
    made = tuple(Column(str(i), f"{NASTY} {i}" if columns > 1 else "&") for i in range(columns))
    rows = tuple({column.key: NASTY if columns > 1 else "#" for column in made} for _ in range(3))
    text = latex_table(Table(made, rows))
    assert "[U+6F22]" in text or columns == 1
    compiled(text, tmp_path)


def test_a_wide_table_has_every_column_once_and_the_first_in_every_part() -> None:
    made = tuple(Column(str(i), f"heading{i}") for i in range(40))
    text = latex_table(Table(made, ({column.key: f"value{column.key}" for column in made},)))
    parts = text.count(r"\begin{longtable}")
    assert parts > 1
    assert [text.count(f"value{i} ") for i in range(40)] == [parts, *([1] * 39)]
