"""Commands about saved modules: what one is, and their exchange with other libraries."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from peftref.cli.options import HostOption, Json
from peftref.cli.output import as_json, lines


class Library(StrEnum):
    """A library that modules are exchanged with."""

    peft = "peft"
    adapters = "adapters"


def import_(
    checkpoint: Annotated[
        str, typer.Argument(help="a checkpoint of peft or adapters: a folder or a Hugging Face name")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder that the module is saved in")],
    host: Annotated[
        str | None, typer.Option("--host", "-H", help="the host's folder or name; the one that the checkpoint names")
    ] = None,
) -> None:
    """Import a checkpoint of another library as a saved module."""
    from peftref.core.problem import fail
    from peftref.exchange.checkpoint import read_checkpoint
    from peftref.exchange.host_model import host_model
    from peftref.exchange.libraries import read_module

    found = read_checkpoint(checkpoint)
    base = host or found.host
    if not base:
        raise fail("host-unknown", f"{checkpoint} does not name its host", hint="give it with --host")
    attached = read_module(found, host_model(base, found.fields.get("task_type")))
    print(f"{attached.technique.title}, saved: {attached.save(out)}")


def export(
    module: Annotated[Path, typer.Argument(help="the folder of a saved module")],
    folder: Annotated[Path, typer.Argument(help="the folder to write")],
    host: HostOption,
    to: Annotated[Library, typer.Option("--to", help="the library to write for")] = Library.peft,
    task: Annotated[str | None, typer.Option("--task-type", help="a task type of peft: CAUSAL_LM, SEQ_CLS ...")] = None,
) -> None:
    """Export a saved module as a checkpoint of another library."""
    from peftref.exchange.host_model import host_model
    from peftref.exchange.libraries import write_module
    from peftref.modules.restore import restore

    print(f"written for {to}: {write_module(to, restore(host_model(host, task), module), folder)}")


def inspect(
    folder: Annotated[
        Path, typer.Argument(help="the folder of a saved module, or of a checkpoint of peft or adapters")
    ],
    json: Json = False,
) -> None:
    """Tell what a saved module is: technique, sites, host, versions, how it was trained; every file is checked."""
    from peftref.exchange.checkpoint import CONFIG, read_outline
    from peftref.modules.state.contents import read_contents
    from peftref.report.saved import outline_json, outline_lines, saved_json, saved_lines

    if (folder / CONFIG).is_file():
        outline = read_outline(folder)
        as_json(outline_json(outline)) if json else lines(outline_lines(outline))
    else:
        contents = read_contents(folder)
        as_json(saved_json(contents)) if json else lines(saved_lines(contents))
