"""Checkpoints go to peft and come from it: the same outputs there and here, and nothing loaded that is not understood."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraConfig, PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file, save_file

from benchmarks.parity import asked
from peftref.cli import main
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.design.placement import copies, placements
from peftref.exchange.peft import form as exchange
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs
from tests.parity.test_peft import NAMES, NOT_HERE, ROWS
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore:.*invalid shape")
BOUND = 1e-4
DRAWN = {"fourierft", "frod", "unilora", "waveft"}
"""Techniques with positions that peft draws from a seed of its own and does not save."""


def moved(parameters: Any) -> None:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))


def output(model: Any, name: str = "lora") -> torch.Tensor:
    """What a host gives, or peft's model of a technique."""
    batch = inputs(model, rows=ROWS.get(name, 2))
    if isinstance(model, PeftModel):
        model, batch = asked(small(load(name)), model, batch)
    with torch.no_grad():
        found: torch.Tensor = model(**batch)[0]
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_what_is_written_is_loaded_by_peft(family: str, name: str, tmp_path: Path) -> None:
    model = build(family)
    plain = copy.deepcopy(model)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    technique = small(load(name))
    if name == "pissa":  # at another scale peft takes less out of the weight than ours
        technique = technique.with_settings(alpha=technique.settings["r"])
    attached = attach(model, technique)
    moved(attached.parameters())
    here = output(model, name)
    if name in DRAWN or (family, name) in NOT_HERE:
        with pytest.raises(PeftrefError, match="peer-differs"):
            write_peft(attached, tmp_path / "there")
        assert not list(tmp_path.iterdir())
        return
    folder = write_peft(attached, tmp_path / "there")
    torch.testing.assert_close(output(model, name), here, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(copy.deepcopy(plain), str(folder)).eval()
    torch.testing.assert_close(output(theirs, name), here, rtol=BOUND, atol=BOUND)
    attached.detach()
    assert all(torch.equal(value, plain.get_parameter(key)) for key, value in model.named_parameters())
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    again = read_peft(folder, model)
    torch.testing.assert_close(output(model, name), here, rtol=BOUND, atol=BOUND)
    assert not [
        key for key, value in model.named_parameters() if value.requires_grad and not key.startswith("peftref.")
    ]
    attached_to = {key: value for key, value in model.named_parameters() if not key.startswith("peftref.")}
    assert all(torch.equal(value, plain.get_parameter(key)) for key, value in attached_to.items())
    assert again.technique.settings == technique.settings


@pytest.mark.parametrize("name", NAMES)
def test_what_peft_saves_is_read(name: str, tmp_path: Path) -> None:
    model = build("bert")
    fields = exchange.config(small(load(name)), resolve(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(fields.pop("peft_type"))]
        theirs = get_peft_model(copy.deepcopy(model), kind(**fields)).eval()
        moved(parameter for parameter in theirs.parameters() if parameter.requires_grad)
        theirs.save_pretrained(str(tmp_path / "there"))
    read_peft(tmp_path / "there", model)
    torch.testing.assert_close(output(model, name), output(theirs, name), rtol=BOUND, atol=BOUND)


def lora(folder: Path, head: str | None = None, **fields: Any) -> Any:
    """A LoRA of peft, saved; the model that it stands on."""
    model = build("bert", head)
    config = LoraConfig(**{"r": 4, "target_modules": ["query", "value"], **fields})
    theirs = get_peft_model(copy.deepcopy(model), config).eval()
    moved(parameter for parameter in theirs.parameters() if parameter.requires_grad)
    theirs.save_pretrained(str(folder))
    return model, theirs


def test_any_modules_and_any_layers(tmp_path: Path) -> None:
    model, theirs = lora(tmp_path, target_modules=["key", "intermediate.dense"], layers_to_transform=[1])
    found = read_peft(tmp_path, model)
    assert found.technique.insert[0].at == ("attention.key", "ffn.up")
    torch.testing.assert_close(output(model), output(theirs), rtol=BOUND, atol=BOUND)


def test_a_task_head_comes_along(tmp_path: Path) -> None:
    model, theirs = lora(tmp_path, "SequenceClassification", task_type="SEQ_CLS")
    attached = read_peft(tmp_path, model)
    torch.testing.assert_close(output(model), output(theirs), rtol=BOUND, atol=BOUND)
    assert model.classifier.weight.requires_grad
    back = write_peft(attached, tmp_path / "back")
    again = PeftModel.from_pretrained(build("bert", "SequenceClassification"), str(back)).eval()
    torch.testing.assert_close(output(again), output(theirs), rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"query": 2}}, "rank_pattern"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"use_rslora": True, "use_dora": True}, "use_"),
    ],
)
def test_what_cannot_be_expressed_is_refused(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    model, _ = lora(tmp_path, **fields)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(PeftrefError, match=told) as caught:
        read_peft(tmp_path, model)
    assert "peer-field" in {problem.code for problem in caught.value.problems}
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_faults_in_the_files(tmp_path: Path) -> None:
    model, _ = lora(tmp_path)
    config, tensors = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    text, data = config.read_text(), tensors.read_bytes()

    def code(fault: str) -> None:
        with pytest.raises(PeftrefError) as caught:
            read_peft(tmp_path, model)
        assert {problem.code for problem in caught.value.problems} == {fault}, caught.value
        assert "peftref" not in model._modules
        config.write_text(text)
        tensors.write_bytes(data)

    config.write_text(text[:-20])
    code("checkpoint-damaged")
    config.write_text("[]")
    code("checkpoint-damaged")
    config.write_text(json.dumps(json.loads(text) | {"peft_type": "NEXT"}))
    code("no-peer")
    config.write_text(json.dumps(json.loads(text) | {"new_field": 3}))
    code("peer-field")
    config.write_text(json.dumps(json.loads(text) | {"target_modules": ["position_embeddings"]}))
    code("peer-targets")
    config.write_text(json.dumps(json.loads(text) | {"target_modules": ["q_proj"]}))
    code("peer-refuses")
    tensors.write_bytes(data[: len(data) // 2])
    code("checkpoint-damaged")
    loaded = load_file(tensors)
    first = sorted(loaded)[0]
    save_file({key: value for key, value in loaded.items() if key != first}, tensors)
    code("peer-differs")
    save_file(loaded | {first: loaded[first][:1].contiguous()}, tensors)
    code("peer-differs")
    save_file(loaded | {"more": loaded[first].clone()}, tensors)
    code("peer-differs")
    tensors.rename(tmp_path / "adapter_model.bin")
    code("checkpoint-pickled")
    config.unlink()
    with pytest.raises(PeftrefError, match="checkpoint-missing"):
        read_peft(tmp_path, model)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    attached = attach(build("bert"), load("lora", r=2))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    with pytest.raises(PeftrefError, match="save-place"):
        write_peft(attached, tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "mine"]


def test_commands_go_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, theirs = lora(tmp_path / "theirs")
    model.save_pretrained(str(tmp_path / "host"))
    host = str(tmp_path / "host")
    for arguments in (
        ["import", str(tmp_path / "theirs"), "--host", host, "--out", str(tmp_path / "ours")],
        ["export", str(tmp_path / "ours"), "--to", "peft", str(tmp_path / "back"), "--host", host],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code in (0, None), capsys.readouterr().err
    again = PeftModel.from_pretrained(build("bert"), str(tmp_path / "back")).eval()
    torch.testing.assert_close(output(again), output(theirs), rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize(("kind", "family"), [("LORA", "t5"), ("LORA", "bart"), ("IA3", "t5")])
def test_peft_s_default_on_an_encoder_and_a_decoder_is_ours(kind: str, family: str, tmp_path: Path) -> None:
    """Queries and values, or keys and values, of cross attention among them: read, and written again, with the same outputs."""
    model = build(family, "Seq2SeqLM")
    made = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](task_type="SEQ_2_SEQ_LM")
    theirs = get_peft_model(copy.deepcopy(model), made).eval()
    moved(parameter for parameter in theirs.parameters() if parameter.requires_grad)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    attached = read_peft(tmp_path / "theirs", model)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs(model))[0], theirs(**inputs(model))[0], rtol=BOUND, atol=BOUND)
    default = load(kind.lower(), **({"r": made.r} if kind == "LORA" else {}))
    assert {copy.name for copy in attached.module.copies} == {
        copy.name for copy in copies(default, placements(default, resolve(model)))
    }
    folder = write_peft(attached, tmp_path / "again")
    written, there = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "theirs"))
    assert written.keys() == there.keys()
    assert all(torch.equal(written[key], there[key]) for key in written)
