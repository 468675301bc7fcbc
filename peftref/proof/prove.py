"""Prove the slots of a host by behaviour, on a small random instance of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from peftref.core.problem import fail
from peftref.host.host import Host
from peftref.host.locate.resolve import read_config
from peftref.host.site import Site
from peftref.proof.record import Proof

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from peftref.host.locate.resolve import HostLike
    from peftref.proof.instance import Instance
    from peftref.proof.trial import Trial


def prove(host: HostLike, *, model_class: type[PreTrainedModel] | None = None) -> tuple[Proof, ...]:
    """What the slots of a host do when they are changed, one record for each site of a small random instance of it.

    The instance has the host's class and a shrunken config: few layers, narrow widths; a model that is given is not touched.
    A slot of the host that the instance does not have is `untried`. Raises PeftrefError as `peftref.resolve` does, and
    `host-not-run` where no small instance runs.

    >>> from transformers import LlamaConfig
    >>> tiny = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    >>> [(proof.verdict, proof.why) for proof in prove(tiny) if proof.slot == "attention.key"]
    [('proved', 'a change of its output changes key and not query nor value')]
    """
    from peftref.host.locate.read_model import resolve_config
    from peftref.host.observe.build import class_of
    from peftref.proof.instance import instance_of

    config, kind = _described(host, model_class)
    kind = kind or class_of(config)
    whole = resolve_config(config, kind)
    instance = instance_of(config, kind, whole)
    return (*proofs_of(instance), *missing(whole, instance.host))


def proofs_of(instance: Instance) -> tuple[Proof, ...]:
    """One record for each site of an instance."""
    from peftref.proof.trial import Trial

    trial = Trial(instance)
    return tuple(_proof(trial, site) for site in instance.host.sites)


def _described(
    host: HostLike, model_class: type[PreTrainedModel] | None
) -> tuple[PreTrainedConfig, type[PreTrainedModel] | None]:
    """The config of what is given, and the class where it says one."""
    from pathlib import Path

    from peftref.host.presets import preset_config, preset_names

    if isinstance(host, Host):
        if host.name not in preset_names():
            raise fail(
                "host-unknown", f"the host {host.name} carries no config", hint="give the config or the model itself"
            )
        host = host.name
    if isinstance(host, (str, Path)):
        known = str(host) in preset_names()
        return (preset_config(str(host)) if known else read_config(host)), model_class
    if hasattr(host, "named_parameters"):
        return host.config, model_class or type(host)
    return host, model_class


def _proof(trial: Trial, site: Site) -> Proof:
    from peftref.proof.claims import claim

    try:
        holds, why = claim(trial, site)
    except Exception as error:  # what a changed run raises belongs to the record
        holds, why = (
            None,
            f"the changed run stopped: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}",
        )
    verdict = "untried" if holds is None else "proved" if holds else "refuted"
    return Proof(site.slot, site.stack, site.layer, site.path, verdict, why)  # type: ignore[arg-type]


def missing(whole: Host, small: Host) -> Iterator[Proof]:
    """A record for each slot of a stack that the small instance does not have."""
    there = {(site.stack, site.slot) for site in small.sites}
    for site in whole.sites:
        if (site.stack, site.slot) not in there:
            there.add((site.stack, site.slot))
            yield Proof(site.slot, site.stack, site.layer, site.path, "untried", "no small instance that runs has it")
