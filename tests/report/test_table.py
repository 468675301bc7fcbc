"""A table in every form holds the same cells, whatever letters they have."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftref.report.fit import longest, pieces, wrap
from peftref.report.forms import to_csv, to_html, to_json, to_markdown
from peftref.report.latex import latex_table
from peftref.report.page import page
from peftref.report.table import Column, Table
from peftref.report.terminal import to_rich

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
VALUES = st.one_of(TEXTS, st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6), st.none(), st.booleans())


@st.composite
def tables(draw: st.DrawFn) -> Table:
    keys = draw(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=4, unique=True))
    better: st.SearchStrategy[Any] = st.sampled_from([None, "high", "low"])
    columns = tuple(
        Column(key, draw(TEXTS), digits=draw(st.sampled_from([None, 0, 3])), better=draw(better)) for key in keys
    )
    rows = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(keys, VALUES)), max_size=4))
    return Table(columns, tuple(rows))


@given(tables())
def test_json_and_csv_hold_the_plain_values(table: Table) -> None:
    assert json.loads(to_json(table)) == [
        {column.key: row[column.key] for column in table.columns} for row in table.rows
    ]
    read = list(csv.reader(io.StringIO(to_csv(table))))
    assert read[0] == [column.key for column in table.columns]
    assert read[1:] == [["" if row[c.key] is None else str(row[c.key]) for c in table.columns] for row in table.rows]


class Cells(HTMLParser):
    """The texts of the cells of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


@given(tables())
def test_html_holds_the_texts(table: Table) -> None:
    reader = Cells()
    reader.feed(to_html(table))
    assert reader.rows == [[column.heading for column in table.columns], *table.cells()]


@given(tables())
def test_markdown_and_latex_have_every_row_and_no_stray_bar(table: Table) -> None:
    lines = to_markdown(table).splitlines()
    assert len(lines) == len(table.rows) + 2
    for line in lines:
        bars = line.replace("\\\\", "").replace("\\|", "").count("|")
        assert bars == len(table.columns) + 1
    rows = [line for line in latex_table(table).splitlines() if line.endswith(r" \\")]
    assert len(rows) == len(table.rows) + 1


@pytest.mark.parametrize(("better", "best"), [("high", {1, 3}), ("low", {0}), (None, set())])
def test_the_best_is_marked_and_ties_are_told(better: str | None, best: set[int]) -> None:
    column = Column("n", "n", better=better)  # type: ignore[arg-type]  # one of the three
    assert Table((column,), ({"n": 1}, {"n": 3}, {"n": None}, {"n": 3})).best(column) == best


def test_rich_draws_letters_as_they_are() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(to_rich(Table((Column("a", "[bold]a"),), ({"a": "[red]b"},)), 80))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, as given
    assert "[bold]a" in text
    assert "[red]b" in text


def test_a_page_loads_nothing() -> None:
    text = page("a < b", "<p>lead</p>", [("figure", "<svg></svg>")], [("notes", ["x & y"])])
    assert "a &lt; b" in text
    assert "x &amp; y" in text
    assert "http" not in text
    assert "src=" not in text


@given(st.text(st.sampled_from("ab-/,(·) "), max_size=40), st.integers(1, 20))
def test_a_wrapped_text_is_the_text(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    parts = [piece.strip() for piece in pieces(text)]
    assert all(len(line) <= width or line.strip() in parts for line in lines)


def spoken_table(seed: int) -> Table:
    """A table of words, as ours are: some wide, some with many columns, some with long names."""
    random = Random(seed)

    def words(least: int) -> str:
        tails = ("", "", "", "-connected", ",024", "(x)", "/y")
        made = ("abcdefghij"[: random.randint(1, 10)] + random.choice(tails) for _ in range(random.randint(least, 6)))
        return " ".join(made)

    keys = [f"c{i}" for i in range(random.randint(1, 12))]
    rows = [
        {key: random.choice((words(0), words(1), random.randint(0, 10**9), None)) for key in keys}
        for _ in range(random.randint(1, 9))
    ]
    return Table(tuple(Column(key, words(1)) for key in keys), tuple(rows), words(0))


@given(st.integers(0, 10**6), st.integers(24, 160))
def test_at_any_width_nothing_is_broken_left_out_or_wider_than_the_terminal(seed: int, width: int) -> None:
    table = spoken_table(seed)
    text = to_rich(table, width).plain
    cells = [cell for row in table.cells() for cell in row]
    whole = [word for cell in cells for word in cell.split() if not re.fullmatch("[a-z]+-[a-z]+", word)]
    assert Counter(whole) <= Counter(text.split())
    assert max(map(len, text.splitlines()), default=0) <= width


@given(tables(), st.integers(20, 160))
def test_strange_letters_are_not_broken_either(table: Table, width: int) -> None:
    text = to_rich(table, width).plain
    parts = [piece.strip() for row in table.cells() for cell in row for piece in pieces(cell)]
    assert all(part in text for part in parts)
    cells = [cell for row in [[column.heading for column in table.columns], *table.cells()] for cell in row]
    if max(map(longest, cells)) + 4 <= width:
        assert max(map(len, text.splitlines()), default=0) <= width


def test_where_rows_do_not_fit_they_are_columns_and_what_is_best_stays_bold() -> None:
    columns = tuple(Column(f"c{i}", f"a heading of words {i}", better="high") for i in range(9))
    rows = tuple({f"c{i}": 10 * row + i for i in range(9)} for row in range(3))
    drawn = to_rich(Table(columns, rows), 40)
    assert drawn.plain.splitlines()[0].split()[-3:] == ["0", "10", "20"]
    assert [drawn.plain[span.start : span.end].strip() for span in drawn.spans if span.style == "bold"] == [
        str(20 + i) for i in range(9)
    ]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_typology_of_the_catalog_fits(width: int) -> None:
    from peftref.analyse.rows import catalog_rows
    from peftref.report.typology import typology_table

    for everything in (False, True):
        text = to_rich(typology_table(catalog_rows(), all_columns=everything), width).plain
        assert max(map(len, text.splitlines())) <= width
