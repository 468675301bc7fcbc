"""What needs adapters itself, in an environment of its own: adapters 1.3 pins transformers 4.57, and peftref runs on 5.

`python -m tests.parity.adapters.make` writes the fixtures. `python -m tests.parity.adapters.make check` exports modules from peftref
with random numbers, has adapters load them, and holds the outputs against each other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


def environment(place: Path) -> Path:
    """The Python of an environment that has adapters; it is made where it is missing."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    wanted, mark = (HERE / "requirements.txt").read_text(), place / "requirements.txt"
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
        mark.write_text(wanted)
    return python


def export(folder: Path) -> list[Path]:
    """Exports every case of the fixtures anew, with other numbers, and the output of its host beside each."""
    import torch
    from safetensors.torch import save_file

    from peftref.exchange.adapters.read import read_adapters
    from peftref.exchange.adapters.write import write_adapters
    from tests.double import in_double
    from tests.parity.adapters.hosts import FIXTURES, batch, host
    from tests.parity.test_adapters import CASES

    made = []
    for case in CASES:
        family = case.partition("/")[0]
        model = host(family)
        attached = read_adapters(FIXTURES / case, model, "again")
        torch.manual_seed(4)
        with torch.no_grad():
            for copy in attached.module.copies:
                leaf = attached.module.leaf(copy.name)
                leaf.copy_(leaf.normal_(std=0.3).float())  # adapters loads in single precision
            with in_double():
                out = model(**batch(family))[0]
        made.append(write_adapters(attached, folder / case.replace("/", "-")))
        save_file({"output": out.contiguous()}, made[-1].with_suffix(".safetensors"))
    return made


def main() -> None:
    """Makes the environment and runs the script in it that writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("write", "check"), default="write")
    parser.add_argument("--venv", type=Path, default=Path(".venv-adapters"))
    given = parser.parse_args()
    python = environment(given.venv.resolve())
    with tempfile.TemporaryDirectory() as folder:
        exported = export(Path(folder)) if given.action == "check" else []
        done = subprocess.run([python, HERE / "write.py", given.action, *exported], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
