"""Commands about techniques: what there is, what one is, how two differ, and how one is written, checked and registered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftref.cli.options import Form, FormOption, Json, Name, Settings, SomeNames
from peftref.cli.output import as_json, lines, print_table


def list_(json: Json = False) -> None:
    """List every technique of all catalogs."""
    from peftref.analyse.rows import catalog_rows
    from peftref.report.table import Column, Table

    found = [
        {
            "name": row.name,
            "title": row.title,
            "year": None if row.year is None else str(row.year),
            "arxiv": row.arxiv,
            "about": row.about,
        }
        for row in catalog_rows()
    ]
    columns = tuple(Column(key, key) for key in ("name", "title", "year", "arxiv", "about"))
    print_table(Table(columns, tuple(found)), "json" if json else "rich")


def show(
    technique: Name,
    settings: Settings = None,
    code: Annotated[bool, typer.Option("--code", help="print the torch code generated for it")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="print its equations as LaTeX")] = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="print its YAML")] = False,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="print its typology with the reason for every cell")
    ] = False,
    host: Annotated[str, typer.Option("--host", "-H", help="the host that --code is for")] = "bert-base",
) -> None:
    """Show a technique: its equation, leaves, settings and source; or its code, LaTeX, YAML or typology."""
    from peftref.design.given import given

    found = given(technique, settings or ())
    if code:
        from peftref.report.code import code_of

        print(code_of(found, host), end="")
    elif latex:
        from peftref.report.technique import technique_latex

        print(technique_latex(found))
    elif yaml:
        print(found.to_yaml(), end="")
    elif reasons:
        from peftref.analyse.typology import typology as rows
        from peftref.report.typology import reasons_table

        print_table(reasons_table(rows([found])[0]))
    else:
        from peftref.report.technique import technique_lines

        lines(technique_lines(found))


def typology(
    names: SomeNames = None,
    form: FormOption = Form.rich,
    everything: Annotated[bool, typer.Option("--all", help="with the columns beside the nine properties")] = False,
) -> None:
    """Print the typology: the properties of techniques, computed from their equations."""
    from peftref.report.typology import typology_table

    if names:
        from peftref.analyse.typology import typology as rows_of
        from peftref.design.given import given

        rows = rows_of([given(name) for name in names])
    else:
        from peftref.analyse.rows import catalog_rows

        rows = catalog_rows()
    print_table(typology_table(rows, all_columns=everything), form.value)


def diff(one: Name, other: Name, json: Json = False) -> None:
    """Name the properties, slots and sub-expressions in which two techniques differ."""
    from dataclasses import asdict

    from peftref.analyse.diff import diff as differences
    from peftref.design.given import given
    from peftref.report.technique import diff_lines

    found = differences(given(one), given(other))
    if json:
        as_json(asdict(found))
    else:
        lines(diff_lines(found))


def check(
    file: Annotated[Path, typer.Argument(help="a technique's YAML file")],
    host: Annotated[str, typer.Option("--host", "-H", help="the host that parameters are counted on")] = "bert-base",
) -> None:
    """Check a technique's file: say all that is wrong with it, or print its facts and its nearest relatives."""
    from peftref.analyse.count import count
    from peftref.analyse.diff import relatives
    from peftref.analyse.rows import catalog_rows
    from peftref.analyse.typology import typology as rows
    from peftref.design.load import read_file
    from peftref.report.counts import counts_table
    from peftref.report.technique import relatives_lines, technique_lines
    from peftref.report.typology import reasons_table

    found = read_file(file)
    lines(technique_lines(found))
    print()
    print_table(reasons_table(rows([found])[0]))
    print_table(counts_table([found.name], [[count(found, host)]]))
    print("nearest relatives:")
    lines(relatives_lines(relatives(found, catalog_rows())))


def new(
    name: Annotated[str, typer.Argument(help="the name of the new technique")],
    base: Annotated[
        str | None,
        typer.Option("--from", help="the technique that it begins as; left out, that of catalog/defaults.yaml"),
    ] = None,
) -> None:
    """Write the commented YAML of a new technique into the current folder."""
    from peftref.design.new import write_new

    path = write_new(name, base)
    print(f"{path}: edit it, then: peftref check {path}")


def register(
    file: Annotated[Path, typer.Argument(help="a technique's YAML file")],
    force: Annotated[bool, typer.Option("--force", help="take the place of your own technique of that name")] = False,
) -> None:
    """Check a technique's file and put it into your own catalog."""
    from peftref.design.register import register as put

    print(f"registered: {put(file, force=force)}")
