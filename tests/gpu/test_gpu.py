"""Modules on a GPU: the same numbers as on the CPU, in single and half precision, eager and compiled; skipped without one."""

from __future__ import annotations

import pytest
import torch

from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.study.memory import peak_bytes
from tests.hosts.families import build, inputs
from tests.modules.running.test_running import attached
from tests.modules.test_attach import MODULES, SMALL
from tests.modules.test_merge import MERGE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def on_gpu(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch on the GPU."""
    return {name: tensor.cuda() for name, tensor in batch.items()}


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
@pytest.mark.parametrize("name", MODULES)
def test_the_gpu_gives_what_the_cpu_gives(family: str, name: str) -> None:
    model = build(family)
    attached(model, name)
    batch = inputs(model)
    with torch.no_grad():
        expected = model(**batch)[0]
        got = model.cuda()(**on_gpu(batch))[0]
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_made_where_the_host_is(name: str) -> None:
    model = build("llama").to("cuda", torch.bfloat16)
    found = attach(model, load(name, **SMALL.get(name, {})))
    assert {(leaf.device.type, leaf.dtype) for leaf in found.parameters()} == {("cuda", torch.bfloat16)}
    model(**on_gpu(inputs(model)))[0].float().square().mean().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in found.parameters())


@pytest.mark.parametrize("name", ["lora", "ia3", "houlsby", "prefix", "prompt"])
def test_compiled_hosts_give_the_same(name: str) -> None:
    model = build("llama").cuda()
    attached(model, name)
    batch = on_gpu(inputs(model))
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(**batch)[0], model(**batch)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(MERGE - {"bitfit"}))
def test_merging_on_a_gpu(name: str) -> None:
    model = build("llama").to("cuda", torch.bfloat16)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = attached(model, name)
    batch = on_gpu(inputs(model))
    with torch.no_grad():
        alone = model(**batch)[0]
        found.merge()
        assert (model(**batch)[0] - alone).abs().max() <= 2e-2 * float(alone.abs().max())
    found.detach()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_generation_with_a_cache() -> None:
    model = build("llama", "CausalLM").cuda()
    attached(model, "prompt")
    ids = inputs(model)["input_ids"].cuda()
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(ids, **options), model.generate(ids, use_cache=False, **options))


def test_a_technique_needs_less_memory_than_full_finetuning() -> None:
    peaks = {}
    for name in ("lora", "full"):
        model = build("bert", "SequenceClassification", hidden_size=256, intermediate_size=1024).cuda()
        found = attach(model, load(name))
        batch = {**on_gpu(inputs(model, rows=8, length=64)), "labels": torch.zeros(8, dtype=torch.long, device="cuda")}
        peaks[name] = peak_bytes(model, list(found.parameters()), batch)
    assert peaks["lora"] < peaks["full"]
