"""Writes what adapters computes: `python write.py`, in the environment that `make.py` makes. Everything in double precision,
also what hosts compute in single precision.

For each host: its weights and config as transformers saves them. For each case on it: the checkpoint as adapters saves it, and
the output, the gradient of every trained tensor, and that of the input, of the output weighed by numbers from 0.1 to 1.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import warnings
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters.loading import AdapterLoader
from cases import CASES
from defects import write_defects
from hosts import FIXTURES, HOSTS, batch, host, write_host
from safetensors.torch import load_file, save_file
from torch.nn.utils import parametrize

sys.path.append(str(Path(__file__).resolve().parents[3]))
from tests.double import in_double
from tests.tolerance import rounding

NAME = "small"


def adapted(family: str, config: Any) -> Any:
    """A host with a module of adapters that is trained."""
    model = host(family)
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    model.train_adapter(NAME)
    model.double().eval()
    undo_before_head(model, config)
    return model


def undo_before_head(model: Any, config: Any) -> None:
    """Sets the inverse of an invertible adapter before the head, as adapters does for its own heads and not for those of transformers."""
    if getattr(config, "inv_adapter", None):
        undo = partial(model.base_model.invertible_adapters_forward, rev=True)
        model.get_output_embeddings().register_forward_pre_hook(lambda module, given: (undo(given[0]),))


def own(model: Any) -> dict[str, torch.Tensor]:
    """The trained tensors of the module by their names, each once.

    adapters leaves out the shared ones where the backbone is the whole model, and has a prefix again in every layer.
    """
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for key, value in model.named_parameters(remove_duplicate=False):
        if f".{NAME}." in f".{key}" and ".pool." not in key and id(value) not in seen:
            seen.add(id(value))
            found[key] = value
    return found


def draw(key: str, value: torch.Tensor) -> None:
    """Draws a tensor: a diagonal where it begins as one, and with the diagonal that torch's orthogonal parametrisation has as signs."""
    if key.endswith((".vera_D", ".vera_B")):
        value.copy_(torch.diag(torch.randn(len(value), dtype=value.dtype)))
        return
    value.normal_(std=0.3)
    if key.endswith(".parametrizations.weight.original"):
        value.diagonal().fill_(-1.0)


def bases(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of the module that are not trained and belong to its parametrised weights."""
    return {key: value for key, value in model.named_buffers() if f".{NAME}." in key and key.endswith(".base")}


def orthonormal(model: Any) -> dict[str, torch.Tensor]:
    """The parametrised weights of the module, each by its name, with their gradients kept."""
    found = {}
    for key, module in model.named_modules():
        if f".{NAME}." in key and parametrize.is_parametrized(module):
            found[f"{key}.weight"] = module.weight
            module.weight.retain_grad()
    return found


def run(model: Any, family: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, after a backward pass, and the gradient of the embedding matrix or of the image."""
    given = batch(family)
    if "pixel_values" in given:
        entering = given["pixel_values"].requires_grad_(True)
    else:
        entering = model.get_input_embeddings().weight.requires_grad_(True)
    out = model(**given)[0]
    (out * torch.linspace(0.1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert entering.grad is not None
    return out.detach(), entering.grad


def write_case(family: str, case: str, config: Any) -> None:
    """Writes one case on one host."""
    torch.manual_seed(2)
    model = adapted(family, config)
    with torch.no_grad():
        for key, value in own(model).items():
            draw(key, value)
        for base in bases(model).values():
            base.copy_(torch.linalg.qr(base).Q)  # orthogonal in double precision too
    folder = FIXTURES / family / case
    folder.mkdir()
    loader = AdapterLoader(model)
    fields = loader.save_to_state_dict(NAME)[1] | {"model_name": ""}
    loader.weights_helper.save_weights_config(str(folder), fields)
    held = {key: value.detach().contiguous() for key, value in (own(model) | bases(model)).items()}
    save_file(held, folder / "adapter.safetensors")
    with parametrize.cached(), in_double():
        weights = orthonormal(model)
        out, entering = run(model, family)
    gradients = {
        f"gradient.{key}": value.grad if value.grad is not None else torch.zeros_like(value)
        for key, value in (own(model) | weights).items()
    }
    count = sum(value.numel() for value in own(model).values() if value.requires_grad)
    save_file(
        {"output": out, "input": entering.contiguous(), "trained": torch.tensor(count), **gradients},
        folder / "expected.safetensors",
    )


def write() -> None:
    """Writes all hosts and cases, and the versions."""
    shutil.rmtree(FIXTURES, ignore_errors=True)
    for family in HOSTS:
        write_host(family)
    for case, (config, families) in CASES.items():
        for family in families:
            write_case(family, case, config)
            print(family, case)
    write_defects()
    names = ("adapters", "transformers", "torch", "safetensors", "numpy")
    versions = {name: metadata.version(name) for name in names} | {"python": sys.version.split()[0]}
    facts = {"versions": versions, "seeds": {"host": 0, "batch": 1, "module": 2}}
    (FIXTURES / "made.json").write_text(json.dumps(facts, indent=2) + "\n")


def unset(model: Any, missing: list[str]) -> list[str]:
    """The missing keys whose tensor has no other name that was there."""
    names: dict[int, set[str]] = {}
    for key, value in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), set()).add(key)
    return [key for each in names.values() for key in sorted(each) if each <= set(missing)]


def check(folders: list[Path]) -> bool:
    """Loads what peftref exported and holds its outputs against those that peftref wrote beside it."""
    good = True
    for folder in folders:
        family = json.loads((folder / "adapter_config.json").read_text())["model_type"]
        model = host(family)
        adapters.init(model)
        info: dict[str, Any] = {}
        name = model.load_adapter(str(folder), use_safetensors=True, set_active=True, loading_info=info)
        model.double().eval()
        undo_before_head(model, model.adapters_config.get(name))
        with in_double():
            found, wanted = model(**batch(family))[0], load_file(folder.with_suffix(".safetensors"))["output"]
        apart = float((found - wanted).abs().max() / wanted.abs().max())
        lost = [*unset(model, info.get("missing_keys", [])), *info.get("unexpected_keys", [])]
        print(f"{folder.name}: {apart:.1e} apart{', ' + ', '.join(lost[:3]) if lost else ''}")
        orthogonal = any(key.endswith(".base") for key, _ in model.named_buffers())
        near = torch.float32 if orthogonal else torch.double  # a base is loaded in single precision
        good &= apart < rounding(near) and not lost
    return good


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    action, *given = sys.argv[1:] or ["write"]
    if action == "write":
        write()
    else:
        sys.exit(not check([Path(each) for each in given]))
