"""Write the host of every preset into its file, by observing its class: `python -m benchmarks.make_presets [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from transformers import CONFIG_MAPPING

from peftref.core.data import data_folder
from peftref.host.fold import FoldedHost, fold
from peftref.host.locate.read_model import resolve_config
from peftref.host.presets import Recipe

MODELINE = "# yaml-language-server: $schema=../../schemas/preset.json"
NOTE = "# title, class, model_type and config are written by hand; host is written by python -m benchmarks.make_presets"


def observed(recipe: Recipe, name: str) -> FoldedHost:
    """The host that observing a recipe's class gives, in compact form."""
    config = CONFIG_MAPPING[recipe.model_type](**recipe.config, architectures=[recipe.model_class])
    return fold(resolve_config(config, name=name))


def written(recipe: Recipe, host: FoldedHost) -> str:
    """The text of a preset's file."""
    head = yaml.safe_dump(recipe.model_dump(by_alias=True), sort_keys=False, width=120)
    facts = host.model_dump(exclude_defaults=True, mode="json")
    body = yaml.safe_dump({"host": facts}, sort_keys=False, width=120, default_flow_style=None)
    return f"{MODELINE}\n{NOTE}\n{head}{body}"


def main(names: list[str]) -> None:
    """Write the presets of these names, all without any."""
    for path in sorted((data_folder("catalog") / "presets").glob("*.yaml")):
        if not names or path.stem in names:
            _rewrite(path)
            print(path.stem)


def _rewrite(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data.pop("host", None)
    recipe = Recipe.model_validate(data)
    path.write_text(written(recipe, observed(recipe, path.stem)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
