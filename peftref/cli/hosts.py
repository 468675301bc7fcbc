"""Commands about techniques on hosts: what they count, where they stand, how they are computed."""

from __future__ import annotations

from typing import Annotated

import typer

from peftref.cli.options import At, Form, FormOption, HostOption, HostsOption, Json, Name, Names, Settings
from peftref.cli.output import USAGE, as_json, lines, print_table, rich_print


def count(
    names: Names,
    hosts: HostsOption,
    settings: Settings = None,
    at: At = None,
    form: FormOption = Form.rich,
    json: Json = False,
) -> None:
    """Count what techniques train, store and need on one or several hosts, without building anything."""
    from peftref.analyse.count import count as counted
    from peftref.design.given import labels, several
    from peftref.host.locate.resolve import resolve
    from peftref.report.counts import counts_json, counts_table

    techniques, left = several(names, settings or (), at or ())
    there = [resolve(host) for host in dict.fromkeys(hosts)]
    called = labels(names, techniques)
    found = [[counted(technique, host) for host in there] for technique in techniques]
    if json:
        as_json([counts_json(each, label) for label, row in zip(called, found, strict=True) for each in row])
    else:
        print_table(counts_table(called, found, left), form.value)


def slots(
    host: HostOption,
    prove: Annotated[
        bool, typer.Option("--prove", help="change each slot of a small instance and see what follows")
    ] = False,
    json: Json = False,
) -> None:
    """Draw the reference architecture of a host: every slot, its module and sizes, and what the host lacks."""
    if prove:
        _proofs(host, json)
        return
    from peftref.host.locate.resolve import resolve
    from peftref.report.slots import slots_rows, slots_view

    found = resolve(host)
    if json:
        as_json(slots_rows(found))
    else:
        rich_print(slots_view(found))


def _proofs(host: str, json: bool) -> None:
    from peftref.proof.prove import prove
    from peftref.proof.record import refuted
    from peftref.report.proofs import proofs_json, proofs_table

    proofs = prove(host)
    if json:
        as_json(proofs_json(proofs))
    else:
        print_table(proofs_table(proofs, host))
    if refuted(proofs):
        raise typer.Exit(USAGE)


def explain(
    technique: Name,
    host: HostOption,
    settings: Settings = None,
    at: At = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="samples in a batch")] = 8,
    length: Annotated[int, typer.Option("--length", min=1, help="tokens in a sample")] = 64,
    json: Json = False,
) -> None:
    """Explain how a technique is computed on a host: the form as written, the one chosen, the cost of each, and why."""
    from dataclasses import asdict

    from peftref.analyse.explain import explain as explained
    from peftref.design.given import given
    from peftref.report.technique import explanation_lines

    found = explained(given(technique, settings or (), at or ()), host, batch=batch, length=length)
    if json:
        as_json(asdict(found))
    else:
        lines(explanation_lines(found))
