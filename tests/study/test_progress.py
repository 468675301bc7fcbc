"""Progress without a terminal: a line for each finished run, with the time that is left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from peftref.study.progress import Lines


def test_the_time_left_follows_the_steps_that_were_worked() -> None:
    stream, times = io.StringIO(), iter([0.0, 10.0, 10.0, 40.0])
    bar = Lines(stream, clock=lambda: next(times))
    bar.start(100, "2 techniques: folder")
    bar.skip(40)
    with bar.run("lora seed 0", 10):
        pass
    bar.more(20)
    with bar.run("ia3 seed 0", 30):
        pass
    assert stream.getvalue().splitlines() == [
        "2 techniques: folder",
        " 50%  lora seed 0: 10 s; 50 s left",
        " 67%  ia3 seed 0: 30 s; 40 s left",
    ]


def test_a_piped_study_says_each_run(tiny_host: Path, small_data: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "peftref", "compare", "bitfit", "ia3", "--host", str(tiny_host)),
        *("--data", str(small_data), "--seeds", "2", "--steps", "3", "--lrs", "1e-2", "--no-measure", "--out", "study"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *runs = done.stderr.splitlines()
    assert first.startswith("bitfit, ia3 on ")
    assert len(runs) == 4
    assert all(each.endswith(" left") for each in runs)
    assert runs[-1].startswith("100%")
