"""Pieces of HTML, and the frame that all pages have: every text that is not marked up already is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

GENERATOR = "peftref atlas"
"""What every page says it was made by; a folder is an atlas where its index says so."""

_FRAME = """<!doctype html>
<html lang="en" data-root="{root}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{generator}">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}assets/diagram.css">
<link rel="stylesheet" href="{root}assets/style.css">
<script src="{root}assets/scheme.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<a class="name" href="{root}index.html">peftref <span>atlas</span></a>
<nav aria-label="Pages"><a href="{root}index.html"{at_index}>Typology</a> <a href="{root}compare.html"{at_compare}>Compare</a></nav>
<button id="scheme" type="button" hidden>◐</button>
</header>
<main id="main" tabindex="-1">
{body}
</main>
<footer>Derived from the designs by peftref {version}. The names of the nine properties are those of PEFT-Ref
(<a href="https://arxiv.org/abs/2304.12410">Sabry and Belz, 2023</a>); their values are computed from the equations.</footer>
{scripts}
</body>
</html>
"""


def page(title: str, body: str, *, root: str = "", scripts: Sequence[str] = (), here: str = "") -> str:
    """A whole page. root: the way from it to the site's own folder; scripts: files under the root, run in their order."""
    from peftref import __version__

    current = ' aria-current="page"'
    return _FRAME.format(
        root=root,
        generator=GENERATOR,
        title=escape(title),
        at_index=current if here == "index" else "",
        at_compare=current if here == "compare" else "",
        body=body,
        version=__version__,
        scripts="\n".join(f'<script src="{root}{script}"></script>' for script in scripts),
    )


def section(name: str, heading: str, *parts: str) -> str:
    """A section with its heading, which can be linked to."""
    inner = "\n".join(parts)
    return f'<section id="{name}" aria-labelledby="{name}-heading">\n<h2 id="{name}-heading">{escape(heading)}</h2>\n{inner}\n</section>'


def wide(inner: str, label: str) -> str:
    """A box that scrolls by itself where its content is wider than the page; it can be reached and scrolled by keys."""
    return f'<div class="wide" role="region" aria-label="{escape(label)}" tabindex="0">{inner}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table of markup: the first cell of every row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    attribute = f' class="{kind}"' if kind else ""
    return f"<table{attribute}><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def link(to: str, text: str) -> str:
    """A link; its text is escaped."""
    return f'<a href="{escape(to)}">{escape(text)}</a>'


def code(text: str, label: str) -> str:
    """A program's text, which scrolls by itself."""
    return wide(f"<pre><code>{escape(text.rstrip())}</code></pre>", label)
