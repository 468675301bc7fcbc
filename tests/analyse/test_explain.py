"""An explanation says what the compiled module does; a formula without a host is the count on one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dearer import dearer_table
from peftref.analyse.count import count
from peftref.analyse.explain import explain
from peftref.analyse.formula import formula
from peftref.design.load import load
from peftref.language.parse import parse_expression
from peftref.language.read_size import parse_size
from peftref.modules.attach import attach
from peftref.report.technique import explanation_lines
from tests.hosts.families import build

PLAIN = (
    "lora",
    "houlsby",
    "pfeiffer",
    "compacter",
    "ia3",
    "tiny_attention",
    "prefix",
    "prefix_mlp",
    "prompt",
    "full",
    "head",
)


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "compacter", "tiny_attention"])
def test_the_chosen_form_costs_what_the_module_does(name: str) -> None:
    model = build("bert")
    technique = load(name)
    for part in explain(technique, model, batch=4, length=8).parts:
        live = build("bert")
        attached = attach(live, technique, batch=4, length=8)
        site = next(each for each in attached.module.host.sites if each.slot == part.slot)
        run = attached.module.at(site)[0]
        h = torch.randn(4, 8, site.sizes["d_model"])
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run.forward(*(h for _ in run.reads))
        assert counter.get_total_flops() == part.chosen_cost.flops
        assert part.chosen_cost.score <= part.naive_cost.score
        assert parse_expression(part.chosen)


def test_lora_says_what_it_shares_and_compacter_what_it_keeps() -> None:
    (query, value) = explain("lora", "bert-base").parts
    assert query.together == value.together == ("A",)
    assert explain(load("lora", dropout=0.1), "bert-base").parts[0].together == ()
    assert explain("houlsby", "bert-base").parts[0].kept == ()
    assert len(explain("prefix_mlp", "gpt2").parts[0].kept) == 1
    assert explain("lora", "bert-base").costs.stops_early is False


@pytest.mark.parametrize("name", PLAIN)
def test_a_formula_without_a_host_counts_on_one(name: str) -> None:
    found = count(name, "bert-base")
    own = parse_size(formula(load(name)))
    numbers = dict(found.numbers) | {"host": found.host_parameters, "n_heads": 12, "d_model": 768, "d_ff": 3072}
    numbers |= {"n_layers": 12} | {key: value for key, value in load(name).settings.items() if isinstance(value, int)}
    assert own.evaluate(numbers) == found.trained


def test_every_explanation_has_lines() -> None:
    for name in (*PLAIN, "bitfit", "layernorm"):
        text = "\n".join(explanation_lines(explain(name, "t5-base")))
        assert text.startswith(f"{name} on t5-base")
        assert ("merge:" in text) == (name not in ("full", "head"))


def test_a_step_is_told_beside_the_frozen_hosts_with_its_reasons() -> None:
    longer = explain("prompt", "bert-base", batch=8, length=64)
    assert longer.step == pytest.approx((64 + 20) / 64, abs=0.01)
    assert longer.shares[0].reason == "the sequence grows by 20 tokens, which every layer works on"
    assert explain("full", "bert-base").step == pytest.approx(1.5, abs=0.05)
    assert explain("head", "bert-base").step == pytest.approx(0.5, abs=0.05)
    once, twice = (explain(load("lora_all", r=r), "bert-base").step - 1 for r in (64, 128))
    assert twice == pytest.approx(2 * once, rel=0.2)
    dense = explain("hira", "bert-base").shares[0].reason
    assert dense.endswith("a matrix as large as the weight has a gradient")
    assert "has a gradient" not in explain("lora", "bert-base").shares[0].reason


def test_what_was_measured_above_the_limit_is_explained() -> None:
    told = [("bert-base", ratio, explain(name, "bert-base")) for name, ratio in (("prompt", 1.3), ("lora", 1.04))]
    (row,) = dearer_table(told).rows
    assert row["technique"] == "prompt"
    assert row["measured"] == 1.3
    assert str(row["reason"]).startswith("+0.31 the sequence grows")
