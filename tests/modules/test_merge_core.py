"""What scales the heads or channels of attention's output or values, or moves them by constants, folds into a projection."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import transformers as tf

from peftref.analyse.merge import merge_rules
from peftref.analyse.typology import typology
from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.design.technique import Technique
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.merge import merge
from tests.hosts.configs import FAMILIES
from tests.hosts.families import inputs

torch.set_num_threads(1)
CHANGES = {
    "head": ("n_heads", "o' = g * o"),
    "query heads": ("n_heads", 'o\' = einsum("n, n d -> n d", g, o)'),
    "channel": ("n_heads, d_value", "o' = o * g"),
    "channel of all heads": ("d_value", 'o\' = einsum("d, n d -> n d", g, o)'),
    "beside itself": ("n_heads", "o' = o + g * o"),
    "quotient": ("", "o' = 2 * o / (1 + g * g)"),
    "scaled and moved": ("n_heads, d_value", "o' = g * o + g"),
    "key heads": ("n_kv_heads", "v' = g * v"),
    "channel of values": ("n_kv_heads, d_value", "v' = v + g * v"),
    "values scaled and moved": ("n_kv_heads", "v' = g * v + g"),
    "values moved": ("n_kv_heads, d_value", "v' = v + g"),
}
HOSTS = ("bert", "gpt2", "gpt_neox", "llama", "phi3", "qwen3", "t5", "bart", "vit")


def made(shape: str, equation: str, at: str = "attention.core", name: str = "mine") -> Technique:
    quoted = equation.replace("'", "''")
    leaves = f"{{g: {{shape: [{shape}], init: {{normal: 0.7}}}}}}"
    return read(f"{{name: {name}, title: Mine, insert: [{{at: {at}, leaves: {leaves}, equation: '{quoted}'}}]}}")


def host(family: str, biases: bool = True) -> tf.PreTrainedModel:
    """A tiny host in double precision, with biases that are not zero; in llama and qwen3 two query heads share a key head."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    if family in ("llama", "qwen3"):
        config.num_key_value_heads, config.attention_bias = 2, biases
    model = tf.AutoModel.from_config(config).eval().double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_merged_host_gives_what_the_attached_one_gives_and_has_its_bits_back(change: str, family: str) -> None:
    model, batch = host(family), {}
    batch = {k: v.double() if v.is_floating_point() else v for k, v in inputs(model).items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    technique = made(*CHANGES[change])
    attached = attach(model, technique, seed=3)
    attached.module.double()
    with torch.no_grad():
        alone = model(**batch)[0]
        part = "output" if "o'" in CHANGES[change][1] else "value"
        bare = any("b" in s.lacks for s in resolve(model).sites if s.slot == f"attention.{part}")
        if "moved" in change and bare:
            with pytest.raises(PeftrefError, match="needs a bias"):
                attached.merge()
            assert torch.equal(model(**batch)[0], alone)
            return
        attached.merge()
        torch.testing.assert_close(model(**batch)[0], alone, rtol=1e-11, atol=1e-11)
        changed = {
            name
            for name, value in model.state_dict().items()
            if name in before and not torch.equal(value, before[name])
        }
        assert changed
        attached.unmerge()
        assert torch.equal(model(**batch)[0], alone)
    attached.detach()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("change", CHANGES)
def test_what_scales_is_called_so(change: str) -> None:
    technique = made(*CHANGES[change])
    row = typology([technique])[0]
    assert row["mergeable"] == "yes"
    wanted = {"scaled and moved": "rescaling; direct addition", "values scaled and moved": "rescaling; direct addition"}
    assert row["integration"] == wanted.get(change, "direct addition" if change == "values moved" else "rescaling")
    assert row["adapted"].startswith("reparameterisation")
    into = {rule.into for rule in merge_rules(technique)}  # type: ignore[union-attr]  # they merge
    assert into == {"attention.output" if "o'" in CHANGES[change][1] else "attention.value"}


@pytest.mark.parametrize(
    ("equation", "shape", "reason"),
    [
        ("k' = g * k", "n_kv_heads", "within attention"),
        ("q' = g * q", "n_heads", "within attention"),
        ("o' = tanh(g * o)", "n_heads", "is not linear in o"),
        ("o' = g * attend(q, k, v)", "n_heads", "is another value"),
        ('o\' = einsum("n m, m d -> n d", g, o)', "n_heads, n_heads", "scaled by numbers"),
        ("v' = g * v; o' = g * o", "", "within attention"),
    ],
)
def test_what_is_more_than_scaled_is_not_merged(equation: str, shape: str, reason: str) -> None:
    (rule,) = merge_rules(made(shape, equation))
    assert reason in rule.show()


def test_a_host_that_changes_the_output_before_it_is_projected_is_refused() -> None:
    config = tf.BitNetConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=99,
    )
    torch.manual_seed(0)
    model = tf.AutoModel.from_config(config).eval().double()
    core = next(site for site in resolve(model).sites if site.slot == "attention.core")
    assert core.remade == {"o"}
    attached = attach(model, made("n_heads", "o' = g * o"))
    with pytest.raises(PeftrefError, match=r"changes o between attention\.output and attention itself"):
        attached.merge()
    attached.detach()
    attached = attach(model, made("n_kv_heads", "v' = g * v"))
    with torch.no_grad():
        alone = model(**inputs(model))[0]
        attached.merge()
        torch.testing.assert_close(model(**inputs(model))[0], alone, rtol=1e-5, atol=1e-5)


SEVERAL = {
    "gain": made("n_heads", "o' = g * o", name="gain"),
    "moved": made("n_heads, d_value", "o' = o + g", name="moved"),
    "values": made("n_kv_heads", "v' = g * v", name="values"),
    "output": made("d_in", "x' = g * x", at="attention.output", name="output"),
}


@pytest.mark.parametrize("combine", ["stack", "sum"])
@pytest.mark.parametrize("order", list(permutations(SEVERAL, 3)))
def test_several_that_meet_in_one_projection_are_merged_in_order_or_refused(
    order: tuple[str, ...], combine: str
) -> None:
    model = host("bert")
    batch = inputs(model)
    for name in order:
        attach(model, SEVERAL[name], name, seed=len(name)).module.double()
    set_active(model, list(order), combine)  # type: ignore[arg-type]  # one of both words
    refused = 0
    with torch.no_grad():
        apart = model(**batch)[0]
        for name in order:
            try:
                Attached(model, name).merge()
            except PeftrefError as error:
                refused += error.problems[0].code == "merge-order"
            torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-10, atol=1e-10)
        merge(model, order)
        torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-10, atol=1e-10)
    assert refused < 3
    assert len(model.peftref.merged) == 3  # type: ignore[union-attr, arg-type]  # what peftref keeps there


@pytest.mark.parametrize("order", [("twice", "moved"), ("moved", "twice")])
def test_of_two_at_the_hidden_activation_the_later_one_is_nearer_to_the_weight(order: tuple[str, str]) -> None:
    model = host("bert")
    equations = {"twice": "h' = g * h", "moved": "h' = h + g"}
    for name in order:
        attach(model, made("d_ff", equations[name], at="ffn.hidden", name=name), name, seed=len(name)).module.double()
    set_active(model, list(order))
    with torch.no_grad():
        apart = model(**inputs(model))[0]
        with pytest.raises(PeftrefError, match=f"{order[1]} acts after it"):
            Attached(model, order[0]).merge()
        Attached(model, order[1]).merge()
        torch.testing.assert_close(model(**inputs(model))[0], apart, rtol=1e-10, atol=1e-10)
        merge(model, order)
        torch.testing.assert_close(model(**inputs(model))[0], apart, rtol=1e-10, atol=1e-10)


def test_a_prefix_is_live_beside_a_merged_gain() -> None:
    model = host("llama")
    gain = attach(model, made("n_heads", "o' = g * o"), "gain")
    prefix = attach(model, load("prefix", tokens=3), "prefix")
    gain.module.double(), prefix.module.double()
    for order in (["gain", "prefix"], ["prefix", "gain"]):
        set_active(model, order)
        with torch.no_grad():
            apart = model(**inputs(model))[0]
            gain.merge()
            torch.testing.assert_close(model(**inputs(model))[0], apart, rtol=1e-10, atol=1e-10)
            gain.unmerge()


@pytest.mark.parametrize(("at", "leaf"), [("ffn", "b"), ("attention", "b"), ("attention.core", "W")])
def test_a_leaf_that_is_called_as_a_weight_is_never_taken_for_it(at: str, leaf: str) -> None:
    """Where a change goes into another slot's weight, a leaf of the same name would be mistaken for it: it is not merged, and why is said."""
    width = "n_heads, d_value" if at == "attention.core" else "d_model"
    name = "o" if at == "attention.core" else "h"
    text = f'{{name: mine, title: Mine, insert: [{{at: {at}, leaves: {{{leaf}: {{shape: [{width}], init: ones}}}}, equation: "{name}\' = {name} + {leaf}"}}]}}'
    attached = attach(host("bert"), read(text))
    with pytest.raises(PeftrefError, match=f"{leaf} is a name here, and also"):
        attached.merge()
