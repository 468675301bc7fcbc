"""YAML text -> data and places: the right value or a refusal, never a silent change."""

from __future__ import annotations

import math
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from peftref.core.problem import PeftrefError
from peftref.design import yaml_source
from peftref.design.yaml_scalars import resolve, write
from peftref.design.yaml_source import MAX_DEPTH, decode, read_yaml


def codes(text: str) -> list[str]:
    with pytest.raises(PeftrefError) as error:
        read_yaml(text, "t.yaml")
    return [problem.code for problem in error.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5e3", 5000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("012", 12),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("On", "On"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("<<", "<<"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("'1'", "1"),
        ('"no\\n"', "no\n"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}", "t.yaml").data
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", ["yaml-duplicate-key"]),
        ("a: {b: 1, b: 2}\na: 3", ["yaml-duplicate-key", "yaml-duplicate-key"]),
        ("a: &x 1\nb: *x", ["yaml-anchor", "yaml-anchor"]),
        ("a: &x [*x]", ["yaml-anchor", "yaml-anchor"]),
        ("a: !!python/object/apply:os.system [ls]", ["yaml-tag"]),
        ("a: !!int 3", ["yaml-tag"]),
        ("1: a", ["yaml-key"]),
        ("true: a", ["yaml-key"]),
        ("? [a]\n: b", ["yaml-key"]),
        ("a: 1\n---\nb: 2", ["yaml-documents"]),
        ("", ["yaml-empty"]),
        ("# only a comment\n", ["yaml-empty"]),
        ("\ta: 1", ["yaml-tab"]),
        ("a:\n\tb: 1", ["yaml-tab"]),
        ("a: x\x00y", ["yaml-character"]),
        ("a: x\u2028y", ["yaml-character"]),
        ("a: \ud800", ["yaml-character"]),
        ("a: 1e999", ["yaml-number"]),
        (f"a: {'9' * 5000}", ["yaml-number"]),
        ("a: [1", ["yaml-syntax"]),
        ("a: b: c", ["yaml-syntax"]),
        ("a: 'x", ["yaml-syntax"]),
        ("a: @b", ["yaml-syntax"]),
        ("a:\n  b: 1\n c: 2", ["yaml-syntax"]),
        ("[" * 60_000, ["yaml-depth"]),
        ("{a: " * 10_000, ["yaml-depth"]),
        ("- " * 10_000, ["yaml-depth"]),
        ("[\n" * 20_000, ["yaml-depth"]),
        ("".join(" " * i + "a:\n" for i in range(300)), ["yaml-depth"]),
        (f"a: {'[' * 30}\nb: 1", ["yaml-syntax"]),
        ("a:\n" + "- 1\n" * 6_000, ["yaml-nodes"]),
        ("a: " + "x" * 70_000, ["yaml-size"]),
    ],
)
def test_refusals_are_quick_and_by_name(text: str, expected: list[str]) -> None:
    start = time.perf_counter()
    assert codes(text) == expected
    assert time.perf_counter() - start < 1.0


def test_a_billion_laughs_are_refused_without_growing() -> None:
    rows = ["a: &a [x, x]"] + [f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20)]
    assert set(codes("\n".join(rows))) == {"yaml-anchor"}


def test_depth_is_exact() -> None:
    read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "t.yaml")
    assert codes("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == ["yaml-depth"]


@pytest.mark.parametrize(
    ("before", "levels", "unit"),
    [("", 0, "["), ("a: ", 1, "["), ("a:\n- ", 2, "{b: "), ("", 0, "- ")],
)
@pytest.mark.parametrize("times", [MAX_DEPTH + 1, 900, 1_100, 10_000])
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_depth_has_one_place_with_every_reader(
    before: str, levels: int, unit: str, times: int, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libyaml reads ahead and may refuse deep nesting by itself; which PyYAML is installed must not be seen."""
    monkeypatch.setattr(yaml_source, "_LOADER", getattr(yaml, loader, yaml.SafeLoader))
    with pytest.raises(PeftrefError) as error:
        read_yaml(before + unit * times, "t.yaml")
    assert [problem.code for problem in error.value.problems] == ["yaml-depth"]
    place = error.value.problems[0].place
    assert place is not None
    column = len(before.rpartition("\n")[2]) + (MAX_DEPTH - levels) * len(unit) + 1
    assert (place.line, place.column) == (before.count("\n") + 1, column)


def test_bytes() -> None:
    assert decode("a: é".encode(), "t") == "a: é"
    assert decode(b"\xef\xbb\xbfa: 1", "t") == "a: 1"
    for raw in ("a: 1".encode("utf-16"), b"\xfe\xff\x00a", "a: 1".encode("utf-32"), b"a: 1\nb: \xff"):
        with pytest.raises(PeftrefError) as error:
            decode(raw, "t.yaml")
        assert [problem.code for problem in error.value.problems] == ["yaml-encoding"]
    place = error.value.problems[0].place
    assert place is not None
    assert (place.line, place.column) == (2, 4)


def test_line_ends_and_byte_order_mark_change_nothing() -> None:
    text = "a: 1\nb: |\n  x\n  y\nc: [1, 2]\n"
    plain = read_yaml(text, "t.yaml")
    for other in (text.replace("\n", "\r\n"), "\ufeff" + text, text.replace("\n", "\r")):
        read = read_yaml(other, "t.yaml")
        assert read.data == plain.data
        assert read.place("c", 1) == plain.place("c", 1)


def test_places_of_keys_values_and_what_is_absent() -> None:
    document = read_yaml("a:\n  - at: é\n    eq: 'x'\nb: {c: 12}\n", "t.yaml")
    assert (document.key("a", 0, "eq").line, document.key("a", 0, "eq").column) == (3, 5)
    assert (document.place("a", 0, "eq").line, document.place("a", 0, "eq").column) == (3, 9)
    value = document.place("b", "c")
    assert (value.line, value.column, value.length, value.text) == (4, 8, 2, "b: {c: 12}")
    assert document.place("a", 0, "none", 3) == document.place("a", 0)
    assert document.place("b", "none") == document.key("b")
    assert document.place("nowhere") == document.place()


TEXTS = st.text(st.sampled_from("ab'\"\\ éh😀=+@#:,[]{}|>&*!%-?()\n\t"), max_size=40)


@given(TEXTS, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_offsets_have_the_place_of_their_character(text: str, indent: int) -> None:
    """The character at the place in the file is the character at the offset, in all three exact styles."""
    pad = " " * indent
    line = text.replace("\n", " ").replace("\t", " ")
    single = "'" + line.replace("'", "''") + "'"
    double = '"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"'
    block = "|\n" + "".join(f"{pad}    {part}\n" for part in ["begin", *text.split("\n"), "end"])
    for style, value in (("'", single), ('"', double), ("|", block)):
        document = read_yaml(f"{pad}k: 1\n{pad}a: {value}", "t.yaml")
        assert isinstance(document.data, dict)
        found = document.data["a"]
        assert isinstance(found, str)
        assert document.keeps_columns("a")
        locate = document.locate("a")
        for offset, character in enumerate(found):
            place = locate(offset, offset + 1)
            if character == "\n":
                continue
            raw = document.lines[place.line - 1][place.column - 1]
            escaped = style == '"' and character in '"\\'
            assert raw == ("\\" if escaped else character)


def test_escapes_of_every_width_keep_their_columns() -> None:
    document = read_yaml('a: "\\x41\\u00e9\\U0001F600\\t=Z"', "t.yaml")
    assert document.data == {"a": "Aé😀\t=Z"}
    place = document.locate("a")(5, 6)
    assert document.lines[0][place.column - 1] == "Z"


def test_folded_and_wrapped_texts_lose_their_columns() -> None:
    for text in ("a: >\n  x\n  y\n", "a: x\n  y\n", "a: 'x\n  y'\n", 'a: "x\n  y"\n'):
        document = read_yaml(text, "t.yaml")
        assert not document.keeps_columns("a")
        assert document.locate("a")(2, 3).line == 1
    assert read_yaml("a: |2-\n   x\n\n  y\n", "t.yaml").locate("a")(4, 5).line == 4


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.floats(allow_nan=False), st.text(max_size=20)
)


@given(SCALARS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back(value: bool | int | float | str | None, flow: bool) -> None:
    text = f"a: [{write(value)}, 1]" if flow else f"a: {write(value, flow=False)}"
    if isinstance(value, str) and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        return
    data = read_yaml(text, "t.yaml").data
    assert isinstance(data, dict)
    found = data["a"][0] if isinstance(data["a"], list) else data["a"]
    assert found == value
    assert type(found) is type(value)


@given(st.text(max_size=12) | st.sampled_from(["yes", "NO", "1e3", "0b1", "12:30:45", "=", "2026-01-01", "1_0", "0o7"]))
def test_written_texts_are_texts_for_a_yaml_1_1_reader_too(value: str) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        return
    assert yaml.safe_load(f"a: [{write(value)}]") == {"a": [value]}


@given(st.text(st.sampled_from("a1:-[]{},'\"&*!|>#?%@` \n\t~.e\\é"), max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_and_agrees_with_another_composer(text: str) -> None:
    try:
        document = read_yaml(text, "t.yaml")
    except PeftrefError:
        return
    assert shape(document.data) == composed(yaml.compose(text, Loader=yaml_source._LOADER))


def shape(data: object) -> object:
    if isinstance(data, dict):
        return {key: shape(value) for key, value in data.items()}
    return [shape(value) for value in data] if isinstance(data, list) else data


def composed(node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {key.value: composed(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [composed(value) for value in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return node.value if node.style else resolve(node.value)


def test_the_slow_reader_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libyaml is missing, the pure reader gives the same data and places."""
    text = "a: 1 # one\nb:\n  - {c: 'x y', d: \"z\"}\n  - |\n    h' = h\n"
    fast = read_yaml(text, "t.yaml")
    monkeypatch.setattr(yaml_source, "_LOADER", yaml.SafeLoader)
    slow = read_yaml(text, "t.yaml")
    assert (slow.data, slow.spans, slow.keys) == (fast.data, fast.spans, fast.keys)
    assert codes("[" * 60_000) == ["yaml-depth"]
