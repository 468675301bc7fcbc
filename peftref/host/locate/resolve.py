"""Resolve whatever names a transformer into a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from peftref.core.problem import PeftrefError, fail, nearest
from peftref.host.host import Host
from peftref.host.presets import load_preset, preset_config, preset_names

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    HostLike: TypeAlias = Host | str | Path | PreTrainedConfig | PreTrainedModel


def resolve(host: HostLike, *, model_class: type[PreTrainedModel] | None = None) -> Host:
    """A host from a Host, a preset's name, a local folder, a Hugging Face name, a config or a live model.

    model_class: the class to build, where a config alone leaves it open. A live model with techniques on it is seen as it is
    without them. Raises PeftrefError `host-unknown` for a name that
    is none of these, `host-not-built` and `host-not-run` where the class stops, `host-no-slots` where nothing attends.

    >>> from transformers import LlamaConfig
    >>> tiny = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    >>> resolve(tiny).select(["attention.query"])[0].path
    'layers.0.self_attn.q_proj'
    """
    if isinstance(host, Host):
        return host
    if isinstance(host, (str, Path)):
        return _named(host, model_class)
    from peftref.host.locate.read_model import resolve_config, resolve_model

    if hasattr(host, "named_parameters"):
        known = getattr(host._modules.get("peftref"), "host", None)
        return known if isinstance(known, Host) else resolve_model(host)
    return resolve_config(host, model_class)


def _named(name: str | Path, model_class: type[PreTrainedModel] | None) -> Host:
    if str(name) in preset_names() and model_class is None:
        return load_preset(str(name))
    from peftref.host.locate.read_model import resolve_config

    if str(name) in preset_names():
        return resolve_config(preset_config(str(name)), model_class, str(name))
    return resolve_config(read_config(name), model_class, Path(name).name if Path(name).is_dir() else str(name))


def read_config(name: str | Path) -> PreTrainedConfig:
    """The config of a local folder or of a Hugging Face name; no code of theirs is run. Raises PeftrefError `host-unknown`."""
    from transformers import AutoConfig

    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise fail("host-unknown", f"the folder {name} has no config.json")
    try:
        return AutoConfig.from_pretrained(str(name), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unknown(str(name), error) from error


def _unknown(name: str, error: Exception) -> PeftrefError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return fail(
        "host-unknown",
        f"there is no host {name!r}: it is no preset, no folder with a config.json, and no name that could be looked up",
        notes=(
            f"presets: {', '.join(preset_names())}",
            f"the look-up said: {lines[0] if lines else type(error).__name__}",
        ),
        hint=nearest(name, preset_names()),
    )
