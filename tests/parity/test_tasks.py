"""Techniques that know the task of each sample, beside peft's."""

from __future__ import annotations

import pytest
import torch
from peft import MultitaskPromptTuningConfig, PolyConfig, TaskType, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.modules.leaves import put_leaves

IDS = torch.arange(3, 27).view(3, 8)
TASKS = torch.tensor([1, 0, 2])


def host() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return LlamaForCausalLM(config).double().eval()


def randomised(model: torch.nn.Module, std: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(std * torch.randn(parameter.shape, generator=generator).to(parameter))


@pytest.mark.parametrize("splits", [1, 2])
def test_poly_is_peft_s(splits: int) -> None:
    config = PolyConfig(
        task_type=TaskType.CAUSAL_LM, r=3, n_tasks=3, n_skills=2, n_splits=splits, target_modules=["q_proj", "v_proj"]
    )
    theirs = get_peft_model(host(), config, autocast_adapter_dtype=False).double().eval()
    randomised(theirs)
    model = host()
    ours = attach(model, load("poly", r=3, tasks=3, skills=2, splits=splits))
    values = {}
    for copy in ours.module.copies:
        layer = theirs.base_model.model.get_submodule(copy.sites[0].path)
        of = {"A": layer.poly_lora_A, "B": layer.poly_lora_B}
        value = layer.poly_router["default"].module_logits if copy.leaf.name == "Z" else of[copy.leaf.name]["default"]
        values[copy.name] = value.detach().reshape(copy.shape)
    ours.module.double()
    put_leaves(ours, values)
    model.eval()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    with ours.tasks(TASKS):
        out = model(input_ids=IDS).logits
    wanted = theirs(input_ids=IDS, task_ids=TASKS).logits
    torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-10)
    out.square().sum().backward()
    wanted.square().sum().backward()
    for copy in ours.module.copies:
        if copy.leaf.name == "B":
            layer = theirs.base_model.model.get_submodule(copy.sites[0].path)
            theirs_grad = layer.poly_lora_B["default"].grad
            apart = (ours.module.leaf(copy.name).grad - theirs_grad).abs().max()
            assert apart <= 1e-7 * theirs_grad.abs().max()  # the norms of the host compute in single precision


def test_multitask_prompt_is_peft_s() -> None:
    config = MultitaskPromptTuningConfig(
        task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4, num_tasks=3, num_ranks=2, token_dim=32, num_layers=2
    )
    theirs = get_peft_model(host(), config).double().eval()
    encoder = theirs.prompt_encoder["default"]
    model = host()
    ours = attach(model, load("multitask_prompt", tokens=4, tasks=3, rank=2))
    ours.module.double()
    names = {"P": encoder.embedding.weight, "U": encoder.prefix_task_cols, "V": encoder.prefix_task_rows}
    put_leaves(ours, {copy.name: names[copy.leaf.name].detach() for copy in ours.module.copies})
    mask = torch.ones_like(IDS)
    mask[0, :3] = 0
    with ours.tasks(TASKS):
        out = model(input_ids=IDS, attention_mask=mask).logits
    wanted = theirs(input_ids=IDS, attention_mask=mask, task_ids=TASKS).logits[:, 4:]
    torch.testing.assert_close(out[1:], wanted[1:], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(out[0, 3:], wanted[0, 3:], rtol=1e-9, atol=1e-10)


def test_tasks_are_those_of_the_call_and_no_longer() -> None:
    model = host()
    ours = attach(model, load("poly", tasks=3))
    randomised(model)
    alone = model(input_ids=IDS).logits
    with ours.tasks(torch.zeros(3, dtype=torch.long)):
        torch.testing.assert_close(model(input_ids=IDS).logits, alone)
    with ours.tasks(TASKS):
        told = model(input_ids=IDS).logits
        for row, task in enumerate(TASKS):
            with ours.tasks(task[None]):
                torch.testing.assert_close(model(input_ids=IDS[row : row + 1]).logits[0], told[row])
    assert not torch.allclose(told, alone)
    torch.testing.assert_close(model(input_ids=IDS).logits, alone)


@pytest.mark.parametrize("numbers", [torch.zeros(2, 1, dtype=torch.long), torch.zeros(2), torch.tensor([-1, 0])])
def test_what_are_no_tasks(numbers: torch.Tensor) -> None:
    ours = attach(host(), load("poly"))
    with pytest.raises(PeftrefError, match="tasks"), ours.tasks(numbers):
        pass


def test_another_batch_than_the_tasks_told_of() -> None:
    model = host()
    ours = attach(model, load("poly", tasks=3))
    with pytest.raises(PeftrefError) as caught, ours.tasks(torch.tensor([0, 1])):
        model(input_ids=IDS)
    assert caught.value.problems[0].code == "tasks"
