"""Types of peft on linear maps, norms and tables that act otherwise than ours, or keep less than is needed: what is done then."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    LilyConfig,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    SupertuningConfig,
    TrainableTokensConfig,
    get_peft_model,
)
from peft.optimizers import create_lorafa_optimizer

from benchmarks.parity import beside, parity
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs
from tests.modules.test_tied import tied
from tests.small import small


def made(model: Any, config: Any) -> Any:
    """Peft's model of a config on a copy of a host, its parameters moved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = get_peft_model(copy.deepcopy(model), config).eval()
    moved(theirs)
    return theirs


def moved(model: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))


def output(model: Any, **batch: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**(batch or inputs(model)))[0]
    return found


def test_the_samples_of_a_batch_mix_in_lily_of_peft() -> None:
    """Peft takes the mean of the experts' shares over all samples; ours is what each sample gives alone."""
    both = beside(build("llama"), small(load("lily")))
    ids = inputs(build("llama"))["input_ids"]
    for model, apart in ((both.ours.model, False), (both.theirs, True)):
        together = output(model, input_ids=ids)
        alone = torch.cat([output(model, input_ids=row[None]) for row in ids])
        assert ((together - alone).abs().max() > 1e-4) == apart
    torch.testing.assert_close(
        output(both.ours.model, input_ids=ids[:1]), output(both.theirs, input_ids=ids[:1]), rtol=1e-9, atol=1e-9
    )


def test_lily_is_shared_as_peft_shares_it(tmp_path: Path) -> None:
    """By the end of the path: where two stacks have the same one, peft shares over both, and a module that does not is refused."""
    model = build("llama")
    attached = attach(model, small(load("lily")))
    moved(attached.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = PeftModel.from_pretrained(
            build("llama"), str(write_peft(attached, tmp_path / "there")), is_trainable=True
        )
    trained = sum(each.numel() for each in theirs.parameters() if each.requires_grad)
    assert trained == sum(each.numel() for each in attached.parameters())
    with pytest.raises(PeftrefError, match="one leaf here, and in peft they are two") as caught:
        write_peft(attach(build("t5"), small(load("lily"))), tmp_path / "other")
    assert {each.code for each in caught.value.problems} == {"peer-differs"}
    assert not (tmp_path / "other").exists()


def test_lily_of_many_first_matrices_is_refused(tmp_path: Path) -> None:
    model = build("llama")
    made(model, LilyConfig(r=4, stride_A=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path))
    with pytest.raises(PeftrefError, match="stride_A is 2"):
        read_peft(tmp_path, model)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bart"])
def test_norms_by_the_names_that_peft_gives(family: str, tmp_path: Path) -> None:
    names = {"llama": "layernorm", "gpt2": "ln_1", "t5": "layer_norm", "bart": "final_layer_norm"}
    model = build(family)
    targets = [name for name, _ in model.named_modules() if name.endswith(names[family])]
    theirs = made(model, LNTuningConfig(target_modules=targets))
    theirs.save_pretrained(str(tmp_path))
    read_peft(tmp_path, model)
    torch.testing.assert_close(output(model), output(theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numbers", [[5, 6, 7], [40, 3, 17]])
def test_any_rows_of_the_embedding_matrix(numbers: list[int], tmp_path: Path) -> None:
    model = build("llama", "CausalLM")
    plain = copy.deepcopy(model)
    theirs = made(model, TrainableTokensConfig(token_indices=numbers, target_modules=["embed_tokens"]))
    theirs.save_pretrained(str(tmp_path / "there"))
    batch = {"input_ids": torch.tensor([[3, 5, 17, 40, 6, 7]])}
    attached = read_peft(tmp_path / "there", model)
    torch.testing.assert_close(output(model, **batch), output(theirs, **batch), rtol=1e-5, atol=1e-6)
    assert sum(each.numel() for each in attached.parameters()) == 3 * 32
    back = write_peft(attached, tmp_path / "back")
    again = PeftModel.from_pretrained(plain, str(back)).eval()
    torch.testing.assert_close(output(again, **batch), output(theirs, **batch), rtol=1e-5, atol=1e-6)


def test_a_tied_head_goes_along_in_peft(tmp_path: Path) -> None:
    """In peft the trained rows are those of the head too; ours are the embedding's alone, so that neither is the other."""
    model = tied("llama")
    with pytest.raises(PeftrefError, match="peft stands on lm_head too"):
        write_peft(attach(model, small(load("trainable_tokens"))), tmp_path / "there")
    other = tied("llama")
    made(other, TrainableTokensConfig(token_indices=[4])).save_pretrained(str(tmp_path / "theirs"))
    with pytest.raises(PeftrefError, match="peft stands on lm_head too"):
        read_peft(tmp_path / "theirs", other)


def test_a_share_of_the_weights_that_is_no_one_in_a_number(tmp_path: Path) -> None:
    model = build("llama")
    for sparsity, known in ((0.95, True), (0.97, False)):
        folder = tmp_path / str(known)
        theirs = made(model, SupertuningConfig(sparsity=sparsity, target_modules=["q_proj", "v_proj"]))
        theirs.save_pretrained(str(folder))
        host = copy.deepcopy(model)
        if known:
            assert read_peft(folder, host).technique.settings["per"] == 20
            torch.testing.assert_close(output(host), output(theirs), rtol=1e-5, atol=1e-6)
        else:
            with pytest.raises(PeftrefError, match=r"sparsity is 0\.97"):
                read_peft(folder, host)


@pytest.mark.parametrize("per", [2, 3, 7, 11, 100, 500])
def test_any_share_comes_to_the_same_number_of_weights(per: int, tmp_path: Path) -> None:
    model = build("llama")
    technique = load("supertuning", per=per)
    attached = attach(model, technique)
    moved(attached.module)
    read = read_peft(write_peft(attached, tmp_path / "there"), build("llama"))
    assert read.technique.settings == technique.settings


@pytest.mark.parametrize("kind", ["pissa", "olora"])
@pytest.mark.parametrize("alpha", [4, 12])
def test_what_is_taken_out_of_the_weight_at_any_scale(kind: str, alpha: int, tmp_path: Path) -> None:
    """Peft takes it out of the host's own weight as it loads; here the host stays, and gives the same."""
    model = build("llama")
    plain = copy.deepcopy(model)
    theirs = made(model, LoraConfig(r=4, lora_alpha=alpha, init_lora_weights=kind, target_modules=["q_proj", "v_proj"]))
    theirs.save_pretrained(str(tmp_path))
    attached = read_peft(tmp_path, model)
    torch.testing.assert_close(output(model), output(theirs), rtol=1e-4, atol=1e-5)
    assert attached.technique.name == kind
    attached.detach()
    torch.testing.assert_close(output(model), output(plain), rtol=0, atol=0)


def test_another_part_taken_out_is_told(tmp_path: Path) -> None:
    model = build("llama")
    attached = attach(model, load("pissa", r=4, alpha=12))
    with pytest.raises(PeftrefError, match="peft makes another change"):
        write_peft(attached, tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_a_host_that_has_lost_what_pissa_took_is_told(tmp_path: Path) -> None:
    """A checkpoint of PiSSA goes with the host as it was; on another one, peft takes out another part."""
    model = build("llama")
    attached = attach(model, load("pissa", r=4, alpha=4))
    with torch.no_grad():
        model.layers[0].self_attn.q_proj.weight.add_(0.1)
    with pytest.raises(PeftrefError, match="peer-differs"):
        write_peft(attached, tmp_path / "there")


@pytest.mark.parametrize(
    ("name", "told"),
    [("qalora", "GPTQ"), ("loftq", "accelerator"), ("adamss", "clusters the rows anew")],
)
def test_what_peft_does_not_keep_is_not_written(name: str, told: str, tmp_path: Path) -> None:
    sizes = {"qalora": {"group": 8}, "adamss": {"n": 8, "k": 3}}.get(name, {})
    with pytest.raises(PeftrefError, match=told) as caught:
        write_peft(attach(build("llama"), load(name, **sizes)), tmp_path / "there")
    assert {each.code for each in caught.value.problems} == {"no-peer"}
    assert not list(tmp_path.iterdir())


def test_a_part_that_data_decide_is_taken_out_by_a_lora_of_twice_the_rank(tmp_path: Path) -> None:
    model = build("bert")
    attached = attach(model, load("corda", r=3), batches=[inputs(model)])
    torch.testing.assert_close(output(model), output(build("bert")), rtol=1e-5, atol=1e-5)
    moved(attached.module)
    here = output(model)
    folder = write_peft(attached, tmp_path / "there")
    theirs: Any = PeftModel.from_pretrained(build("bert"), str(folder)).eval()
    torch.testing.assert_close(output(theirs), here, rtol=1e-5, atol=1e-5)
    attached.detach()
    back = read_peft(folder, model)
    assert (back.technique.name, back.technique.settings["r"]) == ("lora", 6)
    torch.testing.assert_close(output(model), here, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lora_fa", "lora_plus"])
def test_what_an_optimizer_makes_is_a_lora_in_peft(name: str, tmp_path: Path) -> None:
    model = build("bert")
    attached = attach(model, small(load(name)))
    moved(attached.module)
    here = output(model)
    folder = write_peft(attached, tmp_path / "there")
    theirs: Any = PeftModel.from_pretrained(build("bert"), str(folder), is_trainable=True).eval()
    torch.testing.assert_close(output(theirs), here, rtol=1e-5, atol=1e-6)
    if name == "lora_fa":
        create_lorafa_optimizer(theirs, r=4, lora_alpha=16, lr=1e-3)
    trained = sum(each.numel() for each in theirs.parameters() if each.requires_grad)
    assert trained == sum(each.numel() for each in attached.parameters())
    attached.detach()
    assert read_peft(folder, model).technique.name == "lora"
    torch.testing.assert_close(output(model), here, rtol=1e-5, atol=1e-6)


def test_blocks_by_the_names_of_modules(tmp_path: Path) -> None:
    model = build("llama")
    config = {"target_modules_bd_a": ["q_proj", "v_proj"], "nblocks": 4}
    theirs = made(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], use_bdlora=config))
    theirs.save_pretrained(str(tmp_path / "first"))
    assert read_peft(tmp_path / "first", model).technique.settings["n"] == 4
    torch.testing.assert_close(output(model), output(theirs), rtol=1e-5, atol=1e-6)
    config = {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 4}
    theirs = made(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], use_bdlora=config))
    theirs.save_pretrained(str(tmp_path / "second"))
    with pytest.raises(PeftrefError, match="in the checkpoint"):
        read_peft(tmp_path / "second", build("llama"))


@pytest.mark.parametrize("family", ["gpt2", "phi3", "gpt_neox"])
@pytest.mark.parametrize(
    "name", ["glora", "lily", "poly", "supertuning", "tinylora", "eva", "bd_lora", "kasa", "pissa"]
)
def test_beside_a_fused_projection(family: str, name: str) -> None:
    """The modules of such a host that are whole; peft has not every type on the `Conv1D` of GPT-2."""
    technique = small(load(name)).moved("attention.output", "ffn.down")
    try:
        both = beside(build(family), technique)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        if family != "gpt2":
            raise
        pytest.skip(f"peft has it on no Conv1D: {error}")
    found = parity(both, inputs(both.ours.model, rows=1))
    still = (family, name) == ("gpt_neox", "glora")  # before a norm, a shift by one number has rounding for a gradient
    assert max(found.output, 0.0 if still else found.gradient, found.merged or 0.0) < 1e-5


def test_adamss_with_the_clusters_of_peft() -> None:
    """Its checkpoints do not hold them; with those of its live layers, the outputs, gradients and merged weights are the same."""
    pytest.importorskip("sklearn")
    from peft import AdamssConfig

    model = build("bert").double()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.05 * torch.randn_like(each))
    theirs = made(model, AdamssConfig(r=8, num_subspaces=3, subspace_rank=2, target_modules=["query", "value"]))
    ours = attach(model, load("adamss", n=8, k=3, r=2))
    pairs = []
    for placement in ours.module.placed:
        layer = theirs.base_model.model.get_submodule(placement.site.path)
        leaf = {name: ours.module.leaf(f"{placement.site.name}.{name}") for name in ("V", "K", "at", "A", "B")}
        right, bias = layer.adamss_newB["default"], layer.base_layer.bias
        with torch.no_grad():
            leaf["V"].copy_(right[:, :-1])
            leaf["K"].copy_(right[:, -1:] * bias / bias.square().sum())
            for number, rows in layer.seg_result["default"].items():
                leaf["at"][rows] = number
                leaf["A"][number] = layer.adamss_A["default"][number]
                leaf["B"][rows] = layer.adamss_B["default"][number]
        pairs += [
            (leaf[name], part, getattr(layer, f"adamss_{name}")["default"][number])
            for number, rows in layer.seg_result["default"].items()
            for name, part in (("A", number), ("B", rows))
        ]
    batch = inputs(model)
    outs = [each(**batch)[0] for each in (model, theirs)]
    torch.testing.assert_close(*outs, rtol=1e-9, atol=1e-9)
    for out in outs:
        (out * torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    for own, part, other in pairs:
        assert own.grad is not None
        torch.testing.assert_close(own.grad[part], other.grad, rtol=1e-7, atol=1e-9)
    ours.merge()
    merged = theirs.merge_and_unload()
    for key in ("weight", "bias"):
        here, there = (each.encoder.layer[0].attention.self.query.get_parameter(key) for each in (model, merged))
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


def test_bases_of_randlora_on_the_wider_side(tmp_path: Path) -> None:
    """Where a map is wider than high, peft lets the trained vectors act on its output, which ours does not have."""
    with pytest.raises(PeftrefError, match=r"randlora_gamma is \[4, 16\] in peft, and \[8, 32\] here"):
        write_peft(attach(build("llama"), small(load("randlora"))), tmp_path / "there")
    assert not list(tmp_path.iterdir())
    both = beside(build("llama"), small(load("randlora")).moved("attention.query", "ffn.up"))
    found = parity(both, inputs(both.ours.model))
    assert max(found.output, found.gradient, found.merged or 0.0) < 1e-5
