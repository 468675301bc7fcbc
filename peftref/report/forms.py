"""One table, many forms: Markdown, LaTeX, CSV, JSON and HTML from the same columns and rows."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Mapping

from peftref.report.latex import latex_table
from peftref.report.table import Table, Value


def to_markdown(table: Table) -> str:
    """The table as Markdown, best values in bold."""
    lines = [f"| {' | '.join(markdown_text(column.heading) for column in table.columns)} |"]
    lines.append(f"| {' | '.join('---:' if table.numeric(column) else '---' for column in table.columns)} |")
    best = [table.best(column) for column in table.columns]
    for i, cells in enumerate(table.cells()):
        shown = [
            _code(cell) if column.code else markdown_text(cell)
            for cell, column in zip(cells, table.columns, strict=True)
        ]
        marked = [f"**{cell}**" if i in top else cell for cell, top in zip(shown, best, strict=True)]
        lines.append(f"| {' | '.join(marked)} |")
    title = [f"**{markdown_text(table.title)}**", ""] if table.title else []
    notes = ["", *(f"- {markdown_text(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([*title, *lines, *notes]) + "\n"


def to_csv(table: Table) -> str:
    """The table as CSV with plain values, for programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in table.columns)
    for row in table.rows:
        writer.writerow(_plain(row.get(column.key)) for column in table.columns)
    return text.getvalue()


def to_json(table: Table) -> str:
    """The rows as a JSON list of objects with plain values."""
    rows = [{column.key: row.get(column.key) for column in table.columns} for row in table.rows]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def to_html(table: Table) -> str:
    """The table as an HTML fragment."""
    best = [table.best(column) for column in table.columns]
    kinds = ["number" if table.numeric(column) else "text" for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{html.escape(column.heading)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )
    lines = ["<table>"]
    if table.title:
        lines.append(f"<caption>{html.escape(table.title)}</caption>")
    lines.append(f"<thead><tr>{head}</tr></thead><tbody>")
    for i, cells in enumerate(table.cells()):
        drawn = [
            f'<td class="{kind}{" best" if i in top else ""}">{html.escape(cell)}</td>'
            for cell, kind, top in zip(cells, kinds, best, strict=True)
        ]
        lines.append(f"<tr>{''.join(drawn)}</tr>")
    lines.append("</tbody></table>")
    lines += [f'<p class="note">{html.escape(note)}</p>' for note in table.notes]
    return "\n".join(lines) + "\n"


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "latex": latex_table,
    "csv": to_csv,
    "json": to_json,
    "html": to_html,
}
"""How a table is written as text, by the name of the form."""


def _plain(value: Value) -> str | int | float:
    return "" if value is None else value


def markdown_text(text: str) -> str:
    """A text in which Markdown finds nothing to do.

    >>> print(markdown_text("a|b *c*"))
    a\\|b \\*c\\*
    """
    return "".join(f"\\{letter}" if letter in "\\|*_`<>[]#~" else letter for letter in text).replace("\n", " ")


def _code(text: str) -> str:
    """Text as code, in backticks; nothing where there is none."""
    if not text:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")
