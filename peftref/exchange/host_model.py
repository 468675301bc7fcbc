"""The live host that a checkpoint was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftref.core.problem import fail
from peftref.core.quiet import silent
from peftref.host.locate.resolve import read_config

TASKS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
"""The classes of transformers that peft's task types stand for."""


def host_model(name: str | Path, task: str | None = None) -> Any:
    """The model of a folder or hub name, in the class of a task type, or else in the one that its config names.

    Raises PeftrefError `host-unknown` where there is no such config, `host-unreachable` where its weights cannot be loaded.
    """
    import transformers

    config = read_config(name)
    named = [each for each in getattr(config, "architectures", None) or () if hasattr(transformers, each)]
    kind = getattr(transformers, TASKS.get(task or "", named[0] if named else "AutoModel"))
    try:
        with silent():
            return kind.from_pretrained(str(name), trust_remote_code=False, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise fail("host-unreachable", f"{name} cannot be loaded: {str(error).splitlines()[0][:200]}") from None
