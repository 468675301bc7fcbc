"""Checkpoints of what peft puts in front: written, loaded there, read here; what is computed once, and all that does not fit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file, save_file

from benchmarks.parity import of_tokens, told
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.exchange.peft.front import as_there
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.modules.container import CONTAINER
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs
from tests.parity.test_front import BART, BERT, CASES, GPT2, LABELS, LLAMA, T5
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing", "ignore:for MLP, the argument")
BOUND = 1e-5
KEPT_AS = {"prefix_mlp": "prefix", "p_tuning": "prompt", "cpt": "prompt"}
"""What peft keeps as what its network makes."""


def moved(parameters: Any) -> None:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))


def output(model: Any, like: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(model), **more)[0]
    return found if like is None else of_tokens(found, like)


@pytest.mark.parametrize(("name", "family", "head"), [*CASES, ("prefix_mlp", *LLAMA)])
def test_both_ways(name: str, family: str, head: str | None, tmp_path: Path) -> None:
    model = build(family, head)
    plain = copy.deepcopy(model)
    attached = attach(model, as_there(small(load(name)), resolve(model), model))
    moved(attached.parameters())
    here = output(model)
    folder = write_peft(attached, tmp_path / "there")
    torch.testing.assert_close(output(model), here, rtol=0, atol=0)
    theirs = PeftModel.from_pretrained(copy.deepcopy(plain), str(folder)).eval()
    wanted = output(theirs, here, **told(attached.technique, inputs(model)))
    torch.testing.assert_close(wanted, here, rtol=BOUND, atol=BOUND)
    attached.detach()
    again = read_peft(folder, model)
    assert again.technique.name == KEPT_AS.get(name, name)
    torch.testing.assert_close(output(model), here, rtol=BOUND, atol=BOUND)
    saved = again.save(tmp_path / "own")
    again.detach()
    restore(model, saved)
    torch.testing.assert_close(output(model), here, rtol=BOUND, atol=BOUND)


FRONT: dict[str, Any] = {"num_virtual_tokens": 3}
THEIRS: list[tuple[str, dict[str, Any], tuple[tuple[str, str | None], ...]]] = [
    ("PROMPT_TUNING", {}, (LLAMA, GPT2, BERT, LABELS, T5, BART)),
    ("PROMPT_TUNING", {"prompt_tuning_init": "SAMPLE_VOCAB"}, (LLAMA,)),
    ("PROMPT_TUNING", {"num_transformer_submodules": 1}, (T5,)),
    ("P_TUNING", {}, (LLAMA, BERT, LABELS, T5)),
    ("P_TUNING", {"encoder_hidden_size": 7, "encoder_num_layers": 3}, (GPT2,)),
    ("P_TUNING", {"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 5}, (LLAMA, BERT, BART)),
    ("PREFIX_TUNING", {}, (LLAMA, GPT2, BERT, LABELS)),
    ("PREFIX_TUNING", {"init_weights": "zero"}, (LLAMA,)),
    ("PREFIX_TUNING", {"prefix_projection": True}, (LLAMA, BERT)),
    ("PREFIX_TUNING", {"prefix_projection": True, "encoder_hidden_size": 9}, (GPT2,)),
    ("MULTITASK_PROMPT_TUNING", {"num_tasks": 2, "num_ranks": 2}, (LLAMA, LABELS)),
    ("CARTRIDGE", {"num_frozen_tokens": 2}, (LLAMA, GPT2, BERT)),
    ("CPT", {"cpt_token_ids": [5, 6, 7], "cpt_tokens_type_mask": [1, 2, 4]}, (LLAMA, GPT2)),
    ("CPT", {"cpt_token_ids": [5, 6], "opt_weighted_loss_type": "decay"}, (LLAMA,)),
    ("ADAPTION_PROMPT", {"adapter_len": 3, "adapter_layers": 1}, (LLAMA,)),
]
TASKS = {"CausalLM": "CAUSAL_LM", "SequenceClassification": "SEQ_CLS", "Seq2SeqLM": "SEQ_2_SEQ_LM"}


def there(model: Any, kind: str, head: str | None, **fields: Any) -> Any:
    """A module that peft made on a copy of a host, moved away from where it began."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    more = {} if kind in ("ADAPTION_PROMPT", "CPT") else FRONT
    made = get_peft_model(
        copy.deepcopy(model), config(task_type=TASKS.get(head or "", "FEATURE_EXTRACTION"), **more, **fields)
    ).eval()
    moved(parameter for parameter in made.parameters() if parameter.requires_grad)
    return made


@pytest.mark.parametrize(
    ("kind", "fields", "family", "head"), [(kind, fields, *host) for kind, fields, hosts in THEIRS for host in hosts]
)
def test_what_peft_saves_is_read(
    kind: str, fields: dict[str, Any], family: str, head: str | None, tmp_path: Path
) -> None:
    model = build(family, head)
    theirs = there(model, kind, head, **fields)
    theirs.save_pretrained(str(tmp_path))
    plain = output(model)
    attached = read_peft(tmp_path, model)
    here = output(model)
    more = told(attached.technique, inputs(model))
    torch.testing.assert_close(here, output(theirs, here, **more), rtol=BOUND, atol=BOUND)
    assert (here - plain).abs().max() > 1e-5


def test_every_task_is_read(tmp_path: Path) -> None:
    model = build("llama", "CausalLM")
    theirs = there(model, "MULTITASK_PROMPT_TUNING", "CausalLM", num_tasks=3)
    theirs.save_pretrained(str(tmp_path))
    attached = read_peft(tmp_path, model)
    tasks = torch.tensor([2, 1])
    with attached.tasks(tasks):
        here = output(model)
    torch.testing.assert_close(here, output(theirs, here, task_ids=tasks), rtol=BOUND, atol=BOUND)


def test_a_head_comes_along(tmp_path: Path) -> None:
    model = build("bert", "SequenceClassification")
    there(model, "PROMPT_TUNING", "SequenceClassification").save_pretrained(str(tmp_path))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    read_peft(tmp_path, model)
    torch.testing.assert_close(model.classifier.weight.detach(), saved["base_model.classifier.weight"])
    assert model.classifier.weight.requires_grad


GONE = "(gone)"


def damaged(folder: Path, kind: str, fields: dict[str, Any], config: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """A host, and a checkpoint of peft for it with other fields and tensors (None takes one away)."""
    model = build("llama", "CausalLM")
    there(model, kind, "CausalLM", **fields).save_pretrained(str(folder))
    place = folder / "adapter_config.json"
    written = {**json.loads(place.read_text()), **config}
    place.write_text(json.dumps({key: value for key, value in written.items() if value != GONE}))
    found = load_file(folder / "adapter_model.safetensors") | tensors
    kept = {key: value for key, value in found.items() if value is not None}
    save_file(kept, folder / "adapter_model.safetensors")
    return model


@pytest.mark.parametrize(
    ("kind", "config", "tensors", "told_of"),
    [
        ("PROMPT_TUNING", {}, {"prompt_embeddings": torch.zeros(4, 32)}, ["prompt_embeddings is [4, 32]", "[3, 32]"]),
        ("PROMPT_TUNING", {}, {"prompt_embeddings": torch.zeros(6, 16)}, ["prompt_embeddings is [6, 16]"]),
        ("PROMPT_TUNING", {}, {"prompt_embeddings": torch.zeros(96)}, ["prompt_embeddings is [96]"]),
        ("PROMPT_TUNING", {}, {"prompt_embeddings": None}, ["the checkpoint has no prompt_embeddings"]),
        ("PROMPT_TUNING", {}, {"other": torch.zeros(2)}, ["nothing here is the checkpoint's other"]),
        ("PROMPT_TUNING", {"num_virtual_tokens": 5}, {}, ["prompt_embeddings is [3, 32]", "[5, 32]"]),
        ("PROMPT_TUNING", {"num_virtual_tokens": "x"}, {}, ["the setting tokens is a number"]),
        ("PROMPT_TUNING", {"num_virtual_tokens": 0}, {}, ["the setting tokens is a size"]),
        ("PROMPT_TUNING", {"num_virtual_tokens": GONE}, {}, ["the setting tokens is a number"]),
        ("MULTITASK_PROMPT_TUNING", {"num_virtual_tokens": GONE, "num_tasks": "x"}, {}, ["tokens is", "tasks is"]),
        ("PROMPT_TUNING", {"token_dim": 48}, {}, ["token_dim is 48 in the checkpoint, and 32 on this host"]),
        ("PROMPT_TUNING", {"num_transformer_submodules": 2}, {}, ["prompt_embeddings is [3, 32]", "[6, 32] on this host"]),
        ("PREFIX_TUNING", {"num_layers": 3, "token_dim": 32}, {}, ["num_layers is 3", "token_dim is 32"]),
        ("PREFIX_TUNING", {}, {"prompt_embeddings": torch.zeros(3, 96)}, ["prompt_embeddings is [3, 96]", "[3, 64]"]),
        ("PREFIX_TUNING", {"num_transformer_submodules": 2}, {}, ["num_transformer_submodules is 2", "and 1 on"]),
        ("P_TUNING", {}, {"prompt_embeddings": torch.zeros(4, 32)}, ["prompt_embeddings is [4, 32]"]),
        ("MULTITASK_PROMPT_TUNING", {"num_tasks": 4}, {}, ["prefix_task_cols is [1,", "prefix_task_rows is [1,"]),
        ("MULTITASK_PROMPT_TUNING", {}, {"prefix_task_rows": None}, ["the checkpoint has no prefix_task_rows"]),
        ("CARTRIDGE", {"num_frozen_tokens": 3}, {}, ["num_virtual_tokens is 3", "no whole number for tokens"]),
        ("CARTRIDGE", {"num_frozen_tokens": 0}, {}, ["the setting kept is a size"]),
        ("CARTRIDGE", {"num_virtual_tokens": None}, {}, ["num_virtual_tokens is None"]),
        ("CARTRIDGE", {}, {"prompt_embeddings": torch.zeros(4, 64)}, ["prompt_embeddings is [4, 64]"]),
        ("ADAPTION_PROMPT", {"adapter_layers": 2}, {}, ["the checkpoint has no base_model.model.model.layers.0"]),
        ("ADAPTION_PROMPT", {"adapter_len": 4}, {}, ["adaption_prompt is [1, 3, 32] in the checkpoint, and [4, 32]"]),
        ("ADAPTION_PROMPT", {"adapter_layers": 7}, {}, ["layer"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    kind: str, config: dict[str, Any], tensors: dict[str, Any], told_of: list[str], tmp_path: Path
) -> None:
    fields = {"adapter_len": 3, "adapter_layers": 1} if kind == "ADAPTION_PROMPT" else {}
    model = damaged(tmp_path, kind, fields, config, tensors)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(PeftrefError) as caught:
        read_peft(tmp_path, model)
    shown = "\n".join(problem.render() for problem in caught.value.problems)
    for text in told_of:
        assert text in shown, shown
    assert CONTAINER not in model._modules
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "settings", "host", "told_of"),
    [
        ("prefix", {"counted": False}, LLAMA, "peft has prefix with counted = True only"),
        ("prefix", {}, BART, "two layers of the decoder share a prefix"),
        ("prefix_mlp", {"f": "relu"}, GPT2, "peft has prefix_mlp with f = tanh only"),
        ("cartridge", {}, T5, "computes something else with CARTRIDGE"),
        ("prompt", {}, LABELS, "the head reads the first row of prompt"),
        ("multitask_prompt", {}, BERT, "FEATURE_EXTRACTION cannot be called with MULTITASK_PROMPT_TUNING"),
        ("cpt", {}, BERT, "CPTConfig only supports task_type = CAUSAL_LM"),
        ("adaption_prompt", {}, GPT2, "behind the output projection"),
        ("adaption_prompt", {}, T5, "Unsupported model type"),
    ],
)
def test_what_peft_cannot_have_is_not_written(
    name: str, settings: dict[str, Any], host: tuple[str, str | None], told_of: str, tmp_path: Path
) -> None:
    attached = attach(build(*host), small(load(name)).with_settings(**settings))
    with pytest.raises(PeftrefError) as caught:
        write_peft(attached, tmp_path / "there")
    assert told_of in caught.value.problems[0].render()
    assert not list(tmp_path.iterdir())


def test_another_stack_and_some_layers_are_not_written(tmp_path: Path) -> None:
    prompt = small(load("prompt")).moved("decoder.embedding")
    with pytest.raises(PeftrefError, match="peer-targets"):
        write_peft(attach(build("t5", "Seq2SeqLM"), prompt), tmp_path / "there")
    prefix = small(load("prefix"))
    first = prefix.model_copy(update={"insert": (prefix.insert[0].model_copy(update={"layers": _first()}),)})
    with pytest.raises(PeftrefError, match="peer-differs"):
        write_peft(attach(build("llama", "CausalLM"), first), tmp_path / "there")
    assert not list(tmp_path.iterdir())


def _first() -> Any:
    from peftref.design.layers import Layers

    return Layers("list", listed=(0,))


def test_what_is_read_is_not_read_on_another_family(tmp_path: Path) -> None:
    model = build("bart", "Seq2SeqLM")
    there(model, "PREFIX_TUNING", "Seq2SeqLM").save_pretrained(str(tmp_path))
    with pytest.raises(PeftrefError, match="half of it is never read"):
        read_peft(tmp_path, model)
    assert CONTAINER not in model._modules
