"""Choosing a technique for each sample of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from peftref.core.problem import PeftrefError, Problem, fail, nearest
from peftref.modules.container import container
from peftref.modules.running.samples import Samples

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def per_sample(model: PreTrainedModel, names: Sequence[str | None]) -> Iterator[None]:
    """While inside, each sample of a batch is computed as if its technique alone were active; None is the host alone.

    names: one for each sample, in the order of the batch; `model.generate` may make beams or several sequences of each. The samples
    of a technique are taken out of the batch at its sites, so that it computes for these only. Prompts and prefixes of different
    lengths are padded in front, and hidden by the mask. Nothing merged acts inside. The backward pass may be outside, save where
    something was merged or the host's own parameters were trained before.
    Raises PeftrefError `samples` for no names, and in the call where the batch has another size; `detached` for a name that is not
    attached, `samples-tuned` where a technique trains the host's own parameters, which are the same for all samples,
    `samples-chosen` inside another such block; in the call, `samples-layout` where the host mixes samples in a way that cannot be
    told apart, and `samples-length` where it has no mask for samples of different lengths.
    As `adapter_names` of huggingface/peft, which knows it for LoRA and a few more.

    >>> import peftref, torch
    >>> from transformers import LlamaConfig, LlamaModel
    >>> tiny = LlamaModel(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64))
    >>> _ = peftref.attach(tiny, peftref.load("prompt", tokens=2), "a")
    >>> _ = peftref.attach(tiny, peftref.load("lora", r=2), "b")
    >>> with per_sample(tiny, names=["a", None, "b"]):
    ...     tiny(torch.ones(3, 4, dtype=torch.int64)).last_hidden_state.shape
    torch.Size([3, 4, 16])
    """
    modules = container(model)
    modules.refuse_chosen()
    chosen = () if isinstance(names, str) else tuple(names)
    if not chosen:
        raise fail(
            "samples", "no names are given for the samples of a batch", hint="give one name, or None, for each sample"
        )
    problems = []
    samples = Samples(chosen)
    for name in samples.chosen:
        if name not in modules.inserted():
            problems.append(
                Problem("detached", f"no technique named {name} is attached", hint=nearest(name, modules.inserted()))
            )
        elif name in modules.tuned:
            text = f"{name} trains parameters of the host itself, which are the same for every sample"
            problems.append(Problem("samples-tuned", text, hint="make it active for a batch of its own"))
    if problems:
        raise PeftrefError(problems)
    before = modules.active, modules.combine
    modules.active, modules.combine = (), "stack"
    modules.settle(model)
    modules.choose(model, samples)
    try:
        with _expanding(model, samples):
            yield
    finally:
        modules.choose(model, None)
        modules.active, modules.combine = before
        modules.settle(model)


@contextmanager
def _expanding(model: nn.Module, samples: Samples) -> Iterator[None]:
    """While inside, `generate` of a model may have each sample several times in its batch."""
    own: Callable[..., Any] | None = getattr(model, "generate", None)
    if own is None:
        yield
        return
    before = vars(model).get("generate")

    def generate(*args: Any, **kwargs: Any) -> Any:
        samples.expanding = True
        try:
            return own(*args, **kwargs)
        finally:
            samples.expanding = False

    vars(model)["generate"] = generate
    try:
        yield
    finally:
        del vars(model)["generate"]
        if before is not None:
            vars(model)["generate"] = before
