"""Everything that is measured on a trained module: times, FLOPs, memory, file size. Each by itself; one may fail alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftref.study.attached import Attach, Attached, trainable
from peftref.study.flops import Flops, count_flops, eager
from peftref.study.memory import peak_bytes, saved_bytes
from peftref.study.timing import Batch, Contender, Times, contender, inference_times, step_times
from peftref.study.train.classifier import Classifier
from peftref.study.yardstick import Yardstick

HOST, HEAD, OWN = "frozen_host", "head_only", "technique"


@dataclass(slots=True)
class Gauge:
    """What measuring needs, made once per study: the yardstick, a few batches, and the FLOPs already counted."""

    classifier: Classifier
    device: str
    batches: list[Batch]
    attach: Attach
    seconds: float = 2.0
    yardstick: Yardstick = field(init=False)
    flops: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.yardstick = Yardstick(self.classifier, self.device)

    def frozen_host(self) -> Contender:
        """The frozen host with a trainable vector at its bottom, as a contender."""
        return Contender(HOST, self.yardstick.model, self.yardstick.bottom)


def measure(
    gauge: Gauge, model: Any, attached: Attached, parameters: list[nn.Parameter], technique: Any, key: str
) -> tuple[dict[str, Any], list[str]]:
    """Measure a trained module; gives the measures by name, and a note for each that failed.

    key: equal for modules whose FLOPs are equal. Seconds, bytes and FLOPs throughout; random state is kept. The module is
    merged and unmerged on the way where it can be, so its last bits may differ afterwards.
    """
    own = contender(OWN, model, parameters)
    found: dict[str, Any] = {}
    notes: list[str] = []
    parts: dict[str, Callable[[], Mapping[str, Any]]] = {
        "file": lambda: file_size(attached),
        "step": lambda: _step(gauge, own),
        "memory": lambda: _memory(gauge, own),
        "flops": lambda: _flops(gauge, technique, key),
        "inference": lambda: _inference(gauge, own, attached),
    }
    devices = [gauge.device] if gauge.device.startswith("cuda") else []
    for name, part in parts.items():
        with torch.random.fork_rng(devices=devices):
            try:
                found[name] = dict(part())
            except Exception as error:  # a measure that fails must not lose a trained run
                notes.append(f"{name} was not measured: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return found, notes


def file_size(attached: Attached) -> dict[str, Any]:
    """Bytes of the saved module: all files, and the tensors alone."""
    with tempfile.TemporaryDirectory(prefix="peftref-") as folder:
        attached.save(Path(folder) / "module")
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        sizes = {path: path.stat().st_size for path in files}
    return {
        "bytes": sum(sizes.values()),
        "tensor_bytes": sum(sizes[one] for one in files if one.suffix == ".safetensors"),
    }


def _step(gauge: Gauge, own: Contender) -> dict[str, Any]:
    head = contender(HEAD, gauge.yardstick.model, gauge.yardstick.head)
    times = step_times([own, gauge.frozen_host(), head], gauge.batches, seconds=gauge.seconds)
    return {
        **_times(times[OWN]),
        "ratio_to_frozen_host": times[OWN].ratio[HOST],
        "ratio_to_head_only": times[OWN].ratio[HEAD],
        "frozen_host_seconds": times[HOST].median,
        "head_only_seconds": times[HEAD].median,
    }


def _memory(gauge: Gauge, own: Contender) -> dict[str, Any]:
    batch = gauge.batches[0]
    found: dict[str, Any] = {}
    for name, one in (("bytes", own), ("frozen_host_bytes", gauge.frozen_host())):
        with one.place() as parameters:
            if gauge.device.startswith("cuda"):
                found[name] = peak_bytes(one.model, parameters, batch)
            else:
                found[name] = saved_bytes(one.model, batch)
    found["what"] = "peak of the CUDA allocator" if gauge.device.startswith("cuda") else "saved for backward"
    found["ratio_to_frozen_host"] = found["bytes"] / found["frozen_host_bytes"] if found["frozen_host_bytes"] else None
    return found


def _flops(gauge: Gauge, technique: Any, key: str) -> Mapping[str, Any]:
    if key not in gauge.flops:
        model = gauge.classifier.fresh(0, gauge.device)
        seen = eager(model)
        head = [one for name, one in model.named_parameters() if name in gauge.classifier.head]
        attached = gauge.attach(model, technique, seed=0)
        if attached.waiting:
            attached.begin(gauge.batches)
        trainable(model, attached, head)
        own = count_flops(model, gauge.batches[0])
        plain = _host_flops(gauge)
        gauge.flops[key] = {
            "forward_per_token": own.forward,
            "backward_per_token": own.backward,
            "step_per_token": own.step,
            "ratio_to_frozen_host": own.step / plain.step if plain.step else None,
            "attention": "eager" if seen else "as the host computes it; fused kernels may be missed",
        }
    return gauge.flops[key]


def _host_flops(gauge: Gauge) -> Flops:
    yardstick = Yardstick(gauge.classifier, gauge.device)
    eager(yardstick.model)
    with yardstick.bottom():
        return count_flops(yardstick.model, gauge.batches[0])


def _inference(gauge: Gauge, own: Contender, attached: Attached) -> dict[str, Any]:
    host = contender(HOST, gauge.yardstick.model, gauge.yardstick.head)
    times = inference_times([own, host], gauge.batches, seconds=gauge.seconds / 2)
    found: dict[str, Any] = {
        "unmerged": _times(times[OWN]),
        "unmerged_ratio_to_host": times[OWN].ratio[HOST],
        "host_seconds": times[HOST].median,
        "merged": None,
        "merged_ratio_to_host": None,
        "merge_error": None,
    }
    if not attached.mergeable:
        return found
    before = _logits(own.model, gauge.batches[0])
    attached.merge()
    try:
        after = _logits(own.model, gauge.batches[0])
        merged = inference_times([own, host], gauge.batches, seconds=gauge.seconds / 2)
    finally:
        attached.unmerge()
    found["merged"] = _times(merged[OWN])
    found["merged_ratio_to_host"] = merged[OWN].ratio[HOST]
    found["merge_error"] = float((after - before).abs().max())
    return found


@torch.no_grad()
def _logits(model: Any, batch: Batch) -> torch.Tensor:
    model.eval()
    logits: torch.Tensor = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
    return logits.float()


def _times(times: Times) -> dict[str, Any]:
    plain = asdict(times)
    return {"seconds": plain["median"], "low": plain["low"], "high": plain["high"], "rounds": plain["rounds"]}
