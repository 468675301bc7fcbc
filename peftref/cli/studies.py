"""Commands that train: compare techniques, report on a study, and the demonstration that needs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftref.cli.options import Settings, SomeNames
from peftref.cli.output import interruptible, print_table
from peftref.core.quiet import error_stream

Seeds = Annotated[int, typer.Option("--seeds", min=1, help="runs per technique, each with its own seed")]
Steps = Annotated[
    int, typer.Option("--steps", min=1, help="optimizer steps of a run; a third of them for each learning rate")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="folder of the study; ./peftref-runs/ID where none is given")
]


def compare(
    names: SomeNames = None,
    host: Annotated[
        str | None,
        typer.Option("--host", "-H", help="a folder or Hugging Face name; the offline host where none is given"),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="a task's name or YAML file")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="a folder or file with the task's rows (tsv, csv, jsonl, parquet)"),
    ] = None,
    seeds: Seeds = 3,
    steps: Steps = 300,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", "-b", help="size every technique to so many trained parameters: 0.5% of the host, or 20k"
        ),
    ] = None,
    lrs: Annotated[
        str | None, typer.Option("--lrs", help="learning rates to choose from, the same for all: 3e-4,1e-3,3e-3")
    ] = None,
    settings: Settings = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="samples in a batch")] = 32,
    out: Out = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1; a GPU where there is one")] = None,
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="measure times, FLOPs and memory too")
    ] = True,
) -> None:
    """Train techniques on a host for a task, evaluate and measure them, and write a report; the same command again goes on."""
    from peftref.design.defaults import defaults
    from peftref.design.given import rates, several_entrants
    from peftref.study.compare import LRS
    from peftref.study.compare import compare as compared

    chosen, left = several_entrants(names or defaults().compare, settings or ())
    for note in left:
        print(f"note: {note}", file=error_stream())
    with interruptible():
        result = compared(
            chosen,
            host=host,
            task=task,
            data=data,
            seeds=seeds,
            steps=steps,
            budget=budget,
            lrs=rates(lrs) if lrs else LRS,
            batch_size=batch_size,
            out=out,
            device=device,
            measured=measured,
        )
    _tell(result.folder)


def report(folder: Annotated[Path, typer.Argument(help="the folder of a study")]) -> None:
    """Print the comparison table of a study again, and write its report from its records alone."""
    _tell(folder)


def demo(seeds: Seeds = 3, steps: Steps = 200, out: Out = None) -> None:
    """Compare the founding techniques with no network and no files: a host pretrained on the spot, and a task made by a grammar."""
    from peftref.study.compare import compare as compared

    with interruptible():
        result = compared(seeds=seeds, steps=steps, out=out)
    _tell(result.folder)


def _tell(folder: Path) -> None:
    from peftref.report.study import comparison, read_findings, write_report

    paths = write_report(folder)
    print_table(comparison(read_findings(folder)))
    print()
    for path in paths:
        print(f"report: {path}")
    print(f"records: {folder / 'runs'}")
