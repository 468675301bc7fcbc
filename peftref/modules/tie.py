"""Weights that a host uses in several places: their uses, and some of these given weights of their own for a while."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


def uses(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names under which every parameter of a model is used, itself among them, by each of these names.

    >>> head, table = nn.Linear(2, 3, bias=False), nn.Embedding(3, 2)
    >>> head.weight = table.weight
    >>> uses(nn.ModuleDict({"table": table, "head": head}))["head.weight"]
    ('table.weight', 'head.weight')
    """
    found: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), []).append(name)
    return {name: tuple(names) for names in found.values() for name in names}


class Ties:
    """The uses of tied weights that have weights of their own now, each with the parameter that it shared before.

    Where nothing is left tied, the host's config says so, so that whoever loads it later does not tie it again. A config in which
    that would mean more is left as it is; transformers then sees from the checkpoint itself that the weights differ.
    """

    def __init__(self) -> None:
        self.shared: dict[str, nn.Parameter] = {}
        self.configs: list[Any] = []

    def untie(self, model: nn.Module, name: str, value: Tensor) -> None:
        """Gives one use of a tied weight a frozen parameter of its own."""
        owner, own = _owner(model, name)
        shared = owner._parameters[own]
        assert shared is not None
        self.shared[name] = shared
        owner._parameters[own] = nn.Parameter(value.to(shared.dtype), requires_grad=False)

    def tell(self, model: nn.Module) -> None:
        """Lets the config say that the host is not tied, where that is so now."""
        if not self.shared or any(len(names) > 1 for names in uses(model).values()):
            return
        for config in {id(each): each for each in _configs(model)}.values():
            if config.tie_word_embeddings and _says_no_more(config):
                config.tie_word_embeddings = False
                self.configs.append(config)

    def tie(self, model: nn.Module) -> None:
        """Gives every use its shared parameter back, and the config what it said."""
        for name, shared in self.shared.items():
            owner, own = _owner(model, name)
            owner._parameters[own] = shared
        for config in self.configs:
            config.tie_word_embeddings = True
        self.shared.clear()
        self.configs.clear()

    def keep(self) -> None:
        """Leaves the uses apart for good."""
        self.shared.clear()
        self.configs.clear()


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own


def _configs(model: Any) -> list[Any]:
    config: Any = getattr(model, "config", None)
    found = [config, config.get_text_config()] if hasattr(config, "get_text_config") else []
    return [each for each in found if hasattr(each, "tie_word_embeddings")]


def _says_no_more(config: Any) -> bool:
    """Whether a config that says it is not tied is otherwise the same when it is read again."""
    changed = copy.deepcopy(config)
    changed.tie_word_embeddings = False
    again = type(config).from_dict(changed.to_dict())
    return bool(again.to_dict() == changed.to_dict())
