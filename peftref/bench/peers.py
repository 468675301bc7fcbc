"""Side by side with installed peft: step times in turn in one process, and bytes saved for backward, on the same seeded host.

`python -m peftref.bench.peers` prints a table; what peft calls a technique stands in the technique's own file.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftref.bench.machine import environment, pick_device
from peftref.bench.memory import saved_bytes
from peftref.bench.timing import Batch, Contender, contender, step_times
from peftref.bench.yardstick import Yardstick
from peftref.compile.attach import attach
from peftref.design.load import load, techniques
from peftref.design.technique import Technique
from peftref.exchange.peft import LIBRARY, config
from peftref.host.presets import preset_config
from peftref.host.resolve import resolve
from peftref.train.classifier import Classifier, head_names


@dataclass(frozen=True, slots=True)
class Setup:
    """A host to measure on: its name, its config, samples and tokens, precision and device."""

    name: str
    config: Any
    batch: int = 8
    length: int = 64
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    compiled: bool = False


def known() -> tuple[str, ...]:
    """The techniques that peft has too."""
    return tuple(technique.name for technique in techniques() if LIBRARY in technique.peers)


def configs() -> dict[str, Any]:
    """The hosts by name: a BERT base, a llama-like host of four layers of 512, and a 1B-class llama."""
    from transformers import LlamaConfig

    small = LlamaConfig(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=8,
        vocab_size=8192, pad_token_id=0,
    )  # fmt: skip
    return {"bert-base": preset_config("bert-base"), "llama-4x512": small, "llama-1b": preset_config("llama-3.2-1b")}


def measure(setup: Setup, chosen: Sequence[Technique], *, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """One record per technique, as soon as it is there: step times here, in peft and of the frozen host, and bytes saved for backward.

    All models begin from the same seeded weights; the head is trained in each.
    """
    base = _model(setup)
    batch = _batch(setup)
    for number, technique in enumerate(chosen):
        print(f"{setup.name}: {technique.name} ({number + 1} of {len(chosen)})", file=sys.stderr, flush=True)
        yield _one(setup, technique, base, batch, rounds, seconds)


def _one(setup: Setup, technique: Technique, base: Any, batch: Batch, rounds: int, seconds: float) -> dict[str, Any]:
    own = _own(technique, base, setup)
    models: dict[str, Any] = {"peftref": own}
    problem = None
    try:
        models["peft"] = _theirs(technique, base)
        models["peft"](**batch).loss.backward()
        models["peft"].zero_grad(set_to_none=True)
    except Exception as error:  # a peer that cannot run the host is a result too
        models.pop("peft", None)
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    saved = {name: saved_bytes(model, batch) for name, model in models.items()}
    called = {name: torch.compile(model) if setup.compiled else model for name, model in models.items()}
    stand = Yardstick(Classifier(base, head_names(base), True), setup.device)
    racing = [contender(name, model, _trained(models[name])) for name, model in called.items()]
    racing.append(Contender("frozen", stand.model, stand.bottom))
    times = step_times(racing, [batch], warm_up=3, rounds=rounds, seconds=seconds)
    return {
        "technique": technique.name,
        "host": setup.name,
        "trained": sum(one.numel() for one in _trained(own)),
        "trained_peft": sum(one.numel() for one in _trained(models["peft"])) if "peft" in models else None,
        "seconds": times["peftref"].median,
        "seconds_peft": times["peft"].median if "peft" in times else None,
        "ratio_to_peft": times["peftref"].ratio.get("peft"),
        "ratio_to_frozen_host": times["peftref"].ratio["frozen"],
        "saved": saved["peftref"],
        "saved_ratio": saved["peftref"] / saved["peft"] if "peft" in saved else None,
        "rounds": times["peftref"].rounds,
        "problem": problem,
    }


def _model(setup: Setup) -> Any:
    from transformers import AutoModelForSequenceClassification as Auto

    torch.manual_seed(0)
    return Auto.from_config(setup.config).to(setup.device, setup.dtype).eval()


def _batch(setup: Setup) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, setup.config.vocab_size, (setup.batch, setup.length), generator=generator)
    labels = torch.arange(setup.batch) % 2
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: tensor.to(setup.device) for name, tensor in found.items()}


def _own(technique: Technique, base: Any, setup: Setup) -> Any:
    model = copy.deepcopy(base)
    attach(model, technique, batch=setup.batch, length=setup.length)
    for name in head_names(base):
        model.get_parameter(name).requires_grad_(True)
    return model


def _theirs(technique: Technique, base: Any) -> Any:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, TaskType, get_peft_model

    fields = config(technique, resolve(base))
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(fields.pop("peft_type"))]
    return get_peft_model(copy.deepcopy(base), kind(task_type=TaskType.SEQ_CLS, **fields))


def _trained(model: Any) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def main() -> None:
    """Measures and prints; `--json` writes the records with versions and hardware."""
    parser = argparse.ArgumentParser(prog="python -m peftref.bench.peers", description=main.__doc__)
    parser.add_argument("--host", action="append", choices=[*configs()], help="default: bert-base and llama-4x512")
    parser.add_argument("--technique", action="append", help="default: all that peft has")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=120.0, help="at most, for one technique")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", help="file for the records")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = pick_device(given.device)
    chosen = [load(name) for name in given.technique or known()]
    records: list[dict[str, Any]] = []
    hosts = configs()
    for name in given.host or ["bert-base", "llama-4x512"]:
        setup = Setup(name, hosts[name], dtype=getattr(torch, given.dtype), device=device, compiled=given.compile)
        try:
            for record in measure(setup, chosen, rounds=given.rounds, seconds=given.seconds):
                records.append(record)
        except KeyboardInterrupt:
            print("interrupted; what was measured until then:", file=sys.stderr)
            break
    from peftref.report.peers import peers_table
    from peftref.report.table import to_markdown

    print(to_markdown(peers_table(records)))
    place = environment(device)
    print(json.dumps(place))
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"environment": place, "records": records}, file, indent=1)


if __name__ == "__main__":
    main()
