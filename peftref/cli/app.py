"""The application: its commands by group, and what stands before all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from peftref import __version__
from peftref.cli import atlas, exchange, hosts, studies, techniques

app = typer.Typer(
    name="peftref",
    help="A reference architecture of parameter-efficient finetuning that runs: list, compare and design techniques.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"peftref {__version__}")
        raise typer.Exit


@app.callback()
def options(
    catalog: Annotated[
        list[Path] | None, typer.Option("--catalog", help="a further catalog folder, beside the built-in one and yours")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Options that go before the command."""
    if catalog:
        given = [str(folder) for folder in catalog]
        os.environ["PEFTREF_CATALOG"] = os.pathsep.join([*given, *filter(None, [os.environ.get("PEFTREF_CATALOG")])])


for _command in (
    techniques.list_,
    techniques.show,
    techniques.typology,
    techniques.diff,
    hosts.count,
    hosts.slots,
    hosts.explain,
    techniques.check,
    techniques.new,
    techniques.register,
    atlas.draw,
    atlas.atlas,
    studies.compare,
    studies.report,
    studies.demo,
    exchange.import_,
    exchange.export,
    exchange.inspect,
):
    app.command(name=_command.__name__.rstrip("_"))(_command)
