"""Runs the README's commands that need no peer, with the interpreter at hand: `make test-wheel` gives one without extras."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib import util
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def main() -> int:
    """Each command in a process of its own, away from the checkout; 1 where one fails."""
    beyond = [name for name in ("peft", "accelerate", "sklearn", "pytest") if util.find_spec(name)]
    if beyond:
        print(f"this environment has more than the package asks for: {', '.join(beyond)}")
        return 1
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    commands = [line for text in blocks for line in text.strip().splitlines() if line.startswith("peftref ")]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"XDG_CONFIG_HOME": f"{folder}/config", "PEFTREF_CACHE": f"{folder}/cache"}
        for command in commands:
            words = [sys.executable, "-P", "-m", *shlex.split(command)]
            done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            print("ok  " if done.returncode == 0 else "FAIL", command, done.stderr.strip())
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
