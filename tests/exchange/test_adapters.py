"""Checkpoints go to adapters and come from it; what adapters 1.3 wrote is in tests/parity/adapters, and `make.py check` loads ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftref.cli import main
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.exchange.adapters.library import library
from peftref.exchange.adapters.orthogonal import plain
from peftref.exchange.adapters.read import read_adapters
from peftref.exchange.adapters.write import write_adapters
from peftref.modules.attach import attach
from tests.hosts.families import build
from tests.parity.adapters.hosts import FIXTURES, batch, host
from tests.parity.test_adapters import CASES
from tests.small import small
from tests.tolerance import close

ELSEWHERE = {"ia3", "madx", "houlsby_invertible", "dora"}
"""Techniques that stand on BERT where adapters does not have them, or has something else."""
ONCE = [case for case in CASES if case.startswith(("bert/", "bart/", "vit/"))]


def told(folder: Path) -> dict[str, Any]:
    """The config of a checkpoint, without what acts while training only."""
    found = json.loads((folder / "adapter_config.json").read_text())["config"]
    parts = found.get("configs", [found])
    for part in parts:
        kind = library().types[str(library().type(part.get("architecture")))]
        for name in (*kind.ignored, "architecture"):
            part.pop(name, None)
    return {"parts": parts}


@pytest.mark.parametrize("case", ONCE)
def test_what_adapters_wrote_is_written_again(case: str, tmp_path: Path) -> None:
    """The same config and the same tensors, which adapters therefore loads with the same outputs."""
    family = case.partition("/")[0]
    attached = read_adapters(FIXTURES / case, host(family), "small")
    folder = write_adapters(attached, tmp_path / "there")
    ours, theirs = told(folder), told(FIXTURES / case)
    unread = {"original_ln_before", "residual_before_ln", "bottleneck_size", "non_linearity", "shared_gating", "alpha"}
    for here, there in zip(ours["parts"], theirs["parts"], strict=True):
        differing = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
        assert differing <= unread, {name: (here.get(name), there.get(name)) for name in differing}
    base = library().families[family].base
    wanted = {
        key.removeprefix(f"{base}."): value for key, value in load_file(FIXTURES / case / "adapter.safetensors").items()
    }
    found = load_file(folder / "adapter.safetensors")
    assert set(found) == set(wanted)
    for key, value in plain(found).items():
        if key in found:
            assert torch.equal(value, wanted[key])
        else:  # an orthonormal weight, whose parametrisation has more than one form
            close(value, plain(wanted)[key])


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith(("scaled_par_bn", "mam"))])
def test_a_whole_number_stays_one_with_a_point(case: str, tmp_path: Path) -> None:
    """adapters takes a scale for a number by its type: 4 is refused there, 4.0 is not."""
    attached = read_adapters(FIXTURES / case, host(case.partition("/")[0]))
    for part in told(write_adapters(attached, tmp_path / "there"))["parts"]:
        assert isinstance(part.get("scaling", 1.0), float)


def test_any_technique_goes_there_and_back(tmp_path: Path) -> None:
    """Every technique that its file says adapters has: what is written is read as the same technique, on the same outputs."""
    from peftref.design.load import techniques

    went = 0
    for technique in techniques():
        if "adapters" not in technique.peers or technique.peers["adapters"].refused:
            continue
        fixed = {
            name: value
            for part in (technique.peers["adapters"], *technique.peers["adapters"].parts)
            for name, value in part.ours.items()
        }
        if "alpha" in technique.peers["adapters"].follow and "alpha" in technique.settings:
            fixed["alpha"] = small(technique).settings["r"]
        model = host("bert")
        attached = attach(model, small(technique).with_settings(**fixed))
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.normal_(std=0.3)
            here = model(**batch("bert"))[0]
        if technique.name in ELSEWHERE:
            with pytest.raises(PeftrefError, match="peer-targets"):
                write_adapters(attached, tmp_path / technique.name)
            assert not (tmp_path / technique.name).exists()
            attached.detach()
            continue
        folder = write_adapters(attached, tmp_path / technique.name)
        attached.detach()
        again = read_adapters(folder, model)
        with torch.no_grad():
            torch.testing.assert_close(model(**batch("bert"))[0], here, rtol=1e-9, atol=1e-9)
        again.detach()
        went += 1
    assert went > 15


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"scaling": 2.0}, "peer-field", "scaling is 2.0"),
        ({"residual_before_ln": "post_add"}, "peer-field", "post_add"),
        ({"non_linearity": "leakyrelu"}, "peer-field", "leakyrelu"),
        ({"reduction_factor": {"0": 4, "default": 8}}, "peer-field", "reduction_factor"),
        ({"inv_adapter": "glow"}, "peer-field", "inv_adapter"),
        ({"new_field": 1}, "peer-field", "new_field"),
        ({"architecture": "mtl_lora"}, "no-peer", "mtl_lora"),
        ({"reduction_factor": 8}, "peer-differs", "adapter_down"),
        ({"output_adapter": False, "mh_adapter": True}, "peer-targets", "nothing at"),
    ],
)
def test_what_cannot_be_expressed_is_refused(tmp_path: Path, fields: dict[str, Any], code: str, told: str) -> None:
    case = FIXTURES / "bert" / "seq_bn"
    config = json.loads((case / "adapter_config.json").read_text())
    config["config"] |= fields
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(load_file(case / "adapter.safetensors"), tmp_path / "adapter.safetensors")
    model = host("bert")
    with pytest.raises(PeftrefError, match=told) as caught:
        read_adapters(tmp_path, model)
    assert {problem.code for problem in caught.value.problems} == {code}
    assert "peftref" not in model._modules


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    case = FIXTURES / "bert" / "seq_bn"
    (tmp_path / "adapter_config.json").write_bytes((case / "adapter_config.json").read_bytes())
    (tmp_path / "pytorch_adapter.bin").write_bytes(b"\x80\x02anything")
    with pytest.raises(PeftrefError, match="use_safetensors=True") as caught:
        read_adapters(tmp_path, host("bert"))
    assert caught.value.problems[0].code == "checkpoint-pickled"


@pytest.mark.parametrize(
    ("name", "settings", "code"),
    [
        ("pfeiffer", {"reads": "h"}, "peer-field"),
        ("parallel_adapter", {}, "peer-field"),
        ("ia3", {}, "peer-targets"),
        ("hra", {}, "no-peer"),
        ("direft", {}, "no-peer"),
        ("dora", {"alpha": 8, "r": 8}, "peer-targets"),
    ],
)
def test_what_adapters_does_not_have_is_not_written(
    name: str, settings: dict[str, Any], code: str, tmp_path: Path
) -> None:
    attached = attach(host("bert"), small(load(name)).with_settings(**settings))
    with pytest.raises(PeftrefError) as caught:
        write_adapters(attached, tmp_path / "there")
    assert {problem.code for problem in caught.value.problems} == {code}
    assert not list(tmp_path.iterdir())


def test_families_and_parts_of_projections_that_adapters_keeps_otherwise(tmp_path: Path) -> None:
    for family, name in (("phi3", "houlsby"), ("gpt2", "lora")):
        with pytest.raises(PeftrefError) as caught:
            write_adapters(attach(build(family), small(load(name))), tmp_path / "there")
        assert {problem.code for problem in caught.value.problems} == {
            "no-peer" if family == "phi3" else "peer-targets"
        }
    assert not list(tmp_path.iterdir())


def test_a_trained_head_is_not_dropped(tmp_path: Path) -> None:
    model = build("bert", "SequenceClassification")
    attached = attach(model, small(load("houlsby")))
    model.classifier.weight.requires_grad_(True)
    with pytest.raises(PeftrefError, match="classifier"):
        write_adapters(attached, tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_commands_tell_the_libraries_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = str(FIXTURES / "bert")
    for arguments in (
        ["import", str(FIXTURES / "bert" / "seq_bn"), "--host", base, "--out", str(tmp_path / "ours")],
        ["export", str(tmp_path / "ours"), "--to", "adapters", str(tmp_path / "back"), "--host", base],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code in (0, None), capsys.readouterr().err
    found = load_file(tmp_path / "back" / "adapter.safetensors")
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert len(found) == 8
