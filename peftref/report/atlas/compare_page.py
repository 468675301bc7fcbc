"""The page on which any two techniques stand side by side; a script fills it from the data of the two."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from peftref.report.atlas.entry import Entry
from peftref.report.atlas.html import page


def compare_page(entries: Sequence[Entry]) -> str:
    """The whole page, with the choice of two."""
    options = "".join(f'<option value="{entry.name}">{escape(entry.row.title)}</option>' for entry in entries)
    body = f"""<h1>Two techniques side by side</h1>
<form id="choice" class="choice">
<label>one <select name="a">{options}</select></label>
<button type="button" id="swap" aria-label="Swap the two">⇄</button>
<label>other <select name="b">{options}</select></label>
</form>
<p id="said" class="result" role="status">The comparison needs JavaScript; <code>peftref diff ONE OTHER</code> says the same.</p>
<div id="sides"></div>"""
    scripts = ("assets/hash.js", "assets/store.js", "data/names.js", "assets/diff.js", "assets/compare.js")
    return page("Compare - peftref atlas", body, scripts=scripts, here="compare")
