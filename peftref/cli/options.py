"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

Names = Annotated[
    list[str],
    typer.Argument(help="techniques: names, YAML files, or with settings: lora:r=4,alpha=8", metavar="TECHNIQUE..."),
]
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(help="techniques; every one in the catalogs where none is named", metavar="[TECHNIQUE...]"),
]
Name = Annotated[
    str, typer.Argument(help="a technique: a name, a YAML file, or with settings: lora:r=4", metavar="TECHNIQUE")
]
HostOption = Annotated[
    str, typer.Option("--host", "-H", help="a preset, a folder with config.json, or a Hugging Face name")
]
HostsOption = Annotated[
    list[str],
    typer.Option(
        "--host", "-H", help="a preset, a folder with config.json, or a Hugging Face name; once for each of several"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="a setting for every technique named that has it: --set r=16")
]

At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", help="a slot where every technique named is to stand, in place of its own: --at embedding.tokens"
    ),
]


class Form(StrEnum):
    """How a table is printed."""

    rich = "rich"
    md = "md"
    latex = "latex"
    csv = "csv"
    json = "json"
    html = "html"


FormOption = Annotated[Form, typer.Option("--format", "-f", help="how to print it")]
