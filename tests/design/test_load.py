"""Text, file or name -> technique; whatever comes in, only a technique or a PeftrefError comes out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftref.core.problem import PeftrefError
from peftref.design.load import load, read, techniques
from peftref.design.technique import Technique

from .samples import LORA


def codes(error: pytest.ExceptionInfo[PeftrefError]) -> list[str]:
    return [problem.code for problem in error.value.problems]


def refused(text: str) -> list[str]:
    with pytest.raises(PeftrefError) as error:
        read(text, "t.yaml")
    return codes(error)


def test_every_technique_of_the_catalog_loads() -> None:
    found = techniques()
    assert {"lora", "ia3", "houlsby", "prefix", "prompt", "bitfit", "full", "head"} <= {item.name for item in found}
    assert all(isinstance(item, Technique) and item == load(item.name) for item in found)


def test_paths_names_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text(LORA)
    monkeypatch.chdir(tmp_path)
    assert load(file) == load("sample.yaml") == load("./sample.yaml") == load(str(file)) == load("~/sample.yaml")
    assert load(file, r=2).settings["r"] == 2
    with pytest.raises(PeftrefError) as error:
        load(file, q=2)
    assert codes(error) == ["unknown-setting"]
    with pytest.raises(PeftrefError) as error:
        load("sample")
    assert codes(error) == ["unknown-technique"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text(LORA)
    assert load(file) is load(file)
    file.write_text(LORA.replace("r: 8", "r: 9"))
    assert load(file).settings["r"] == 9


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("#" * 70_000)
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    for name, code in (
        ("none.yaml", "unreadable"),
        (".", "unreadable"),
        ("large.yaml", "yaml-size"),
        ("bytes.yaml", "yaml-encoding"),
    ):
        with pytest.raises(PeftrefError) as error:
            load(tmp_path / name)
        assert codes(error) == [code]
    with pytest.raises(PeftrefError) as error:
        load(Path(os.devnull))
    assert codes(error) == ["unreadable"]


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """name: mine
title: Mine
settings: {r: 8, alhpa: 16}
insert:
  - at: [atention.query, attention.value]
    leaves:
      A: {shape: [r, d_inn], init: kaiming_uniform}
      B: {shape: [d_out, r], init: zeros}
      C: {shape: [r], init: kaiming_uniform}
    equation: |
      z = A @ x +
      h' = h + (alpha / r) * B @ z
"""
    assert refused(text) == ["unknown-slot", "unknown-size", "init-axes", "syntax"]
    fixed = text.replace("d_inn", "d_in").replace("atention", "attention").replace("x +", "x")
    assert refused(fixed) == ["unused-setting", "unused-leaf", "init-axes", "unknown-name"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("r: 8", "r: 0"), "setting-size"),
        (("alpha: 16", "alpha: 16, x: 1"), "shadowed-name"),
        (("alpha: 16", "alpha: 16, d_out: 1"), "shadowed-name"),
        (("dropout: 0.0", "drop: 0.0"), "op-arguments"),
        (("A: {", "gelu: {"), "shadowed-name"),
        (("B: {", "W: {"), "shadowed-name"),
        (("init: zeros", "init: {normal: std}"), "unknown-setting"),
        (("init: kaiming_uniform", "init: zeros"), "no-gradient"),
        (("dropout(x)", "dropout(stop_gradient(x))"), None),
        (("* B @", "* stop_gradient(B) @"), "no-gradient"),
        (("init: zeros", "init: {copy: W}"), "shape"),
        (("init: zeros", "init: {copy: x}"), "unknown-quantity"),
        (("init: zeros", "init: {copy: W}, scope: design"), "init-scope"),
        (("kaiming_uniform}", "kaiming_uniform}\n      C: {shape: [r], init: zeros}"), "unused-leaf"),
        (("h' =", ">\n      h' ="), "equation-folded"),
        (("x)\n", "x)\nbudget: alpha\n"), "bad-value"),
        (("x)\n", "x)\nbudget: beta\n"), "unknown-setting"),
        (("x)\n", "x)\ntune: [ffn.nrm]\n"), "unknown-slot"),
        (("x)\n", "x)\nprocedures: [{name: ranks}]\n"), "unknown-procedure"),
        (('arxiv: "2106.09685"', "arxiv: 2106.09685"), "bad-value"),
        (("name: sample", "name: Sample-1"), "bad-name"),
    ],
)
def test_single_mistakes(change: tuple[str, str], code: str | None) -> None:
    assert change[0] in LORA
    text = LORA.replace(*change, 1)
    if code is None:
        read(text)
    else:
        assert code in refused(text)


def test_spans_of_equations_are_those_of_the_file() -> None:
    block = LORA.replace(
        "h' = h + (alpha / r) * B @ A @ dropout(x)",
        "|\n      z = A @ x\n      h' = h + B @ zz + (r * alpha) * 0 * dropout(B @ z)",
    )
    with pytest.raises(PeftrefError) as error:
        read(block, "t.yaml")
    place = next(problem.place for problem in error.value.problems if problem.code == "unknown-name")
    assert place is not None
    assert place.text[place.column - 1 :].startswith("zz")
    assert block.split("\n")[place.line - 1] == place.text


CHARACTERS = st.sampled_from([*"{}[]:,-'\"#&*!|>%@` \n\t0rxhé@*+/()=.", "\x00", "\ud800", "  - ", "null", "at:"])


@given(st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_a_damaged_file_gives_a_technique_or_a_clear_error(data: st.DataObject) -> None:
    text = LORA
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 8))
        text = text[:at] + data.draw(st.one_of(CHARACTERS, st.just(""))) + text[at + cut :]
    check(text)


DOCUMENTS = st.recursive(
    st.one_of(
        st.sampled_from(
            ["zeros", "r", "ffn", "h' = h", "all", "1", "-1", "1e99", "null", "true", "''", "[]", "{}", "<<"]
        ),
        st.text(st.characters(codec="utf-8"), max_size=5).map(lambda text: "'" + text.replace("'", "''") + "'"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.dictionaries(
            st.sampled_from(
                ["at", "leaves", "equation", "shape", "init", "layers", "normal", "first", "name", "A", "x y"]
            ),
            inner,
            max_size=4,
        ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"),
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["name", "title", "source", "settings", "insert", "tune", "budget", "procedures", "note", "bad"]
)


@given(st.dictionaries(FIELDS, DOCUMENTS, max_size=6))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_any_document_gives_a_technique_or_a_clear_error(fields: dict[str, str]) -> None:
    check("\n".join(f"{name}: {value}" for name, value in {"name": "t", "title": "T", **fields}.items()))


def check(text: str) -> None:
    """Only a technique or a PeftrefError comes out, and every caret stands inside the file."""
    try:
        assert isinstance(read(text, "t.yaml"), Technique)
    except PeftrefError as error:
        _check_places(error, text)


def _check_places(error: PeftrefError, text: str) -> None:
    assert error.problems
    count = len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    for problem in error.problems:
        if problem.place is not None:
            assert problem.place.source == "t.yaml"
            assert 1 <= problem.place.line <= count
            assert 1 <= problem.place.column <= len(problem.place.text) + 1
        assert problem.text
        assert "pydantic" not in problem.render()


def test_loading_the_whole_catalog_is_quick_and_needs_no_torch() -> None:
    code = "import sys, peftref.design.load as load; load.techniques(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert time.perf_counter() - start < 10
