"""Modules in the ways in which hosts are run: padding, generation with a cache, half precision, and where gradients stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from peftref.design.load import load, read
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from tests.hosts.families import build, inputs
from tests.modules.test_attach import MODULES, SMALL

torch.set_num_threads(1)
CAUSAL = ("llama", "gpt2", "gpt_neox", "phi3")


def attached(model: PreTrainedModel, name: str, **given: int) -> Attached:
    """A technique whose leaves are no longer at their init. given: batch and length to choose the forms for."""
    found = attach(model, load(name, **SMALL.get(name, {})), seed=1, **given)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return found


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("family", [*CAUSAL, "bert"])
def test_a_padded_row_gives_what_it_gives_alone(family: str, name: str) -> None:
    model = build(family)
    attached(model, name)
    ids = inputs(model)["input_ids"]
    right = torch.ones_like(ids)
    right[1, 5:] = 0
    with torch.no_grad():
        alone = model(input_ids=ids[1:, :5])[0]
        together = model(input_ids=ids, attention_mask=right)[0][1:, :5]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_generation_with_a_cache_gives_what_it_gives_without(family: str, name: str) -> None:
    model = build(family, "Seq2SeqLM" if family == "t5" else "CausalLM")
    attached(model, name)
    ids = inputs(model)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    options = {"attention_mask": mask, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    for beams in (1, 3):
        slow = model.generate(ids, use_cache=False, num_beams=beams, **options)
        assert torch.equal(model.generate(ids, use_cache=True, num_beams=beams, **options), slow)
    assert slow.shape[1] == 5 + (1 if family == "t5" else ids.shape[1])


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("name", ["prompt", "prefix", "tiny_attention", "lora"])
def test_left_padding_changes_no_generated_token(family: str, name: str) -> None:
    model = build(family, "CausalLM")
    attached(model, name)
    ids = inputs(model)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    padded = model.generate(ids, attention_mask=mask, **options)
    alone = model.generate(ids[1:, 2:], **options)
    assert torch.equal(padded[1, 7:], alone[0, 5:])


@pytest.mark.parametrize("name", MODULES)
def test_half_precision_hosts_get_modules_that_run_and_learn(name: str) -> None:
    model = build("llama").to(torch.bfloat16)
    found = attached(model, name)
    out = model(**inputs(model))[0]
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in found.parameters())
    exact = build("llama")
    attached(exact, name)
    torch.testing.assert_close(out.float(), exact(**inputs(exact))[0], rtol=0.1, atol=0.1)


def test_modules_in_single_precision_on_a_host_in_half() -> None:
    model = build("llama").to(torch.bfloat16)
    found = attached(model, "lora")
    found.module.float()
    assert model(**inputs(model))[0].dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in found.parameters())


def test_autocast_runs_a_step() -> None:
    model = build("llama")
    found = attached(model, "houlsby")
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs(model))[0].float().square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


@pytest.mark.parametrize("name", ["lora", "ia3", "houlsby", "prefix"])
def test_back_propagation_stops_below_the_lowest_site(name: str) -> None:
    text = load(name, **SMALL.get(name, {})).to_yaml().replace("    equation:", "    layers: {last: 1}\n    equation:")
    model = build("llama")
    found = attach(model, read(text))
    assert {copy.sites[0].layer for copy in found.module.copies} == {1}
    seen: list[bool] = []
    for key, module in model.named_modules():
        if key == "layers.0":
            module.register_forward_hook(lambda _m, _a, out: seen.append(out.requires_grad))
    model(**inputs(model))[0].sum().backward()
    assert seen == [False]
    assert all(parameter.grad is not None for parameter in found.parameters())


def test_a_baseline_trains_the_host_itself_and_gives_it_back() -> None:
    model = build("bert", "SequenceClassification")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    head = attach(model, load("head"), "head")
    assert list(head.parameters()) == []
    head.detach()
    full = attach(model, load("full"))
    backbone = sum(parameter.numel() for parameter in model.base_model.parameters())
    assert sum(parameter.numel() for parameter in full.parameters()) == backbone
    model(**inputs(model))[0].sum().backward()
    with torch.no_grad():
        for parameter in full.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    changed = model(**inputs(model))[0]
    full.disable()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    full.enable()
    assert torch.equal(model(**inputs(model))[0], changed)
    full.detach()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_parallel_adapter_reads_what_entered_its_sublayer() -> None:
    """h' = h + U @ relu(D @ x) at ffn, computed by hand from what the feed-forward of each layer was given."""
    leaves = "{D: {shape: [3, d_model], init: {normal: 0.5}}, U: {shape: [d_model, 3], init: {normal: 0.5}}}"
    text = f"{{name: mine, title: Mine, insert: [{{at: ffn, leaves: {leaves}, equation: h' = h + U @ relu(D @ x)}}]}}"
    for family in ("llama", "bert"):
        model = build(family)
        found = attach(model, read(text))
        site = next(site for site in found.module.host.sites if site.name.endswith(".1.ffn"))
        entered: list[torch.Tensor] = []
        left: list[torch.Tensor] = []
        model.get_submodule(site.ports["x"].path).register_forward_pre_hook(
            lambda _m, args, to=entered: to.append(args[0])
        )
        down = site.name.replace("ffn", "ffn.down")
        place = model.get_submodule(next(each.path for each in found.module.host.sites if each.name == down))
        place.register_forward_hook(lambda _m, _a, result, to=left: to.append(result))
        out: list[torch.Tensor] = []
        model.get_submodule(site.path).register_forward_hook(lambda _m, _a, result, to=out: to.append(result))
        model(**inputs(model))
        one, other = (found.module.leaf(f"{site.name}.{leaf}") for leaf in "DU")
        own = torch.relu(entered[0] @ one.T) @ other.T
        torch.testing.assert_close(out[0], left[0] + own)
        assert own.abs().max() > 1e-3


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A few rows with labels."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(3, 99, (6,), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones(6, dtype=torch.long), "labels": ids[0] % 2}


@pytest.mark.parametrize("name", ["lora", "prompt"])
def test_the_trainer_trains_and_saves_it(name: str, tmp_path: Path) -> None:
    model = build("bert", "SequenceClassification")
    found = attached(model, name)
    before = [parameter.clone() for parameter in found.parameters()]
    frozen = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("peftref.")}
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        report_to="none",
        use_cpu=True,
        save_steps=2,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    assert any(not torch.equal(one, other) for one, other in zip(before, found.parameters(), strict=True))
    assert all(torch.equal(value, frozen[key]) for key, value in model.state_dict().items() if key in frozen)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_an_open_gate_leaves_a_prefix_as_it_is(family: str) -> None:
    """A gate per sample that reads what enters attention: open, the prefix stands there; shut, its keys and values are 0."""
    model = build(family).double()
    batch = inputs(model)
    found = attach(model, load("unipelt", tokens=3, bottleneck=4, r=2))
    found.module.double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
        rows = {copy.name: copy for copy in found.module.copies if copy.leaf.name in ("Pk", "Pv")}
        for name in rows:
            found.module.leaf(name).normal_(generator=torch.Generator().manual_seed(len(name)))
    plain = attach(model, load("prefix", tokens=3, counted=False), "plain")
    plain.module.double()
    with torch.no_grad():
        for name in rows:
            plain.module.leaf(name).copy_(found.module.leaf(name))
    outputs = {}
    for height in (-50.0, 50.0):
        with torch.no_grad():
            for copy in found.module.copies:
                if copy.leaf.name == "ap":
                    found.module.leaf(copy.name).fill_(height)
        set_active(model, "default")
        outputs[height] = model(**batch)[0]
    set_active(model, "plain")
    torch.testing.assert_close(outputs[50.0], model(**batch)[0], rtol=1e-9, atol=1e-10)
    assert not torch.allclose(outputs[50.0], outputs[-50.0])
