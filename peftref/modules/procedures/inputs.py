"""What enters the sites of a technique while batches run through its host: first and second moments over the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.language.rewrite.share import read_by
from peftref.modules.procedures.work import Place, Work, precise
from peftref.modules.running.bare import module_at


@dataclass
class Moments:
    """Sums over the tokens seen: how many, of x [d_in], and of x x^T [d_in, d_in]."""

    tokens: int = 0
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0

    def see(self, x: Tensor) -> None:
        """Adds tokens [n, d_in]."""
        self.tokens += x.shape[0]
        self.first = self.first + x.sum(0)
        self.second = self.second + x.T @ x

    def spread(self, *, centred: bool) -> Tensor:
        """The mean of x x^T [d_in, d_in]; centred: of x without its mean."""
        second, first = torch.as_tensor(self.second), torch.as_tensor(self.first)
        mean = first / self.tokens
        return second / self.tokens - (torch.outer(mean, mean) if centred else 0.0)


def key(place: Place) -> str:
    """Equal for places that read one and the same tensor."""
    return read_by(place.site) if place.site.reads else place.site.path


@torch.no_grad()
def moments(work: Work) -> dict[str, Moments]:
    """The moments of what enters every place, by its key. Tokens that a batch's `attention_mask` leaves out are not counted.

    The host runs in evaluation mode. Raises PeftrefError `no-batches` where no token was seen.
    """
    model = work.model
    assert model is not None
    found = {key(place): Moments() for place in work.places}
    modules = {key(place): module_at(model, place.site.path) for place in reversed(work.places)}
    first = {key(place): place.site.tokens_first for place in work.places}
    device = next(model.parameters()).device
    mask: list[Tensor | None] = [None]

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = precise(args[0] if args else next(iter(kwargs.values())))
            known = mask[0].T if first[name] and mask[0] is not None else mask[0]
            fits = known is not None and known.shape == x.shape[:-1]
            found[name].see(x[known.bool()] if fits and known is not None else x.flatten(0, -2))

        return hook

    handles = [module.register_forward_pre_hook(watch(name), with_kwargs=True) for name, module in modules.items()]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for batch in work.batches:
            moved = _moved(batch, device)
            mask[0] = moved.get("attention_mask")
            model(**moved)
    finally:
        for handle in handles:
            handle.remove()
        for module, was in training.items():
            module.training = was
    if not all(each.tokens for each in found.values()):
        raise fail(
            "no-batches", "there are no tokens in the batches to begin from", hint="give begin(...) some batches"
        )
    return found


def _moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
