"""The site as files: complete, well formed, every link leads somewhere, the same every time, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest

from peftref.analyse.diff import relatives
from peftref.analyse.row import PEFT_REF
from peftref.analyse.typology import typology
from peftref.core.problem import PeftrefError
from peftref.design.load import load, read, techniques
from peftref.report.atlas.diagram import diagram
from peftref.report.atlas.site import atlas_files, write_atlas

VOID = {"meta", "link", "input", "br", "hr", "img", "mspace"}
CATALOG = techniques()
ROWS = typology(CATALOG)

pytestmark = pytest.mark.xdist_group("atlas")  # the atlas is written once


class Page(HTMLParser):
    """What a page holds: its ids, links, scripts and texts; every element must be closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.refers: list[str] = []
        self.labelled: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.links += [str(found[name]) for name in ("href", "src") if found.get(name)]
        self.refers += [
            each for name in ("aria-labelledby", "aria-describedby", "for") for each in (found.get(name) or "").split()
        ]
        if tag in ("input", "select"):
            assert "label" in self.open, f"{found} has no label"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(files: dict[str, bytes]) -> dict[str, Page]:
    return {name: Page(content.decode()) for name, content in files.items() if name.endswith(".html")}


def data(content: bytes) -> dict[str, object]:
    """What a data script puts."""
    found = re.fullmatch(r"peftref\.put\((\"\w+\"), (.*)\);\n", content.decode(), flags=re.DOTALL)
    assert found
    return json.loads(found[2])  # type: ignore[no-any-return]


def test_there_is_a_page_a_drawing_and_data_for_every_technique(files: dict[str, bytes]) -> None:
    for technique in CATALOG:
        for name in (
            f"techniques/{technique.name}.html",
            f"techniques/{technique.name}.svg",
            f"data/{technique.name}.js",
        ):
            assert name in files
        assert data(files[f"data/{technique.name}.js"])["name"] == technique.name
    assert {"index.html", "compare.html", "assets/style.css", "assets/diagram.css", "data/hosts.js"} <= set(files)


def test_pages_are_well_formed_and_every_link_leads_somewhere(files: dict[str, bytes]) -> None:
    found = pages(files)
    for name, page in found.items():
        assert len(page.ids) == len(set(page.ids)), f"{name} has an id twice"
        assert set(page.refers) <= set(page.ids), name
        for link in page.links:
            if link.startswith(("https://", "http://", "data:")):
                continue
            path, _, fragment = link.partition("#")
            parts: list[str] = []
            for part in (*PurePosixPath(name).parent.parts, *PurePosixPath(path).parts):
                parts = parts[:-1] if part == ".." else [*parts, part]
            target = "/".join(parts) if path else name
            assert target in files, f"{name} links to {link}"
            if fragment and "=" in fragment:
                chosen = parse_qs(fragment)
                assert {each for values in chosen.values() for each in values} <= {each.name for each in CATALOG}
            elif fragment:
                assert fragment in found[target].ids, f"{name} links to {link}"


def test_nothing_is_loaded_from_anywhere_else(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        text = content.decode()
        assert not re.search(r"""(?:src|@import|url\()\s*=?\s*["']?(?:https?:)?//""", text), name
        if name.startswith("assets/") and name.endswith(".js"):
            assert not re.search(r"\beval\b|\bFunction\(|\bfetch\b|XMLHttpRequest", text), name


@pytest.mark.parametrize("technique", CATALOG, ids=lambda each: each.name)
def test_a_page_tells_all_that_is_known(technique, files: dict[str, bytes]) -> None:  # type: ignore[no-untyped-def]
    page = Page(files[f"techniques/{technique.name}.html"].decode())
    row = typology([technique])[0]
    flat = " ".join(page.text.split())
    for name in PEFT_REF:
        assert row[name] in flat
        assert " ".join(row.cells[name].reason.split()) in flat
    assert technique.title in flat
    assert technique.about in flat
    if technique.source is not None and technique.source.arxiv:
        assert f"https://arxiv.org/abs/{technique.source.arxiv}" in page.links
    for each in relatives(technique, ROWS, 5):
        assert f"{each.name}.html" in page.links


def test_a_drawing_on_a_page_takes_the_colours_of_the_page(files: dict[str, bytes]) -> None:
    page = files["techniques/lora.html"].decode()
    assert "<style>" not in page
    alone = files["techniques/lora.svg"].decode()
    assert "var(" not in alone
    assert "prefers-color-scheme: dark" in alone


def test_the_same_catalog_gives_the_same_bytes(tmp_path: Path) -> None:
    """In processes that order their sets otherwise."""
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "peftref", "atlas", "lora", "compacter", "s4", "bitfit", "full", "--out", seed]
        subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        )
        folder = tmp_path / seed
        found.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert found[0] == found[1]
    assert len(found[0]) > 20


def test_a_design_of_ones_own_stands_beside_the_catalog(tmp_path: Path) -> None:
    mine = read(
        "{name: mine, title: '<Mine> & \"yours\"', about: 'a < b', settings: {n: 2}, insert: ["
        "{at: decoder.cross_attention.query, layers: {first: n}, leaves: {A: {shape: [d_out, d_in], init: zeros}}, equation: h' = h + A @ x},"
        "{at: ffn.gate, stacks: [decoder], leaves: {l: {shape: [d_out], init: ones}}, equation: x' = 2 * x; W' = l * W}]}"
    )
    files = atlas_files([load("lora"), mine])
    page = Page(files["techniques/mine.html"].decode())
    assert '<Mine> & "yours"' in page.text
    assert "<Mine>" not in files["techniques/mine.html"].decode()
    text = diagram(mine)
    ElementTree.fromstring(text)
    assert "cross attention" in text
    write_atlas(files, tmp_path / "site")
    assert (tmp_path / "site/techniques/mine.html").is_file()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = atlas_files([load("lora")])
    folder = tmp_path / "site"
    write_atlas(files, folder)
    write_atlas({**files, "extra.txt": b"new"}, folder)
    assert (folder / "extra.txt").is_file()

    def broken(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(PeftrefError, match="No space left"):
        write_atlas(files, folder)
    monkeypatch.undo()
    assert (folder / "extra.txt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("content", ["notes.txt", "index.html"])
def test_what_is_no_atlas_is_left_alone(content: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / content).write_text("<p>mine</p>")
    with pytest.raises(PeftrefError, match="save-place"):
        write_atlas({}, tmp_path / "site")
    assert (tmp_path / "site" / content).read_text() == "<p>mine</p>"


def test_a_name_that_stands_twice_is_told() -> None:
    with pytest.raises(PeftrefError, match="name-taken"):
        atlas_files([load("lora"), load("lora", r=4)])
