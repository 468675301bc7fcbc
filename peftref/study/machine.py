"""Where a run took place: versions, processor, threads, device. What a record says about its surroundings."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peftref.core.problem import fail

PACKAGES = ("peftref", "torch", "transformers", "tokenizers", "datasets", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on; "unknown" where one is not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the system gives it, or its architecture."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def pick_device(wanted: str | None) -> str:
    """The device to use: the wanted one, else a GPU where there is one, else the CPU; PeftrefError `no-such-device`."""
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise fail(
            "no-such-device", f"the device '{wanted}' cannot be used: {first}", hint="cpu always works"
        ) from None
    return str(device)


def pin_threads(threads: int | None = None) -> int:
    """Set how many threads torch computes with, and say how many: OMP_NUM_THREADS, or all usable cores, by default."""
    import torch

    given = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(threads or (int(given) if given.isdigit() and int(given) else cores()))
    return torch.get_num_threads()


def environment(device: str) -> dict[str, Any]:
    """Versions and hardware, for a record."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    load = [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "versions": versions(),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "device": device,
        "system": f"{platform.system()} {platform.release()}",
        "load_average": load,
    }
