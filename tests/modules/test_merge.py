"""A merged host computes what the host with its module computed, and gets its own weights back bit by bit."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations

import pytest
import torch

from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.design.technique import Technique
from peftref.modules import merging
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.container import Combine
from peftref.modules.merge import merge
from tests.hosts.families import CONFIGS, build, inputs, stands
from tests.modules.running.test_running import attached
from tests.modules.test_attach import MODULES, SMALL
from tests.small import small

torch.set_num_threads(1)
MERGE = {"lora", "ia3", "bitfit", "layernorm"}
EQUATIONS = {
    "linear": ("attention.query", {"A": "r, d_in", "B": "d_out, r", "c": "d_out"}, "h' = h + B @ A @ dropout(x) + c"),
    "weight": ("ffn.up", {"A": "r, d_in", "B": "d_out, r", "m": "d_out"}, "W' = m * (W + B @ A); b' = 2 * b"),
    "input": ("attention.value", {"l": "d_in", "A": "r, d_in", "B": "d_in, r"}, "x' = x + l * x + B @ A @ x"),
    "sublayer": ("ffn", {"A": "r, d_model", "B": "d_model, r", "c": "d_model"}, "h' = h + B @ (A @ h) + c"),
    "hidden": ("ffn.hidden", {"A": "r, d_ff", "B": "d_ff, r", "c": "d_ff"}, "h' = h - B @ A @ h + c"),
    "parts": (
        "attention.output",
        {"A": "r, d_in", "B": "d_out, r / 2", "C": "d_out, r / 2"},
        "u, v = split(A @ x); h' = h + B @ u + C @ v",
    ),
    "einsum": ("attention.key", {"A": "r, d_in", "B": "d_out, r"}, 'h\' = h + einsum("o r, r -> o", B, A @ x)'),
}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("name", MODULES)
def test_merging_keeps_the_outputs_and_unmerging_the_weights(family: str, name: str) -> None:
    model = build(family)
    if not stands(load(name), model):
        pytest.skip("attention itself cannot be looked into")
    batch = inputs(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = attached(model, name)
    with torch.no_grad():
        alone = model(**batch)[0]
        biases = family not in ("llama", "phi3", "t5", "xlnet")
        if name not in MERGE or (name == "bitfit" and not biases):
            assert not found.mergeable
            with pytest.raises(PeftrefError, match="not-mergeable"):
                found.merge()
            assert torch.equal(model(**batch)[0], alone)
            return
        found.merge()
        merged = model(**batch)[0]
        assert (merged - alone).abs().max() <= 1e-5 * max(1, float(alone.abs().max()))
        found.disable()
        assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)
        found.enable()
        assert torch.equal(model(**batch)[0], merged)
        found.unmerge()
        assert torch.equal(model(**batch)[0], alone)
        found.merge()
        found.detach()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "phi3", "xlnet"])
@pytest.mark.parametrize("name", EQUATIONS)
def test_every_linear_equation_merges(family: str, name: str) -> None:
    slot, shapes, equation = EQUATIONS[name]
    leaves = ", ".join(f"{leaf}: {{shape: [{shape}], init: {{normal: 0.3}}}}" for leaf, shape in shapes.items())
    drop = ", dropout: 0.5" if "dropout" in equation else ""
    quoted = equation.replace("'", "''")
    technique = read(
        f"{{name: m, title: M, settings: {{r: 2{drop}}}, insert: "
        f"[{{at: {slot}, leaves: {{{leaves}}}, equation: '{quoted}'}}]}}"
    )
    model = build(family)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.add_(0.3)
    found = attach(model, technique)
    batch = inputs(model)
    with torch.no_grad():
        alone = model(**batch)[0]
        bare = {"llama": ("attention", "ffn"), "phi3": ("attention", "ffn"), "xlnet": ("attention",)}.get(family, ())
        if "+ c" in equation and slot.partition(".")[0] in bare:
            with pytest.raises(PeftrefError, match="needs a bias"):
                found.merge()
            return
        found.merge()
        assert found.merged
        torch.testing.assert_close(model(**batch)[0], alone, rtol=1e-4, atol=1e-5)
        found.disable()
        assert not torch.allclose(model(**batch)[0], alone, atol=1e-3)


def test_several_merged_modules_come_and_go_in_any_order() -> None:
    model = build("llama")
    batch = inputs(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    one, two = attach(model, load("lora", r=2), "one", seed=1), attach(model, load("ia3"), "two")
    with torch.no_grad():
        for parameter in (*one.parameters(), *two.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
        set_active(model, ["one", "two"])
        both = model(**batch)[0]
        with pytest.raises(PeftrefError, match="merge-order"):
            two.merge()
        one.merge()
        two.merge()
        torch.testing.assert_close(model(**batch)[0], both, rtol=1e-5, atol=1e-5)
        with pytest.raises(PeftrefError, match="merge-order"):
            one.unmerge()
        two.unmerge()
        one.unmerge()
        assert torch.equal(model(**batch)[0], both)
        one.merge()
        one.detach()
        two.detach()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_half_precision_merges_within_its_tolerance() -> None:
    model = build("llama").to(torch.bfloat16)
    found = attached(model, "lora")
    batch = inputs(model)
    with torch.no_grad():
        alone = model(**batch)[0]
        found.merge()
        assert (model(**batch)[0] - alone).abs().max() <= 2e-2 * float(alone.abs().max())


def test_a_tied_weight_is_not_merged() -> None:
    model = build("llama", "CausalLM", tie_word_embeddings=True)
    text = "{name: m, title: M, insert: [{at: head, leaves: {l: {shape: [d_out], init: ones}}, equation: h' = l * h}]}"
    with pytest.raises(PeftrefError, match="tied"):
        attach(model, read(text)).merge()
    assert set(SMALL) <= set(MODULES)


LINEAR = ("lora", "dora", "hira", "oft", "ia3", "glora", "road", "bitfit")
BIASED = ("glora", "road", "bitfit")
"""What needs a bias to be merged into, which llama has not."""
PAIRS = [
    (family, *pair)
    for family in ("bert", "llama")
    for pair in permutations(LINEAR, 2)
    if family == "bert" or pair[0] not in BIASED
]


@pytest.mark.parametrize(("family", "first", "second"), PAIRS)
def test_a_stack_of_two_is_the_second_on_the_host_that_the_first_makes(family: str, first: str, second: str) -> None:
    """Merging the first changes the host's weights, and the second then stands on those."""
    model = build(family).double()
    batch = inputs(model)
    for name in (first, second):
        one = attach(model, small(load(name)), name)
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    set_active(model, [first, second])
    with torch.no_grad():
        apart = model(**batch)[0]
        Attached(model, first).merge()
        torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-9, atol=1e-9)


FFN = {
    "hidden": ("ffn.hidden", {"A": "2, d_ff", "B": "d_ff, 2", "c": "d_ff"}, "h' = h + B @ A @ h + c"),
    "down": ("ffn.down", {"A": "2, d_in", "B": "d_out, 2", "c": "d_out"}, "h' = h + B @ A @ x + c"),
    "weight": ("ffn.down", {"l": "d_out"}, "W' = l * W"),
    "around": ("ffn", {"A": "2, d_model", "B": "d_model, 2", "c": "d_model"}, "h' = h + B @ (A @ h) + c"),
}


def at_ffn(name: str) -> Technique:
    slot, shapes, equation = FFN[name]
    leaves = ", ".join(f"{leaf}: {{shape: [{shape}], init: {{normal: 0.3}}}}" for leaf, shape in shapes.items())
    quoted = equation.replace("'", "''")
    return read(f"{{name: {name}, title: M, insert: [{{at: {slot}, leaves: {{{leaves}}}, equation: '{quoted}'}}]}}")


@pytest.mark.parametrize("combine", ["stack", "sum"])
@pytest.mark.parametrize("order", list(permutations(FFN, 3)))
def test_what_goes_into_one_weight_goes_there_in_the_order_of_the_flow(
    order: tuple[str, ...], combine: Combine
) -> None:
    """At the hidden activation, at the map that reads it and around both: whichever was attached first, and merged first."""
    model = build("bert").double()
    batch = inputs(model)
    for name in order:
        attach(model, at_ffn(name), name)
    set_active(model, list(order), combine)
    with torch.no_grad():
        apart = model(**batch)[0]
        for _ in order:
            for name in order:
                with suppress(PeftrefError):  # what acts before it is not merged yet
                    Attached(model, name).merge()
                torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-9, atol=1e-9)
        merge(model, order)
        torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-9, atol=1e-9)
        assert model.peftref.merged  # type: ignore[union-attr]  # what peftref keeps there


@pytest.mark.parametrize("combine", ["stack", "sum"])
@pytest.mark.parametrize(("slot", "equation"), [("norm", "g' = l * g; b' = l * b + l"), ("embedding", "E' = E * l")])
def test_gains_and_tables_are_stacked_or_summed(slot: str, equation: str, combine: Combine) -> None:
    shape = "vocab, d_model" if slot == "embedding" else "d_model"
    leaves = f"{{l: {{shape: [{shape}], init: {{normal: 0.5}}}}}}"
    quoted = equation.replace("'", "''")
    text = f"{{name: m, title: M, insert: [{{at: {slot}, leaves: {leaves}, equation: '{quoted}'}}]}}"
    model = build("bert").double()
    batch = inputs(model)
    with torch.no_grad():
        for name in ("one", "two"):
            found = attach(model, read(text), name, seed=len(name) + (name == "two"))
            assert found.mergeable
        set_active(model, ["one", "two"], combine)
        apart = model(**batch)[0]
        merge(model, ["one", "two"])
        torch.testing.assert_close(model(**batch)[0], apart, rtol=1e-9, atol=1e-9)
        set_active(model, ["one", "two"], "sum" if combine == "stack" else "stack")
        assert (model(**batch)[0] - apart).abs().max() > 1e-3


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("others", [False, True])
def test_what_stops_a_merge_leaves_the_host_as_it_was(
    error: type[BaseException], others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("gpt2")
    first = attach(model, load("lora", r=2), "first")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    if others:
        first.merge()
    second = attach(model, load("lora_all", r=2), "second")
    set_active(model, ["first", "second"] if others else ["second"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    alone = model(**inputs(model))[0]
    real, calls = merging.put_values, []

    def stops(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise error
        real(*args, **kwargs)

    monkeypatch.setattr(merging, "put_values", stops)
    with pytest.raises(error):
        second.merge()
    assert (first.merged, second.merged) == (others, False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(**inputs(model))[0], alone)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_merged_for_good_leaves_a_host_of_its_own(family: str) -> None:
    model = build(family)
    names = set(model.state_dict())
    found = attached(model, "lora")
    alone = model(**inputs(model))[0]
    merged = attached(build(family), "lora")
    merged.merge()
    found.merge(keep=False)
    assert set(model.state_dict()) == names
    assert (model(**inputs(model))[0] - alone).abs().max() <= 1e-5 * max(1, float(alone.abs().max()))
    kept = merged.model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    with pytest.raises(PeftrefError, match="detached"):
        found.unmerge()


def test_what_is_merged_for_good_leaves_others_where_they_are() -> None:
    model = build("llama")
    one, two = attach(model, load("lora", r=2), "one", seed=1), attach(model, load("ia3"), "two")
    with torch.no_grad():
        for parameter in (*one.parameters(), *two.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    set_active(model, ["one", "two"])
    both = model(**inputs(model))[0]
    with pytest.raises(PeftrefError, match="merge-order"):
        merge(model, ["two"], keep=False)
    assert torch.equal(model(**inputs(model))[0], both)
    one.merge()
    with pytest.raises(PeftrefError, match="merge-for-good"):
        two.merge(keep=False)
    one.unmerge()
    one.merge(keep=False)
    torch.testing.assert_close(model(**inputs(model))[0], both, rtol=1e-5, atol=1e-5)
    host = {key: value.clone() for key, value in model.state_dict().items() if ".peftref." not in f".{key}"}
    two.detach()
    assert all(torch.equal(value, host[key]) for key, value in model.state_dict().items())


def test_a_leaf_that_becomes_the_weight_is_not_the_weight() -> None:
    """What trains the leaf afterwards must not reach into the host."""
    text = (
        "{name: m, title: M, insert: [{at: attention.query, leaves: {M: {shape: [d_out, d_in], init: {copy: W}}}, "
        "equation: W' = M}]}"
    )
    model = build("llama")
    found = attach(model, read(text))
    found.merge()
    before = {key: value.clone() for key, value in model.state_dict().items() if "peftref" not in key}
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(1)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
