"""The first page: the typology as a table that can be filtered and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from peftref.analyse.row import PEFT_REF
from peftref.report.atlas.entry import Entry
from peftref.report.atlas.html import link, page
from peftref.report.typology import LABELS

BESIDE = ("mergeable", "identity at init", "extra latency", "extra length")
"""Columns that users ask for, beside the nine properties."""
SLOTS = "workspace"
"""The column that is filtered by the slots of the design, since its cells put them in words."""


def typology_page(entries: Sequence[Entry]) -> str:
    """The whole page; it reads without JavaScript, and filters and sorts with it."""
    columns = [name for name in (*PEFT_REF, *BESIDE) if all(name in entry.row.cells for entry in entries)]
    years = sorted({str(entry.row.year) for entry in entries if entry.row.year})
    choices = {name: sorted({part for entry in entries for part in parts(name, entry)}) for name in columns}
    filters = "\n".join(_filter(name, values) for name, values in {"year": years, **choices}.items())
    heads = "".join(_head(name, LABELS.get(name, name)) for name in columns)
    rows = "\n".join(_row(entry, columns) for entry in entries)
    body = f"""<h1>Typology of parameter-efficient finetuning</h1>
<p class="about">{len(entries)} techniques, each one YAML design; every cell is computed from its equation, and its page says why.</p>
<form id="filters" class="filters" role="search" aria-label="Filter techniques" hidden>
<label class="text">text <input type="search" name="q" autocomplete="off" placeholder="name, value, year"></label>
<details><summary>Filter by property</summary>
<div class="fields">
{filters}
</div></details>
<p class="result"><output id="shown" aria-live="polite">{len(entries)} techniques</output> <button type="reset">Clear</button></p>
</form>
<div class="wide tall" role="region" aria-label="Typology table" tabindex="0">
<table id="techniques"><thead><tr>{_head("technique", "technique")}{_head("year", "year")}{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>"""
    return page("peftref atlas", body, scripts=("assets/hash.js", "assets/table.js"), here="index")


def parts(name: str, entry: Entry) -> list[str]:
    """The values that a cell has at once, each of which can be filtered by."""
    if name != SLOTS:
        return entry.row[name].split("; ")
    tune = entry.technique.tune
    own = [] if tune == "none" else ["everything"] if tune == "all" else list(tune)
    return list(dict.fromkeys([*(word for insert in entry.technique.insert for word in insert.at), *own])) or ["none"]


def _filter(name: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in values)
    label = escape(LABELS.get(name, name))
    return f'<label>{label} <select name="{escape(_key(name))}"><option value="">any</option>{options}</select></label>'


def _head(name: str, label: str) -> str:
    return f'<th scope="col" data-key="{escape(_key(name))}">{escape(label)}</th>'


def _row(entry: Entry, columns: Sequence[str]) -> str:
    cells = "".join(_cell(name, entry) for name in columns)
    title = f"{link(f'techniques/{entry.name}.html', entry.row.title)}"
    year = entry.row.year or ""
    return (
        f'<tr data-name="{entry.name}"><th scope="row" data-key="technique">{title}</th>'
        f'<td data-key="year">{year}</td>{cells}</tr>'
    )


def _cell(name: str, entry: Entry) -> str:
    found = parts(name, entry)
    shown = [entry.row[name]] if name == SLOTS else found
    said = f' data-parts="{escape(";".join(found))}"' if name == SLOTS else ""
    return f'<td data-key="{escape(_key(name))}"{said}>{"".join(f"<span>{escape(part)}</span>" for part in shown)}</td>'


def _key(name: str) -> str:
    return name.replace(" ", "-")
