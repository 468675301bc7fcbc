"""What is left out or new on a host, as counts say it, against what merging and attaching do there."""

from __future__ import annotations

import re

import pytest

from peftref.analyse.count import count
from peftref.analyse.diff import diff
from peftref.core.problem import PeftrefError
from peftref.design.load import load, read, techniques
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.report.technique import diff_lines, technique_lines
from tests.hosts.families import build
from tests.small import small

BIAS = "one of the technique's own is added and counted there"


@pytest.mark.parametrize("family", ["llama", "t5", "bert", "gpt2"])
@pytest.mark.parametrize("name", ["bitfit", "ssf", "beft", "lora_bias", "ia3", "lora"])
def test_a_bias_is_new_where_merging_finds_no_place_for_it(name: str, family: str) -> None:
    model = build(family)
    attached = attach(model, small(load(name)))
    try:
        attached.merge()
        missing = False
    except PeftrefError as error:
        missing = "needs a bias" in str(error)
    assert any(BIAS in note for note in count(attached.technique, model).notes) == missing


def test_what_stands_nowhere_and_what_a_host_has_no_quantity_for() -> None:
    assert count("madx", "bert-base").notes == ("what stands at head is left out: the host has no such slot",)
    assert count("layernorm", "llama-3.1-8b").notes[0].startswith("db is left out: attention.norm,")
    assert count("layernorm", "bert-base").notes == ()
    assert "GLoRA" in load("glora").title
    assert count("glora", "llama-3.1-8b").notes == (
        "Cd, Cu, D, E are left out: attention.query, attention.value have no bias",
    )
    mine = read(
        "name: mine\ntitle: Mine\ninsert:\n  - at: attention.norm\n    equation: b' = 2 * b; g' = 2 * g\n", "mine.yaml"
    )
    assert count(mine, "llama-3.1-8b").notes == ("b' is left out: attention.norm has no bias",)


def test_leaves_that_are_left_out_are_not_counted() -> None:
    host = resolve("llama-3.2-1b")
    norms = [site for site in host.sites if site.kind == "norm"]
    assert count("layernorm", host).trained == sum(site.sizes["d_model"] for site in norms)


def test_differences_and_facts_show_no_object_of_ours() -> None:
    every = techniques()
    internal = re.compile(r"\b[A-Z][A-Za-z]+\((\w+=|'|\))")
    for one, other in zip(every, (*every[7:], *every[:7]), strict=True):
        assert not internal.search("\n".join(diff_lines(diff(one, other))))
    for each in every:
        assert not internal.search("\n".join(technique_lines(each)))


def test_an_init_differs_as_its_file_says_it() -> None:
    found = {each.what: (each.one, each.other) for each in diff("lora", "dora").leaves}
    assert found["m"] == ("", "[d_out] norm_rows")
    found = {each.what: (each.one, each.other) for each in diff("lora", "pissa").leaves}
    assert found["A"][1] == "[r, d_in] {svd_right: {power: 0.5}}"
