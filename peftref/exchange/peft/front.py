"""What peft puts in front of a host's input or of its keys: it wraps the whole model, has to be told what kind that is, and may
keep what is computed of the leaves in place of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from peftref.core.problem import PeftrefError, Problem
from peftref.design.insertion import insertions
from peftref.design.peer import Peer
from peftref.design.technique import Technique
from peftref.exchange.checkpoint import Checkpoint
from peftref.exchange.fold import kept_as
from peftref.exchange.host_model import TASKS
from peftref.exchange.peft.standing import LIBRARY, host_fields, in_stack, misplaced
from peftref.host.host import Host

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def front_fields(kind: str, model: PreTrainedModel) -> Mapping[str, Any]:
    """The fields that say what the model is, for a type of peft that is put in front; nothing for any other.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9))
    >>> front_fields("PROMPT_TUNING", tiny), front_fields("LORA", tiny)
    ({'task_type': 'FEATURE_EXTRACTION'}, {})
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, PromptLearningConfig

    if not issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)], PromptLearningConfig):
        return {}
    return {"task_type": _task(model)}


def in_front(checkpoint: Checkpoint, base: Technique, host: Host, model: PreTrainedModel) -> Technique:
    """The technique that a checkpoint is, where peft has it.

    Raises PeftrefError with all of `peer-differs` for a host of other sizes, or on which peft computes something else, and
    `peer-field` for a field that says something else of the host's stacks.
    """
    technique = as_there(base, host, model)
    peer, problems = base.peers[LIBRARY], list(misplaced(technique, host, base.peers[LIBRARY]))
    for field, value in host_fields(technique, host, peer).items():
        found = checkpoint.fields.get(field)
        if found in (None, value) or field == peer.spare:
            continue
        problems.append(Problem("peer-differs", f"{field} is {found} in the checkpoint, and {value} on this host"))
    if problems:
        raise PeftrefError(problems)
    return kept_as(technique, peer.folds) if peer.folds else technique


def times(checkpoint: Checkpoint, peer: Peer) -> int:
    """How many times over peft keeps the tensors of a checkpoint; it reads the first alone."""
    found = checkpoint.fields.get(peer.spare) if peer.spare else None
    return found if type(found) is int and found > 1 else 1


def as_there(technique: Technique, host: Host, model: PreTrainedModel) -> Technique:
    """The technique in the stack in which peft has it, and in front of what the task head reads where peft has it there."""
    found = in_stack(technique, host)
    if not _head_reads(host, model):
        return found
    named = {each.stays: True for each in found.insert if isinstance(each.stays, str)}
    return found.with_settings(**named)


def unread(technique: Technique, host: Host, model: PreTrainedModel) -> Iterator[Problem]:
    """A model that peft cannot call, and what is taken off a sequence again before the head of the task, which peft lets read it."""
    peer, task = technique.peers[LIBRARY], _task(model)
    if peer.tasks and task not in peer.tasks:
        yield Problem("peer-refuses", f"a model of {LIBRARY}'s task {task} cannot be called with {peer.type}")
    for insertion in insertions(technique):
        if "embedding" in insertion.effects and not insertion.stays and _head_reads(host, model):
            text = f"in {LIBRARY} the head reads the first row of {technique.name}, and here the first token"
            yield Problem("peer-differs", text, hint="attach it with stays=true")


def _head_reads(host: Host, model: PreTrainedModel) -> bool:
    """Whether a task head reads the first place of a sequence."""
    return len(host.stacks) == 1 and not host.stacks[0].causal and _task(model) == "SEQ_CLS"


def _task(model: PreTrainedModel) -> str:
    import transformers

    for task, name in TASKS.items():
        classes = getattr(transformers, name)._model_mapping.get(type(model.config), ())
        if isinstance(model, classes):
            return task
    return "FEATURE_EXTRACTION"
