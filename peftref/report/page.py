"""A self-contained HTML page: one style, light and dark, readable on a phone; nothing is loaded from anywhere."""

from __future__ import annotations

import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --ink: #1b1b1f; --soft: #5c5c66; --line: #d9d9e0; --mark: #eef3ff; }
@media (prefers-color-scheme: dark) { :root { --back: #17171b; --ink: #ececf1; --soft: #a3a3ad; --line: #3a3a44; --mark: #26304a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { border-bottom-width: 2px; } .number { text-align: right; white-space: nowrap; }
.best { font-weight: 700; background: var(--mark); }
.note, li { color: var(--soft); font-size: .85rem; margin: .2rem 0; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; max-width: 46rem; }
figcaption { font-weight: 600; }
"""


def page(
    title: str, lead: str, figures: Sequence[tuple[str, str]], sections: Sequence[tuple[str, str | list[str]]]
) -> str:
    """A page: a title, a leading HTML fragment, figures (caption, SVG), and sections (heading, HTML fragment or lines)."""
    parts = [f'<h1>{html.escape(title)}</h1><div class="wide">{lead}</div>']
    parts += [f"<figure><figcaption>{html.escape(caption)}</figcaption>{svg}</figure>" for caption, svg in figures]
    for heading, content in sections:
        body = (
            f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in content)}</ul>"
            if isinstance(content, list)
            else content
        )
        parts.append(f'<h2>{html.escape(heading)}</h2><div class="wide">{body}</div>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
