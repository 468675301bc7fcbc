"""What peft puts in front of a host's input or of its keys: the same counts, outputs and gradients, and where peft is wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as tf
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

from benchmarks.parity import Pair, beside, of_tokens, parity, told
from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.front import as_there
from peftref.exchange.peft.standing import on_model
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.modules.leaves import put_leaves
from tests.hosts.families import build, inputs
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing", "ignore:Position ids are not supported")

LLAMA, GPT2, BART, T5 = (
    ("llama", "CausalLM"),
    ("gpt2", "CausalLM"),
    ("bart", "Seq2SeqLM"),
    ("t5", "Seq2SeqLM"),
)
BERT, LABELS = ("bert", None), ("bert", "SequenceClassification")
NAMES = [
    technique.name
    for technique in techniques()
    if exchange.LIBRARY in technique.peers and exchange.in_front(technique, resolve("bert-base"))
]
WHERE: dict[str, tuple[tuple[str, str | None], ...]] = {
    "prompt": (LLAMA, GPT2, BERT, LABELS, T5, BART),
    "p_tuning": (LLAMA, GPT2, BERT, LABELS, T5, BART),
    "prefix": (LLAMA, GPT2, BERT, LABELS),
    "prefix_mlp": (GPT2, BERT, LABELS),
    "multitask_prompt": (LLAMA, GPT2, LABELS),
    "cpt": (LLAMA, GPT2),
    "cartridge": (LLAMA, GPT2, BERT, LABELS),
    "adaption_prompt": (LLAMA,),
}
"""The hosts on which peft has each, and computes what it should."""
CASES = [(name, *host) for name, hosts in WHERE.items() for host in hosts]
SINGLE = {"cpt": 1e-6, "adaption_prompt": 1e-5}
"""What peft computes in single precision: lengths of changes, and a softmax."""


def padded(model: Any, rows: int = 2) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A batch of which the second sample is shorter, and which of its outputs count."""
    batch = inputs(model, rows)
    mask = torch.ones_like(batch["input_ids"])
    if resolve(model).stacks[0].causal:
        mask[1, :2] = 0
    else:
        mask[1, -2:] = 0
    batch["attention_mask"] = mask
    return batch, mask.bool()


def backward(model: Any, batch: dict[str, torch.Tensor], valid: torch.Tensor, like: torch.Tensor | None) -> Any:
    """The outputs that count, after a backward pass from them."""
    out = model(**batch)[0]
    out = out if like is None else of_tokens(out, like)
    kept = out[valid] if out.shape[:2] == valid.shape else out
    (kept * torch.linspace(0.1, 1, kept.numel(), dtype=kept.dtype).view_as(kept)).sum().backward()
    return out.detach(), kept.detach()


def test_every_technique_in_front_is_held_against_peft() -> None:
    assert set(NAMES) == set(WHERE)


@pytest.mark.parametrize(("name", "family", "head"), CASES)
def test_counts_outputs_and_gradients(name: str, family: str, head: str | None) -> None:
    model = build(family, head)
    both = beside(model, small(load(name)))
    ours, theirs = both.ours, both.theirs
    trained = [each for key, each in theirs.named_parameters() if each.requires_grad and "modules_to_save" not in key]
    assert sum(each.numel() for each in ours.parameters()) == sum(each.numel() for each in trained)
    batch, valid = padded(ours.model)
    with torch.no_grad():
        ours.disable()
        before = model(**batch)[0]
        ours.enable()
    out, here = backward(model, batch, valid, None)
    _, there = backward(theirs, {**batch, **told(ours.technique, batch)}, valid, out)
    exact = SINGLE.get(name, 1e-9)
    torch.testing.assert_close(here, there, rtol=exact, atol=exact)
    if before.shape == out.shape:
        assert (out - before).abs().max() > 1e-5
    found = both.gradients()
    for copied in ours.module.copies:
        if copied.leaf.trainable:
            own, other = ours.module.leaf(copied.name).grad, found[copied.name]
            assert own is not None
            largest = max(1e-6, other.abs().max().item())
            torch.testing.assert_close(own, other.reshape(own.shape), rtol=100 * exact, atol=100 * exact * largest)


@pytest.mark.parametrize(("name", "family", "head"), CASES)
def test_the_distance_is_computed(name: str, family: str, head: str | None) -> None:
    model = build(family, head)
    found = parity(beside(model, small(load(name))), inputs(model))
    assert max(found.output, found.gradient) < SINGLE.get(name, 1e-9)


def generated(model: Any, ids: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, pad_token_id=0
    )
    return made


@pytest.mark.parametrize("name", ["prompt", "prefix", "cartridge"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_is_generated(family: str, name: str) -> None:
    """With a cache: positions are counted on from what stands in front, in every step."""
    model = build(family, "CausalLM")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    both = beside(model, small(load(name)))
    ids = inputs(model)["input_ids"]
    here = generated(model, ids)[:, -5:]
    assert here.unique().numel() > 2
    torch.testing.assert_close(here, generated(both.theirs, ids)[:, -5:])


def there(base: Any, kind: str, **fields: Any) -> Any:
    """Peft's own module of a type on a copy of a host, in double precision."""
    made = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**fields)
    return get_peft_model(copy.deepcopy(base), made, autocast_adapter_dtype=False).double().eval()


def refused(name: str, model: Any) -> str:
    """Why a module is not exchanged on a host."""
    with pytest.raises(PeftrefError) as caught:
        exchange.config(as_there(load(name), resolve(model), model), resolve(model))
    return caught.value.problems[0].render()


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_layers_of_a_decoder_share_a_prefix(family: str) -> None:
    """Peft takes four tensors for each layer of a decoder from a row that has two: every other pair is never read."""
    base = build(family, "Seq2SeqLM").double()
    assert "half of it is never read" in refused("prefix", base)
    theirs = there(base, "PREFIX_TUNING", num_virtual_tokens=3, task_type="SEQ_2_SEQ_LM")
    prompt = theirs.prompt_encoder["default"].embedding.weight
    pairs = prompt.detach().view(3, 2, 2, 4, 8)
    batch = inputs(base)
    whole = theirs(**batch)[0]
    whole.square().sum().backward()
    used = prompt.grad.view(3, 2, 2, 4, 8).abs().amax((0, 2, 3, 4))
    assert used[0] > 1e-6
    assert used[1] == 0
    ours = attach(base, load("prefix", tokens=3).moved("decoder.self_attention.core"))
    ours.module.double()
    layers = range(2)
    put_leaves(
        ours,
        {
            f"decoder.{layer}.attention.core.{leaf}": pairs[:, 2 * layer % 2, number]
            for layer in layers
            for number, leaf in enumerate(("Pk", "Pv"))
        },
    )
    apart = (base(**batch)[0] - whole).abs().max()
    if family == "bart":
        assert apart < 1e-9
    else:  # and the distances to the prefix are learned ones of T5, where ours are none
        assert apart > 1e-4


def test_rows_of_gpt2_are_added_behind_the_output_projection() -> None:
    base = build("gpt2", "CausalLM").double()
    assert "behind the output projection" in refused("adaption_prompt", base)
    theirs = there(base, "ADAPTION_PROMPT", adapter_len=3, adapter_layers=1, task_type="CAUSAL_LM")
    ours = attach(base, load("adaption_prompt", tokens=3, n=1))
    ours.module.double()
    layer = theirs.base_model.model.transformer.h[1].attn
    torch.manual_seed(3)
    with torch.no_grad():
        layer.adaption_gate.fill_(0.7)
    here = {"P": layer.adaption_prompt[0].detach(), "g": layer.adaption_gate[0].detach()}
    put_leaves(ours, {copied.name: here[copied.leaf.name] for copied in ours.module.copies})
    module, x = base.transformer.h[1].attn, torch.randn(2, 5, 32, dtype=torch.double)
    with torch.no_grad():
        own, other = module(hidden_states=x)[0], layer(x)[0]
        ours.disable()
        alone = module(hidden_states=x)[0]
    torch.testing.assert_close(own - alone, (other - alone) @ module.c_proj.weight, rtol=1e-5, atol=1e-6)


def test_the_bias_of_the_output_projection_is_added_twice() -> None:
    base = build("llama", "CausalLM", attention_bias=True).double()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    assert "counts attention.output.b twice" in refused("adaption_prompt", base)
    theirs = there(base, "ADAPTION_PROMPT", adapter_len=3, adapter_layers=1, task_type="CAUSAL_LM")
    ours = attach(base, load("adaption_prompt", tokens=3, n=1))
    ours.module.double()
    layer = theirs.base_model.model.model.layers[1].self_attn
    with torch.no_grad():
        layer.adaption_gate.fill_(0.7)
    values = {"P": layer.adaption_prompt[0].detach(), "g": layer.adaption_gate[0].detach()}
    put_leaves(ours, {copied.name: values[copied.leaf.name] for copied in ours.module.copies})
    found: dict[str, torch.Tensor] = {}

    def keep(key: str) -> Any:
        return lambda module, args, out: found.__setitem__(key, out[0].detach())

    base.model.layers[1].self_attn.register_forward_hook(keep("here"))
    layer.register_forward_hook(keep("there"))
    batch = inputs(base)
    base(**batch)
    theirs(**batch)
    bias = layer.model.o_proj.bias.detach()
    torch.testing.assert_close(found["there"], found["here"] + bias, rtol=1e-5, atol=1e-6)


def test_a_head_of_peft_reads_the_first_row_of_the_prompt() -> None:
    """BERT's pooler reads the first place, which is the prompt's: ours reads the user's token unless it is told otherwise."""
    model = build("bert", "SequenceClassification")
    both = beside(model, small(load("prompt")))
    batch = inputs(model)
    assert both.ours.technique.settings["stays"] is True
    with torch.no_grad():
        theirs = both.theirs(**batch).logits
        torch.testing.assert_close(model(**batch).logits, theirs)
    leaf = both.ours.module.leaf("encoder.embedding.P").detach()
    both.ours.detach()
    taken = attach(model, small(load("prompt")))
    taken.module.double()
    put_leaves(taken, {"encoder.embedding.P": leaf})
    with torch.no_grad():
        rows = model.bert(**batch).last_hidden_state
        torch.testing.assert_close(model(**batch).logits, model.classifier(model.bert.pooler(rows)))
        assert (model(**batch).logits - theirs).abs().max() > 1e-3
    assert rows.shape[1] == batch["input_ids"].shape[1]


def test_peft_classifies_the_padding() -> None:
    """A decoder with a head for labels: given vectors in place of ids, it takes the last place, padding or not."""
    model = build("llama", "SequenceClassification")
    both = beside(model, small(load("prompt")))
    batch = inputs(model, rows=1)
    longer = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 3)),
        "attention_mask": torch.nn.functional.pad(torch.ones_like(batch["input_ids"]), (0, 3)),
    }
    with torch.no_grad():
        torch.testing.assert_close(model(**longer).logits, model(**batch).logits)
        torch.testing.assert_close(both.theirs(**batch).logits, model(**batch).logits)
        assert (both.theirs(**longer).logits - model(**batch).logits).abs().max() > 1e-4


def test_tasks_on_an_encoder_and_decoder_want_labels() -> None:
    """Peft forgets the decoder's input, and makes it from labels alone."""
    model = build("t5", "Seq2SeqLM")
    both = beside(model, small(load("multitask_prompt")))
    ids = inputs(model)["input_ids"]
    tasks = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
            both.theirs(input_ids=ids, decoder_input_ids=ids[:, :4], task_ids=tasks)
        wanted = both.theirs(input_ids=ids, labels=ids[:, :4].contiguous(), task_ids=tasks).logits
        torch.testing.assert_close(model(input_ids=ids, labels=ids[:, :4].contiguous()).logits, wanted)


def test_a_network_of_peft_is_as_wide_as_the_keys() -> None:
    model = build("llama", "CausalLM")
    theirs = there(model, "PREFIX_TUNING", num_virtual_tokens=3, prefix_projection=True, task_type="CAUSAL_LM")
    assert theirs.prompt_encoder["default"].embedding.weight.shape == (3, 16)
    ours = attach(model, load("prefix_mlp", tokens=3))
    assert ours.module.leaf("decoder.attention.core.P").shape == (32, 3)


def test_changes_of_known_tokens_are_kept_short() -> None:
    """CPT: within the given length the vectors are E0 + delta; beyond it peft shortens the parameter itself, ours what is read."""
    model = build("llama", "CausalLM")
    both: Pair = beside(model, load("cpt", tokens=3, epsilon=0.1))
    batch = inputs(model)
    delta = both.theirs.prompt_encoder["default"].delta_embedding.weight
    length = 0.1 * (32 / 2048) ** 0.5
    assert delta.detach().norm(dim=1).min() > 2 * length
    with torch.no_grad():
        here, wanted = model(**batch).logits, of_tokens(both.theirs(**batch).logits, model(**batch).logits)
    torch.testing.assert_close(here, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        delta.detach().norm(dim=1), torch.full((3,), length, dtype=torch.double), rtol=1e-6, atol=0
    )
    own = both.ours.module.leaf("decoder.embedding.delta").detach()
    assert own.norm(dim=1).min() > 2 * length


def test_it_stands_on_the_model() -> None:
    for name in NAMES:
        host = resolve(build("llama"))
        assert all(on_model(site) for site in host.select(load(name).insert[0].at))


def test_a_window_of_peft_forgets_the_prefix() -> None:
    """Where a host attends through a sliding window, peft's prefix is a past that the window leaves behind; ours is seen by all."""
    torch.manual_seed(0)
    config = tf.MistralConfig(
        vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=6,
    )  # fmt: skip
    model: Any = tf.MistralForCausalLM(config).eval()
    both = beside(model, small(load("prefix")))
    ids = torch.randint(3, 99, (2, 12))
    with torch.no_grad():
        here, wanted = model(input_ids=ids).logits, both.theirs(input_ids=ids).logits
        both.ours.disable()
        alone = model(input_ids=ids).logits
    torch.testing.assert_close(here[:, :3], wanted[:, :3])
    torch.testing.assert_close(wanted[:, 6:], alone[:, 6:])
    assert (here[:, 6:] - alone[:, 6:]).abs().max() > 1e-4
