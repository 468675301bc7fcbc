"""In a mixed batch every sample gives what it gives alone under its own technique: outputs, gradients, generated tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, OPTConfig, PreTrainedModel, RobertaConfig

from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.per_sample import per_sample
from tests.hosts.families import build, inputs
from tests.small import small
from tests.tiny import TEXT, WIDE

torch.set_num_threads(1)
OPT = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32}


def trained(model: PreTrainedModel, **techniques: Any) -> dict[str, Attached]:
    """Techniques on a host, with random values; given as `name=(technique, settings)` or `name=technique`."""
    found = {}
    for i, (name, given) in enumerate(techniques.items()):
        technique = load(given[0], **given[1]) if isinstance(given, tuple) else small(load(given))
        found[name] = attach(model, technique, name, dtype=torch.double, batches=[inputs(model)])
        generator = torch.Generator().manual_seed(i)
        with torch.no_grad():
            for parameter in found[name].parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return found


def alone(model: PreTrainedModel, handles: dict[str, Attached], name: str | None, batch: dict[str, Tensor]) -> Any:
    """What the model gives for a batch with one technique active, or none."""
    if name is None:
        with next(iter(handles.values())).disabled():
            return model(**batch)
    set_active(model, name)
    return model(**batch)


def row(batch: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    return {key: value[i : i + 1] for key, value in batch.items()}


def gradients(handles: dict[str, Attached]) -> dict[str, Tensor]:
    found = {}
    for name, handle in handles.items():
        for key, parameter in handle.module.named_parameters():
            if parameter.grad is not None:
                found[f"{name}.{key}"] = parameter.grad.clone()
            parameter.grad = None
    return found


def check(
    model: PreTrainedModel, handles: dict[str, Attached], names: list[str | None], batch: dict[str, Tensor]
) -> None:
    weight = torch.randn(model(**row(batch, 0))[0].shape[1:], generator=torch.Generator().manual_seed(9)).double()
    apart = []
    for i, name in enumerate(names):
        out = alone(model, handles, name, row(batch, i))[0]
        apart.append(out.detach())
        if out.requires_grad:
            (out * weight).sum().backward()
    expected = gradients(handles)
    with per_sample(model, names):
        mixed = model(**batch)[0]
    (mixed * weight).sum().backward()
    found = gradients(handles)
    torch.testing.assert_close(mixed.detach(), torch.cat(apart), rtol=1e-8, atol=1e-9)
    assert found
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")


PAIRS = [
    ("lora", "houlsby"),
    ("lora", "dora"),
    ("bitfit", "layernorm"),
    ("prefix", "lora"),
    ("ia3", "tiny_attention"),
    ("compacter", "oft"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "t5", "bart", "vit", "phi3", "gpt_neox"])
def test_each_sample_is_as_it_is_alone(family: str, pair: tuple[str, str]) -> None:
    model = build(family).double()
    handles = trained(model, a=pair[0], b=pair[1])
    names = ["b", None, "a", "b", "a"]
    check(model, handles, names, inputs(model, rows=5))


ALL = [each.name for each in techniques() if each.insert and each.tune == "none"]


@pytest.mark.parametrize("name", ALL)
def test_every_technique_is_chosen_per_sample(name: str) -> None:
    model = build("llama").double()
    handles = trained(model, a=name, b="lora")
    check(model, handles, ["a", None, "b", "a"], inputs(model, rows=4))


@pytest.mark.parametrize(
    ("family", "head", "slot"),
    [
        ("llama", None, "embedding.tokens"),
        ("vit", None, "embedding.patches"),
        ("llama", "CausalLM", "head"),
        ("gpt2", None, "attention.key"),
    ],
)
def test_tables_patches_heads_and_slices_are_chosen_per_sample(family: str, head: str | None, slot: str) -> None:
    model = build(family, head, tie_word_embeddings=False).double()
    handles = {}
    for i, (name, technique) in enumerate((("a", "lora"), ("b", "dora"))):
        handles[name] = attach(model, load(technique, r=2).moved(slot), name, dtype=torch.double)
        generator = torch.Generator().manual_seed(i)
        with torch.no_grad():
            for parameter in handles[name].parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    check(model, handles, ["b", None, "a", "b"], inputs(model, rows=4))


LENGTHENING = {
    "a": ("prompt", {"tokens": 3}),
    "b": ("prompt", {"tokens": 5}),
    "c": "lora",
    "d": ("prefix", {"tokens": 2}),
    "e": "tiny_attention",
}
NAMES = ["b", None, "a", "c", "d", "b", "e"]


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "t5", "gpt_neox", "phi3"])
def test_samples_that_grow_by_different_lengths_are_in_one_batch(family: str) -> None:
    model = build(family).double()
    check(model, trained(model, **LENGTHENING), NAMES, inputs(model, rows=7))


@pytest.mark.parametrize("config", [RobertaConfig(**TEXT, **WIDE), OPTConfig(**TEXT, **OPT)], ids=["roberta", "opt"])
def test_positions_are_those_of_each_sample(config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval().double()
    check(model, trained(model, **LENGTHENING, f="houlsby"), [*NAMES, "f"], inputs(model, rows=8, length=6))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_what_is_padded_stays_hidden(family: str, side: str) -> None:
    """The text of a sample gives what it gives alone, without padding."""
    if (family, side) == ("bert", "left"):
        return  # its positions are those of the padded text, alone too
    model = build(family).double()
    handles = trained(model, **LENGTHENING)
    batch = inputs(model, rows=7)
    lengths = [7, 4, 5, 7, 3, 6, 5]
    mask = torch.stack(
        [(torch.arange(7) < n) if side == "right" else (torch.arange(7) >= 7 - n) for n in lengths]
    ).long()
    more = {} if family == "bert" else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with torch.no_grad(), per_sample(model, NAMES):
        mixed = model(**batch, attention_mask=mask, **more)[0]
    for i, name in enumerate(NAMES):
        seen = mask[i].bool()
        with torch.no_grad():
            out = alone(model, handles, name, {"input_ids": batch["input_ids"][i : i + 1, seen]})[0]
        torch.testing.assert_close(mixed[i : i + 1, seen], out, rtol=1e-8, atol=1e-9)


GENERATION: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "several": {"num_beams": 4, "num_return_sequences": 2},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("how", GENERATION)
@pytest.mark.parametrize(("family", "head"), [("llama", "CausalLM"), ("gpt2", "CausalLM"), ("t5", "Seq2SeqLM")])
def test_every_sample_generates_what_it_does_alone(family: str, head: str, how: str) -> None:
    model = build(family, head).double()
    handles = trained(model, **LENGTHENING)
    model.generation_config.eos_token_id = None
    batch = {"input_ids": inputs(model, rows=7)["input_ids"]}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    given = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, **GENERATION[how]}
    with per_sample(model, NAMES):
        mixed = model.generate(**batch, **given)
    count = given.get("num_return_sequences", 1)
    found = []
    for i, name in enumerate(NAMES):
        if name is None:
            with handles["a"].disabled():
                found.append(model.generate(**row(batch, i), **given))
        else:
            set_active(model, name)
            found.append(model.generate(**row(batch, i), **given))
    assert torch.equal(mixed, torch.cat(found))
    assert len({tuple(each[-6:].tolist()) for each in mixed[::count]}) > 3
    assert "generate" not in vars(model)


def test_a_static_cache_serves_a_mixed_batch() -> None:
    model = build("llama", "CausalLM").double()
    handles = trained(model, a="lora", b="houlsby", c=("prefix", {"tokens": 3}))
    model.generation_config.eos_token_id = None
    ids = inputs(model, rows=4)["input_ids"]
    given = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with per_sample(model, ["a", None, "b", "c"]):
        dynamic = model.generate(ids, **given)
        static = model.generate(ids, cache_implementation="static", **given)
    assert torch.equal(dynamic, static)
    with handles["a"].disabled():
        assert torch.equal(model.generate(ids[1:2], **given), static[1:2])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_know_the_samples_in_the_backward_pass(reentrant: bool) -> None:
    model = build("llama", "CausalLM").double()
    handles = trained(model, a="lora", b="houlsby", c=("prompt", {"tokens": 3}))
    names = ["a", "b", None, "c"]
    batch = inputs(model, rows=4)
    found = []
    for checkpoints in (False, True):
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        with per_sample(model, names):
            loss = model(**batch, use_cache=False).logits.square().sum()
        loss.backward()
        found.append(gradients(handles))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-8, atol=1e-9)


def test_a_technique_computes_for_its_own_samples_only() -> None:
    model = build("llama").double()
    handles = trained(model, a="lora", b="houlsby")
    seen: dict[str, set[int]] = {"a": set(), "b": set()}
    for name, handle in handles.items():
        for runs in handle.module.runs.values():
            for run in (each for one in runs for each in (one, one.alone) if each):
                run.forward.register_forward_pre_hook(lambda _, given, name=name: seen[name].add(given[0].shape[0]))
    with per_sample(model, ["a", "b", "b", None]):
        model(**inputs(model, rows=4))
    assert seen == {"a": {1}, "b": {2}}


def test_what_is_merged_does_not_act_on_other_samples() -> None:
    model = build("llama").double()
    handles = trained(model, a="lora", b="ia3")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = inputs(model, rows=3)
    with torch.no_grad():
        expected = torch.cat([alone(model, handles, name, row(batch, i))[0] for i, name in enumerate(["a", "b", None])])
        set_active(model, "a")
        handles["a"].merge()
        merged = model(**batch)[0]
        with per_sample(model, ["a", "b", None]):
            torch.testing.assert_close(model(**batch)[0], expected)
        assert torch.equal(model(**batch)[0], merged)
    handles["a"].unmerge()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_chosen_is_refused_and_nothing_changes() -> None:
    model = build("llama").double()
    handles = trained(model, a="lora", b="houlsby")
    full = attach(model, load("full"), "c")
    batch = inputs(model, rows=3)
    active = full.modules.active
    for names, code in (
        (["a", "x"], "detached"),
        ([], "samples"),
        ("a", "samples"),
        (["a", "c"], "samples-tuned"),
    ):
        with pytest.raises(PeftrefError, match=rf"\[{code}\]"), per_sample(model, names):  # type: ignore[arg-type]  # one is none
            pass
    with per_sample(model, ["a", "b"]):
        with pytest.raises(PeftrefError, match=r"\[samples\]"):
            model(**batch)
        for change in (
            handles["a"].detach,
            handles["a"].merge,
            lambda: set_active(model, "a"),
            lambda: attach(model, load("ia3"), "d"),
        ):
            with pytest.raises(PeftrefError, match="samples-chosen"):
                change()
    with pytest.raises(ZeroDivisionError), per_sample(model, ["a", "b"]):
        raise ZeroDivisionError
    assert full.modules.active == active
    assert full.modules.samples is None


@pytest.mark.parametrize(
    ("family", "names", "fits"),
    [("vit", ["a", None], False), ("vit", ["a", "b"], True), ("bart", ["a", "c"], False), ("bart", ["a", "b"], True)],
)
def test_where_samples_cannot_be_filled_up_it_is_told(family: str, names: list[str | None], fits: bool) -> None:
    model = build(family).double()
    handles = trained(model, a=("prompt", {"tokens": 3}), b=("prompt", {"tokens": 3}), c=("prompt", {"tokens": 4}))
    if fits:
        check(model, handles, names, inputs(model))
        return
    with pytest.raises(PeftrefError, match="samples-length"), per_sample(model, names):
        model(**inputs(model))


def test_disabling_ends_whatever_happens_inside() -> None:
    model = build("llama").double()
    handles = trained(model, a="lora", b="full")
    batch = inputs(model)
    for name in "ab":
        set_active(model, name)
        acting = model(**batch)[0].detach()
        model(**batch)[0].square().sum().backward()
        before = {id(each): each.grad.clone() for each in handles[name].parameters() if each.grad is not None}
        with handles["a"].disabled(), handles["b"].disabled():
            base = model(**batch)[0].detach()
        with handles["a"].disabled():
            with pytest.raises(ZeroDivisionError), handles["b"].disabled():
                raise ZeroDivisionError
            assert torch.equal(model(**batch)[0], base)
        assert torch.equal(model(**batch)[0], acting)
        assert (acting - base).abs().max() > 1e-3
        after = {id(each): each.grad for each in handles[name].parameters() if each.grad is not None}
        assert after.keys() == before.keys()
        assert all(torch.equal(value, before[key]) for key, value in after.items())
