"""Every model type of transformers, from its default configuration: which slots it has, and what their behaviour proves.

`python -m benchmarks.hosts --json FILE --out docs/hosts.md` goes over all of them, each in a process of its own with a limit
on time and memory. What FILE holds is not done again, so that a run may be broken off and taken up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.hosts_table import figures, table

SECONDS, GIGABYTES = 120, 12
Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Go over the model types that are asked for and write what was found."""
    given = _parser().parse_args(arguments)
    known = read(given.json)
    if given.again:
        known = {name: record for name, record in known.items() if "slots" in record}
    names = given.types or model_types()
    left = [name for name in names if name not in known]
    for at, name in enumerate(left, start=1):
        record = apart(name, whole=not given.small, seconds=given.seconds)
        known[name] = record
        write(given.json, known)
        print(f"{at}/{len(left)} {name}: {said(record)} ({record['seconds']:.1f} s)", flush=True)
    if given.out:
        given.out.write_text(table(tuple(known.values()), versions(), len(model_types())), encoding="utf-8")
    print("\n".join(figures(tuple(known.values()))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description=__doc__)
    parser.add_argument("types", nargs="*", help="model types; all without any")
    parser.add_argument("--json", type=Path, required=True, help="where the records are kept, and taken up again")
    parser.add_argument("--out", type=Path, help="where the table is written")
    parser.add_argument("--again", action="store_true", help="try again those that did not resolve")
    parser.add_argument(
        "--small", action="store_true", help="resolve a shrunken configuration in place of the default one"
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help="what one model type may take")
    return parser


def model_types() -> tuple[str, ...]:
    """The model types of the installed transformers, sorted."""
    from transformers import CONFIG_MAPPING

    return tuple(sorted(CONFIG_MAPPING.keys()))


def versions() -> dict[str, str]:
    """What the records hold for."""
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}


def read(path: Path) -> dict[str, Record]:
    """The records of a file by model type; none where there is no file."""
    return {each["type"]: each for each in json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}


def write(path: Path, records: Mapping[str, Record]) -> None:
    """Write the records, so that a file is never half-written."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(list(records.values()), indent=1), encoding="utf-8")
    part.replace(path)


def said(record: Record) -> str:
    """A record in a few words."""
    if "slots" not in record:
        return str(record["why"])
    count = record["proof"]
    return f"{len(record['slots'])} slots, {count['proved']} proved, {count['refuted']} refuted, {count['untried']} not tried"


def apart(name: str, *, whole: bool, seconds: int) -> Record:
    """The record of a model type, found out in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    started = time.perf_counter()
    child = context.Process(target=_send, args=(there, name, whole, seconds))
    child.start()
    there.close()
    limits = f"it took more than {seconds} s or {GIGABYTES} GB"
    record: Record = {"why": limits}
    with suppress(EOFError):
        record = here.recv()
        if "slots" in record:
            record |= {"proof": _counts(()), "unproved": {"all": f"untried: {limits}"}}
            record |= here.recv()
    child.join()
    return {"type": name, "seconds": time.perf_counter() - started, **record}


def _send(pipe: Any, name: str, whole: bool, seconds: int) -> None:
    import resource

    signal.alarm(3 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    for part in found(name, whole=whole):
        pipe.send(part)


def found(name: str, *, whole: bool) -> Iterator[Record]:
    """What is found out about a model type: class, slots and how they were found, then what is proved; else why there is none."""
    from transformers import CONFIG_MAPPING

    from peftref.core.problem import PeftrefError
    from peftref.host.locate.read_model import resolve_config
    from peftref.host.observe.shrink import shrunken

    try:
        config = CONFIG_MAPPING[name]()
    except Exception as error:
        yield {"why": f"its default configuration cannot be made: {_line(error)}", "kind": "not-built"}
        return
    last: Record = {}
    for kind in classes(config):
        try:
            started = time.perf_counter()
            host = resolve_config(config if whole else shrunken(config), kind)
            yield _facts(host, kind, time.perf_counter() - started)
            yield _proved(config, kind, host if whole else None)
            return
        except PeftrefError as error:
            problem = error.problems[0]
            last = last or {"why": problem.text, "kind": problem.code, "class": kind.__name__}
        except Exception as error:
            last = last or {"why": _line(error), "kind": "host-not-run", "class": kind.__name__}
    yield last or {"why": "transformers has no model class for it", "kind": "no-model-class"}


def classes(config: Any) -> tuple[Any, ...]:
    """The classes that the Auto classes build for a config, with a head first, then the bare one."""
    from transformers.models.auto import modeling_auto as auto

    from peftref.core.problem import PeftrefError
    from peftref.host.observe.build import class_of

    chosen: list[Any] = []
    for mapping in _HEADS:
        try:
            kind = getattr(auto, mapping)._model_mapping[type(config)]
        except (KeyError, AttributeError):
            continue
        chosen.append(kind[0] if isinstance(kind, (tuple, list)) else kind)
        break
    with suppress(PeftrefError):
        chosen.append(class_of(config))
    return tuple(dict.fromkeys(chosen))


_HEADS = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForImageTextToText",
    "AutoModelForMaskedLM",
    "AutoModelForImageClassification",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForCausalLM",
    "AutoModelForCTC",
    "AutoModelForAudioClassification",
)


def _proved(config: Any, kind: Any, whole: Any) -> Record:
    """What is proved on a small instance; whole: the host whose slots it should have, where there is one."""
    from peftref.core.problem import PeftrefError
    from peftref.proof.instance import instance_of
    from peftref.proof.prove import missing, proofs_of

    try:
        instance = instance_of(config, kind, whole)
        proofs = (*proofs_of(instance), *(missing(whole, instance.host) if whole else ()))
    except PeftrefError as error:
        return {"proof": _counts(()), "unproved": {"all": f"untried: {error.problems[0].text}"}}
    except Exception as error:
        return {"proof": _counts(()), "unproved": {"all": f"untried: {_line(error)}"}}
    unproved = {
        f"{each.stack}.{each.slot}": f"{each.verdict}: {each.why}" for each in proofs if each.verdict != "proved"
    }
    return {"proof": _counts(proofs), "unproved": unproved}


def _facts(host: Any, kind: Any, resolving: float) -> Record:
    from peftref.host.family import family_of
    from peftref.host.locate.attention import OWN

    core = host.lacks.get("attention.core", "")
    family = family_of(host.model_type)
    cached = any(site.form == "cache" for site in host.sites)
    how = "map" if family and (cached or core == family.why) else "walk" if cached or core == OWN else "probe"
    return {
        "class": kind.__name__,
        "how": how,
        "resolving": resolving,
        "stacks": [[stack.name, stack.n_layers] for stack in host.stacks],
        "slots": list(host.slots()),
        "lacks": dict(host.lacks),
    }


def _counts(proofs: Iterable[Any]) -> dict[str, int]:
    from peftref.proof.record import tally

    count = tally(proofs)
    return {verdict: count[verdict] for verdict in ("proved", "refuted", "untried")}


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


if __name__ == "__main__":
    import torch

    import peftref.host.locate.read_model  # noqa: F401  # so that the processes need not import it each

    torch.set_num_threads(1)
    main()
