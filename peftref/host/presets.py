"""Offline presets: the true configs of well-known backbones, with their hosts written out. No torch, no transformers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from peftref.core.data import data_folder
from peftref.core.problem import fail, nearest
from peftref.host.architecture import Frozen
from peftref.host.fold import FoldedHost, unfold
from peftref.host.host import Host

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Recipe(Frozen):
    """What a preset is made from: the class, the model type and the config fields that differ from the type's defaults."""

    title: str
    model_class: str = Field(alias="class")
    model_type: str
    config: dict[str, bool | int | float | str | list[str] | dict[str, int | float | str] | None]


class Preset(Recipe):
    """A recipe with the host that observing its class gives, in compact form."""

    host: FoldedHost


def preset_names() -> tuple[str, ...]:
    """The names of the presets, sorted.

    >>> "bert-base" in preset_names()
    True
    """
    return _names(data_folder("catalog") / "presets")


def load_preset(name: str) -> Host:
    """The host of a preset, from its file alone. Raises PeftrefError `host-unknown` for a name that is none.

    >>> load_preset("bert-base").stacks[0].sizes["d_model"]
    768
    """
    return _host(name)


def preset_config(name: str) -> PreTrainedConfig:
    """The transformers config of a preset, with its class in `architectures`. Imports transformers."""
    from transformers import CONFIG_MAPPING

    preset = read_preset(name)
    return CONFIG_MAPPING[preset.model_type](**preset.config, architectures=[preset.model_class])


def read_preset(name: str) -> Preset:
    """A preset's file as a model. Raises PeftrefError `host-unknown` for a name that is none."""
    if name not in preset_names():
        raise fail(
            "host-unknown",
            f"there is no preset {name!r}",
            notes=(f"presets: {', '.join(preset_names())}",),
            hint=nearest(name, preset_names()),
        )
    text = (data_folder("catalog") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return Preset.model_validate(yaml.load(text, Loader=_Loader))


@cache
def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


@cache
def _host(name: str) -> Host:
    preset = read_preset(name)
    return unfold(preset.host, name, preset.model_type)
