"""The page of one technique."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from peftref.design.procedures import PROCEDURES
from peftref.design.technique import Source, Technique
from peftref.host.presets import preset_names
from peftref.report.atlas.diagram import diagram
from peftref.report.atlas.entry import Entry
from peftref.report.atlas.formulas import count_formula, equations, leaves, merging, name_math
from peftref.report.atlas.html import code, link, page, section, table, wide
from peftref.report.typology import LABELS


def technique_page(entry: Entry, titles: dict[str, str]) -> str:
    """The whole page; titles: those of all techniques of the site, by name."""
    technique = entry.technique
    parts = [
        _head(technique),
        '<div class="lead">',
        section("equation", "Equation", equations(technique), leaves(technique)),
        f'<figure class="block" aria-label="transformer block">{diagram(technique, alone=False)}'
        f"<figcaption>{link(f'{technique.name}.svg', 'this drawing as SVG')}</figcaption></figure>",
        section("typology", "Typology", _typology(entry)),
        "</div>",
        section("count", "Parameters", _count(entry)),
        section("merging", "Merging", merging(technique)),
        section("relatives", "Nearest relatives", _relatives(entry, titles)),
        section(
            "design",
            "The design",
            code(technique.to_yaml().split("\n", 1)[1], "YAML of the design"),
            *_notes(technique),
        ),
    ]
    if entry.code:
        heading = f"Code generated for {entry.host}"
        parts.append(
            section(
                "code",
                heading,
                f"<details><summary>Show the code</summary>{code(entry.code, 'generated code')}</details>",
            )
        )
    scripts = (
        "assets/store.js",
        "assets/size.js",
        "assets/count.js",
        "data/hosts.js",
        f"data/{entry.name}.js",
        "assets/calculator.js",
    )
    return page(f"{technique.title} - peftref atlas", "\n".join(parts), root="../", scripts=scripts)


def _head(technique: Technique) -> str:
    about = f'<p class="about">{escape(technique.about)}</p>' if technique.about else ""
    source = f'<p class="source">Source: {_source(technique.source)}</p>' if technique.source is not None else ""
    return f"<h1>{escape(technique.title)} <small><code>{technique.name}</code></small></h1>\n{about}\n{source}"


def _source(source: Source) -> str:
    parts = []
    if source.arxiv:
        parts.append(link(f"https://arxiv.org/abs/{source.arxiv}", f"arXiv {source.arxiv}"))
    if source.url:
        parts.append(link(source.url, source.url))
    parts += [escape(str(part)) for part in (source.year, source.note) if part]
    return ", ".join(parts)


def _typology(entry: Entry) -> str:
    rows = [
        (escape(LABELS.get(name, name)), f'{escape(cell.value)}<span class="reason">{escape(cell.reason)}</span>')
        for name, cell in entry.row.cells.items()
        if name != "trained"  # the formula stands under the parameters
    ]
    return wide(
        table(("property", "value, and what it was read off from"), rows, kind="reasons"), "typology with reasons"
    )


def _count(entry: Entry) -> str:
    technique = entry.technique
    fields = "\n".join(_fields(technique))
    others = [name for name in technique.settings if name not in technique.size_settings()]
    fixed = ", ".join(f"{name_math(name)} = {escape(str(technique.settings[name]))}" for name in others)
    hosts = "".join(f"<option{' selected' if name == entry.host else ''}>{name}</option>" for name in preset_names())
    return f"""<p>Trained parameters, in any host's sizes:</p>
{wide(f'<span class="formula">{count_formula(technique)}</span>', "formula")}
<form id="calculator" class="calculator" data-technique="{technique.name}">
<div class="fields">
<label>host <select name="host">{hosts}</select></label>
{fields}
</div>
<p class="result"><output id="counts" aria-live="polite">The calculator needs JavaScript; <code>peftref count {technique.name} --host {entry.host}</code> says the same.</output></p>
<div id="parts"></div>
</form>
{f'<p class="where">Settings that change no count: {fixed}.</p>' if fixed else ""}"""


def _fields(technique: Technique) -> Iterator[str]:
    for name in technique.size_settings():
        value = technique.settings[name]
        yield (
            f'<label>{escape(name)} <input name="set-{escape(name)}" type="number" min="1" step="1" value="{value}" '
            f'data-default="{value}" inputmode="numeric" required></label>'
        )


def _relatives(entry: Entry, titles: dict[str, str]) -> str:
    if not entry.relatives:
        return "<p>There is no other technique in this atlas.</p>"
    items = []
    for each in entry.relatives:
        differing = ", ".join(LABELS.get(name, name) for name in each.differing)
        said = f"differs in {escape(differing)}" if differing else "equal in all nine properties"
        compare = link(f"../compare.html#a={entry.name}&b={each.name}", "compare")
        items.append(f"<li>{link(f'{each.name}.html', titles[each.name])}: {said} ({compare})</li>")
    return f"<ul>{''.join(items)}</ul>"


def _notes(technique: Technique) -> Iterator[str]:
    for procedure in technique.procedures:
        yield f"<p>Procedure <code>{escape(procedure.name)}</code>: {escape(PROCEDURES[procedure.name].about)}.</p>"
    if technique.note:
        yield f"<p>Note: {escape(technique.note)}</p>"
    if technique.mutates:
        yield "<p>An init changes the host's own weights.</p>"
