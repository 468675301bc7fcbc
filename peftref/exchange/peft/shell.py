"""A host's modules a second time, on the same tensors and without anything attached: where peft can build its own module."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peftref.core.problem import fail
from peftref.modules.container import CONTAINER
from peftref.modules.running.override import chain_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@contextmanager
def peft_model(model: PreTrainedModel, fields: Mapping[str, Any], *, apart: bool = False) -> Iterator[PeftModel]:
    """What peft makes of a host by the fields of a config; the host itself is left as it is.

    apart: on a copy of the host's tensors, for what changes them as it begins.
    Raises PeftrefError `peer-refuses` where peft makes nothing of it.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

    given = dict(fields)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(given.pop("peft_type"))]
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                made = get_peft_model(_shell(model, apart), kind(**given))
            except (ValueError, TypeError, AttributeError) as error:
                raise fail("peer-refuses", f"peft refuses this host: {str(error).splitlines()[0]}") from None
        yield made
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trained[name])


def _shell(model: PreTrainedModel, apart: bool) -> PreTrainedModel:
    tensors = () if apart else (*model.parameters(), *model.buffers())
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    found = model._modules.pop(CONTAINER, None)
    chains = [(module, module.__dict__.pop("forward")) for module in model.modules() if chain_of(module)]
    try:
        return copy.deepcopy(model, shared)
    finally:
        for module, chain in chains:
            module.__dict__["forward"] = chain
        if found is not None:
            model._modules[CONTAINER] = found
