"""Small studies from start to end: what is kept, what is done again, and what a failure leaves behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from peftref.analyse.cost import cost
from peftref.design.load import load, read
from peftref.report.study import comparison, read_findings, write_report
from peftref.study import compare as module
from peftref.study.compare import Result, compare
from peftref.study.store import Store
from peftref.study.train.classifier import load_classifier

Compare = Callable[..., Result]
BROKEN = "{name: broken, title: Broken, insert: [{at: ffn, leaves: {s: {shape: [d_model], init: {normal: 1e38}}}, equation: h' = h * s * s}]}"
TIMED = ("seconds", "started", "environment", "measures", "training")


@pytest.fixture
def small(tiny_host: Path, small_data: Path) -> Compare:
    """A study of a few steps on the tiny host."""

    def run(*names: Any, **more: Any) -> Result:
        given = {"seeds": 2, "steps": 6, "lrs": [1e-3, 1e-2], "measured": False, "show": False} | more
        return compare(names, host=tiny_host, data=small_data, **given)

    return run


def stripped(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of the run itself, without times and the machine."""
    curve = record["training"]["curve"] if "training" in record else None
    return {key: value for key, value in record.items() if key not in TIMED} | {"curve": curve}


def finals(result: Result) -> dict[str, list[dict[str, Any]]]:
    """The final runs of a study, stripped."""
    return {label: [stripped(record) for record in records] for label, records in result.finals.items()}


def test_a_study_keeps_every_run_and_does_none_twice(
    small: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small("lora", "head", out=tmp_path / "one")
    assert {label: len(runs) for label, runs in first.finals.items()} == {"lora": 2, "head": 2}
    assert len(list((first.folder / "runs").glob("*.json"))) == 2 * (2 + 2)

    def never(*_: object) -> None:
        raise AssertionError("a finished run was done again")

    monkeypatch.setattr(module, "execute", never)
    again = small("lora", "head", out=tmp_path / "one")
    assert again.finals == first.finals


def test_same_seeds_give_the_same_bits(small: Compare, tmp_path: Path) -> None:
    one, two = (small("lora:dropout=0.1", "prompt", out=tmp_path / name) for name in ("one", "two"))
    assert finals(one) == finals(two)
    seeds = [record["test"] for record in one.finals["lora"]]
    assert seeds[0] != seeds[1]


def test_an_interrupted_study_goes_on_where_it_stopped(
    small: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small("lora", "ia3", out=tmp_path / "whole")
    done = []

    def interrupted(run: Any, *rest: Any) -> dict[str, Any]:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(run.id)
        return execute(run, *rest)

    execute = module.execute
    with monkeypatch.context() as patch:
        patch.setattr(module, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small("lora", "ia3", out=tmp_path / "cut")
    kept = {path.stem: path.read_bytes() for path in (tmp_path / "cut" / "runs").glob("*.json")}
    assert sorted(kept) == sorted(done)
    assert finals(small("lora", "ia3", out=tmp_path / "cut")) == finals(whole)
    assert all((tmp_path / "cut" / "runs" / f"{name}.json").read_bytes() == text for name, text in kept.items())


def test_a_torn_record_is_done_again(small: Compare, tmp_path: Path) -> None:
    first = small("ia3", out=tmp_path)
    path = tmp_path / "runs" / f"{first.finals['ia3'][1]['id']}.json"
    path.write_bytes(path.read_bytes()[:-40])
    assert finals(small("ia3", out=tmp_path)) == finals(first)
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    assert Store(tmp_path).read(path.stem) is not None


def test_a_run_that_breaks_is_reported_and_the_others_go_on(small: Compare, tmp_path: Path) -> None:
    result = small(read(BROKEN), "head", out=tmp_path)
    assert [record["status"] for record in result.finals["broken"]] == ["diverged"]
    assert all(record["status"] == "finished" for record in result.finals["head"])
    markdown, page = write_report(tmp_path)
    assert re.search(r"\| broken .*\| 0/2", markdown.read_text())
    assert "no longer finite" in page.read_text()


def test_a_failed_run_is_tried_again(small: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("out of something")

    with monkeypatch.context() as patch:
        patch.setattr(module, "attach", refuses)
        failed = small("lora", out=tmp_path)
    assert {record["status"] for record in failed.finals["lora"]} == {"failed"}
    assert "out of something" in failed.finals["lora"][0]["error"]
    assert {record["status"] for record in small("lora", out=tmp_path).finals["lora"]} == {"finished"}


def test_the_test_split_is_read_in_final_runs_only(small: Compare, tmp_path: Path) -> None:
    small("lora", out=tmp_path)
    records = [json.loads(path.read_text())["body"] for path in (tmp_path / "runs").iterdir()]
    assert {(record["run"]["stage"], "test" in record) for record in records} == {("tune", False), ("final", True)}
    best = max((each for each in records if each["run"]["stage"] == "tune"), key=lambda each: each["dev"]["score"])
    chosen = {each["run"]["lr"] for each in records if each["run"]["stage"] == "final"}
    assert best["dev"]["score"] == max(
        each["dev"]["score"] for each in records if each["run"]["stage"] == "tune" and each["run"]["lr"] in chosen
    )


def test_measures_agree_with_what_is_derived(small: Compare, tmp_path: Path, tiny_host: Path) -> None:
    result = small("lora:r=4,dropout=0.1", "prefix:tokens=4", "full", out=tmp_path, measured=True, seeds=1, lrs=[1e-3])
    model = load_classifier(tiny_host, 2, 0).model
    measures = {label: record["measures"] for label, (record,) in result.finals.items()}
    for label, (record,) in result.finals.items():
        assert record["notes"] == []
        assert measures[label]["step"]["seconds"] > 0
        assert (measures[label]["inference"]["merged"] is None) == (label == "prefix")
        assert measures[label]["file"]["tensor_bytes"] >= 4 * record["technique"]["stored"]
    more = {
        label: measures[label]["flops"]["forward_per_token"] - measures["full"]["flops"]["forward_per_token"]
        for label in measures
    }
    assert more["lora"] == pytest.approx(cost(load("lora", r=4, dropout=0.1), model).forward)
    assert more["prefix"] == pytest.approx(cost(load("prefix", tokens=4), model).forward)


def test_a_budget_sizes_every_technique(small: Compare, tmp_path: Path) -> None:
    result = small("lora", "houlsby", "head", out=tmp_path, budget=700, seeds=1, lrs=[1e-3])
    trained = {entry.label: (entry.trained, entry.budget) for entry in result.study.techniques}
    assert 700 - 64 < trained["lora"][0] <= 700
    assert 700 - 180 < trained["houlsby"][0] <= 700
    assert trained["head"][1] == "has no size setting: 0 trained, at most 700 asked (-100.0%)"
    assert [row["budget"] for row in comparison(read_findings(tmp_path)).rows][2] == "-100.0"


def test_the_report_says_what_the_records_hold(small: Compare, tmp_path: Path) -> None:
    result = small("lora", "ia3", out=tmp_path, measured=True)
    table = comparison(read_findings(tmp_path))
    for row in table.rows:
        scores = torch.tensor([record["test"]["accuracy"] for record in result.finals[str(row["technique"])]])
        assert row["accuracy"] == pytest.approx(float(scores.mean()))
        assert row["accuracy_spread"] == pytest.approx(float(scores.std()), abs=1e-7)
    markdown, page = write_report(tmp_path)
    html = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    assert html.count("<svg") >= 2
    assert "4 * d_model * n_layers * r" in markdown.read_text()


def test_ctrl_c_keeps_what_is_finished(tiny_host: Path, small_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "peftref", "compare", "ia3", "--host", str(tiny_host), "--data", str(small_data)]
    command += ["--no-measure", "--steps", "4000", "--seeds", "2", "--lrs", "1e-3", "--out", str(tmp_path / "study")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    while not (tmp_path / "study" / "plan.json").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "again" in said
    assert not list((tmp_path / "study" / "runs").glob("*.tmp"))


def test_what_peft_makes_runs_beside_and_is_marked(small: Compare, tmp_path: Path) -> None:
    result = small("lora:r=2", "peft:LORA:r=2,lora_alpha=16", out=tmp_path, measured=True, seeds=1, lrs=[1e-3])
    ours, theirs = (result.finals[label][0] for label in ("lora", "peft:LORA".lower()))
    assert theirs["technique"]["trained"] == ours["technique"]["trained"]
    assert theirs["technique"]["formula"] == "opaque"
    assert theirs["notes"] == []
    assert theirs["measures"]["inference"]["merged"] is not None
    assert "peft:lora" in {row["technique"] for row in comparison(read_findings(tmp_path)).rows}


def test_techniques_with_procedures_are_compared_like_all_others(small: Compare, tmp_path: Path) -> None:
    given = ("adalora:r=4,target=2", "eva:r=2", "corda:r=2", "loftq:r=2,block=16", "frod", "adamss:n=4,k=2")
    result = small(*given, out=tmp_path / "study", seeds=1, lrs=[1e-2])
    assert len(result.finals) == len(given)
    for records in result.finals.values():
        for record in records:
            assert record["status"] == "finished", record["error"]
            assert record["notes"] == []
