"""Resolve whatever names a transformer into a host."""

from __future__ import annotations

from difflib import get_close_matches
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
    config = None if str(name) in preset_names() else read_config(name)
    from peftref.host.locate.read_model import resolve_config

    if config is None:
        return resolve_config(preset_config(str(name)), model_class, str(name))
    return resolve_config(config, model_class, Path(name).name if Path(name).is_dir() else str(name))


def read_config(name: str | Path) -> PreTrainedConfig:
    """The config of a local folder or of a Hugging Face name; no code of theirs is run. Raises PeftrefError `host-unknown`."""
    if not Path(name).exists() and (meant := _mistyped(str(name))):
        hint = f"did you mean {meant}? A name on the Hugging Face hub is written with its owner: OWNER/NAME"
        raise fail("host-unknown", f"there is no host {name!r}", notes=(_presets(),), hint=hint)
    from transformers import AutoConfig

    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise fail("host-unknown", f"the folder {name} has no config.json")
    try:
        return AutoConfig.from_pretrained(str(name), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unknown(str(name), error) from error


def _mistyped(name: str) -> str | None:
    """The preset that a name is all but equal to, so that nobody waits for the hub to say that it has none of that name.

    >>> _mistyped("roberta_large"), _mistyped("bert-base-uncased")
    ('roberta-large', None)
    """
    plain = name.lower().replace("_", "-").strip()
    if "/" in name or name in preset_names():
        return None
    if plain in preset_names():
        return plain
    close = get_close_matches(plain, preset_names(), n=1, cutoff=0.85)
    return close[0] if close else None


def _presets() -> str:
    return f"presets: {', '.join(preset_names())}"


def _unknown(name: str, error: Exception) -> PeftrefError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return fail(
        "host-unknown",
        f"there is no host {name!r}: it is no preset, no folder with a config.json, and no name that could be looked up",
        notes=(
            _presets(),
            f"the look-up said: {lines[0] if lines else type(error).__name__}",
        ),
        hint=nearest(name, preset_names()),
    )
