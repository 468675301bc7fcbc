"""Commands that draw and write for readers: a technique's drawing, and the atlas of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftref.cli.options import Name, Settings, SomeNames
from peftref.cli.output import interruptible
from peftref.core.quiet import error_stream


def draw(
    technique: Name,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the SVG file; printed where none is given")] = None,
    settings: Settings = None,
) -> None:
    """Draw a technique in the transformer block, as SVG: peftref draw lora --out lora.svg."""
    from peftref.design.given import given
    from peftref.design.write import write_whole
    from peftref.report.atlas.diagram import diagram

    text = f"{diagram(given(technique, settings or ()))}\n"
    if out is None:
        print(text, end="")
    else:
        print(f"drawn: {write_whole(out, text.encode(), replace=out.suffix == '.svg')}")


def atlas(
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder to write; an atlas in it is replaced")],
    names: SomeNames = None,
) -> None:
    """Write a static site about techniques, to be read in a browser, offline too: peftref atlas --out atlas."""
    from peftref.design.given import given
    from peftref.design.load import techniques
    from peftref.report.atlas.site import atlas_files, check_place, write_atlas
    from peftref.study.progress import progress

    check_place(out)
    chosen = [given(name) for name in names] if names else techniques()
    with interruptible(), progress(error_stream().isatty()) as bars:
        bars.start(len(chosen), "atlas")
        files = atlas_files(chosen, lambda name: bars.skip(1))
        index = write_atlas(files, out)
    print(f"atlas of {len(chosen)} techniques: {index}")
