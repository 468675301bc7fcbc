"""One of two processes on the CPU that train together: `python -m tests.integrations.pair FOLDER RANK CASES`, with gloo.

CASES is a list in JSON of [way, technique, family]. The first process writes what each gave into FOLDER, as safetensors and JSON.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import distributed as dist

from peftref.modules.attached import Attached
from peftref.modules.restore import refill
from peftref.modules.state.sharded import whole
from tests.integrations.common import ROWS, Trained, batches, host, optimizer, own, stand

Case = tuple[str, str, str]


def half(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """This process's half of a batch."""
    size, rank = ROWS // 2, dist.get_rank()
    return {key: value[rank * size : (rank + 1) * size] for key, value in given.items()}


def steps(model: Any, chosen: Any, family: str, backward: Callable[[torch.Tensor], None], skip: int = 0) -> list[float]:
    """The steps of the bare loop, each process with its half of the batch; skip: how many were done before."""
    losses = []
    model.train()
    for each in list(batches(family))[skip:]:
        loss = model(**half(each)).loss
        backward(loss)
        chosen.step()
        chosen.zero_grad()
        mean = loss.detach() / dist.get_world_size()
        dist.all_reduce(mean)
        losses.append(float(mean))
    return losses


def ddp(technique: str, family: str, folder: Path) -> tuple[list[float], Attached]:
    """accelerate with two processes: data in parallel."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    attached = stand(host(family), technique)
    model, chosen = accelerator.prepare(attached.model, optimizer(attached))
    assert type(model).__name__ == "DistributedDataParallel"
    return steps(model, chosen, family, accelerator.backward), attached


def fsdp(technique: str, family: str, folder: Path) -> tuple[list[float], Attached]:
    """FSDP2: every layer sharded, then the host with what is attached; saved by both, and taken again."""
    from torch.distributed.fsdp import fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    model = host(family)
    attached = stand(model, technique)
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(hasattr(each, "full_tensor") for each in model.parameters())
    chosen = optimizer(attached)
    losses = steps(model, chosen, family, torch.Tensor.backward)
    place = attached.save(folder / f"{technique}-{family}")
    kept = [whole(each.detach()).clone() for each in attached.parameters()]
    with torch.no_grad():
        for each in attached.parameters():
            each.zero_()
    refill(attached, place)
    for one, other in zip(attached.parameters(), kept, strict=True):
        assert torch.equal(whole(one.detach()), other)
    return losses, attached


WAYS: dict[str, Callable[[str, str, Path], tuple[list[float], Attached]]] = {"DDP": ddp, "FSDP2": fsdp}


def run(folder: Path, rank: int, cases: Sequence[Case]) -> None:
    """Trains every case together with the other process."""
    torch.set_num_threads(1)
    for way, technique, family in cases:
        name = f"{way}-{technique}-{family}"
        try:
            before = own(host(family))
            losses, attached = WAYS[way](technique, family, folder)
            values = {copy.name: whole(attached.module.leaf(copy.name).detach()) for copy in attached.module.copies}
            after = {key: whole(value).clone() for key, value in own(attached.model).items()}
            wrong = [key for key, value in before.items() if not torch.equal(after[key], value)]
            result: dict[str, Any] = {"losses": losses, "changed": wrong}
            if rank == 0:
                save_file({key: value.contiguous() for key, value in values.items()}, folder / f"{name}.safetensors")
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}", "where": traceback.format_exc()}
        (folder / f"{name}-{rank}.json").write_text(json.dumps(result))
        dist.barrier()


def train(cases: Sequence[Case], folder: Path) -> dict[Case, Trained | str]:
    """Trains the cases in two processes that are started for all of them; what each gave, or why it did not."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    more = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.integrations.pair", str(folder)]
    started = [
        subprocess.Popen(
            [*command, str(rank), json.dumps(cases)],
            env={**os.environ, **more, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [each.communicate(timeout=1200)[1] for each in started]
    assert [each.returncode for each in started] == [0, 0], told
    return {case: _read(folder, case) for case in cases}


def _read(folder: Path, case: Case) -> Trained | str:
    name = "-".join(case)
    found = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    for each in found:
        if "error" in each:
            return f"{each['error']}\n{each['where']}"
        if each["changed"]:
            return f"the host's own weights changed: {each['changed']}"
    return Trained(tuple(found[0]["losses"]), load_file(folder / f"{name}.safetensors"))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    run(Path(sys.argv[1]), int(sys.argv[2]), [tuple(each) for each in json.loads(sys.argv[3])])
    dist.destroy_process_group()
