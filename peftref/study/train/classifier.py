"""A host as a sequence classifier: the backbone's weights, a task head that a seed makes, and which names are the head's."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftref.core.problem import fail
from peftref.core.quiet import silent


@dataclass(frozen=True, slots=True)
class Classifier:
    """A pristine classifier to copy runs from, the names of its head's parameters, and if its weights are random."""

    model: Any
    head: frozenset[str]
    random: bool

    def fresh(self, seed: int, device: torch.device | str = "cpu") -> Any:
        """A copy whose head was made anew from the seed; the backbone is bit-identical to the host's."""
        model = copy.deepcopy(self.model)
        init_head(model, self.head, seed)
        return model.to(device)

    def fingerprint(self) -> str:
        """SHA-256 over the configuration and the backbone's weights (names, shapes, bytes), without the head."""
        return fingerprint(self.model, self.head)


def load_classifier(source: Any, n_labels: int, pad_id: int) -> Classifier:
    """A host with a classification head.

    source: a folder or hub name, a configuration (random weights), or a live model (its backbone is copied). Raises PeftrefError `not-a-classifier`, `host-unreachable`.
    """
    from transformers import AutoModelForSequenceClassification as Auto
    from transformers import PreTrainedModel

    with silent():
        if isinstance(source, (str, Path)):
            try:
                model, report = Auto.from_pretrained(
                    str(source),
                    num_labels=n_labels,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                )
            except (OSError, ValueError) as error:
                first = str(error).splitlines()[0][:200]
                raise fail("host-unreachable", f"{source} cannot be loaded as a text classifier: {first}") from None
            missing = set(report["missing_keys"])
        else:
            live = source if isinstance(source, PreTrainedModel) else None
            model = _from_config(source if live is None else live.config, n_labels)
            missing = set() if live is None else _copy_backbone(live, model)
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = pad_id
    is_random = not isinstance(source, PreTrainedModel) and not isinstance(source, (str, Path))
    model.eval()
    return Classifier(model, head_names(model) | missing & {name for name, _ in model.named_parameters()}, is_random)


def head_names(model: Any) -> frozenset[str]:
    """The parameters that stand outside the backbone: the task head."""
    backbone = {id(parameter) for parameter in model.base_model.parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) not in backbone)


def init_head(model: Any, head: frozenset[str], seed: int) -> None:
    """Make the head anew: what torch's layers draw when they reset themselves, under the seed; random state is kept."""
    owners = sorted({name.rpartition(".")[0] for name in head})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for owner in owners:
            module = model.get_submodule(owner)
            if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Conv1d)):
                module.reset_parameters()


def fingerprint(model: Any, leave_out: frozenset[str] = frozenset()) -> str:
    """SHA-256 over a model's configuration and its tensors by name, without some of them; 64 hex digits."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _LOCAL}
    digest = hashlib.sha256(repr(sorted((key, repr(value)) for key, value in config.items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name not in leave_out:
            flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()


_LOCAL = (
    "_name_or_path",
    "transformers_version",
    "id2label",
    "label2id",
    "num_labels",
    "architectures",
    "pad_token_id",
)


def _from_config(config: Any, n_labels: int) -> Any:
    from transformers import AutoModelForSequenceClassification as Auto

    config = copy.deepcopy(config)
    config.num_labels = n_labels
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Auto.from_config(config, trust_remote_code=False).float()
    except ValueError:
        text = f"a {config.model_type} model has no text-classification form in transformers"
        raise fail("not-a-classifier", text, hint="compare needs a text host such as bert, gpt2, llama or t5") from None


def _copy_backbone(live: Any, model: Any) -> set[str]:
    weights = {name: tensor.detach().float() for name, tensor in live.base_model.state_dict().items()}
    report = model.base_model.load_state_dict(weights, strict=False)
    prefix = model.base_model_prefix
    return {f"{prefix}.{name}" for name in report.missing_keys}
