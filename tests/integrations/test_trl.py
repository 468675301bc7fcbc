"""TRL's `SFTTrainer` on causal hosts: the same training as a bare loop, checkpoints and resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peftref.study.train.checkpoints import ModuleCallback
from tests.integrations.common import (
    CAUSAL,
    ROWS,
    STEPS,
    Trained,
    Way,
    host,
    optimizer,
    own,
    pairs,
    reference,
    rows,
    same,
    stand,
    values,
)  # fmt: skip
from tests.integrations.test_trainer import scale

torch.set_num_threads(1)
pytest.importorskip("trl")


def tokenizer() -> Any:
    """A tokenizer of 99 words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, 99)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "<pad>")), pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def trainer(model: Any, attached: Any, family: str, folder: Path, **more: Any) -> Any:
    """TRL's trainer, which takes the examples in their order, with the optimizer of the bare loop."""
    import trl
    from datasets import Dataset

    class Ordered(trl.SFTTrainer):  # type: ignore[misc]  # TRL is not typed
        def _get_train_sampler(self, *args: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    given = trl.SFTConfig(
        str(folder), max_steps=STEPS, per_device_train_batch_size=ROWS, max_grad_norm=0.0, report_to=[], use_cpu=True,
        bf16=False, seed=0, disable_tqdm=True, logging_steps=1, save_strategy="steps", save_steps=2, shuffle_dataset=False,
        lr_scheduler_type="constant", **more,
    )  # fmt: skip
    chosen = optimizer(attached)
    constant = torch.optim.lr_scheduler.LambdaLR(chosen, lambda step: 1.0)
    data = Dataset.from_list([{"input_ids": each["input_ids"].tolist()} for each in rows(family)])
    return Ordered(
        model, given, train_dataset=data, processing_class=tokenizer(), optimizers=(chosen, constant),
        callbacks=[ModuleCallback(attached)],
    )  # fmt: skip


def sft(technique: str, family: str, folder: Path) -> None:
    """Supervised finetuning as TRL does it by default: chunked losses, gradient checkpointing; resumed as uninterrupted."""
    model = host(family)
    attached = stand(model, technique)
    before = own(model)
    made = trainer(model, attached, family, folder)
    made.train()
    losses = tuple(each["loss"] for each in made.state.log_history if "loss" in each)
    measure = reference(technique, family, scale(family))
    measure.near(Trained(losses, values(attached)), rtol=5e-4, atol=5e-4)
    same(own(model), before)
    resumed = host(family)
    again = stand(resumed, technique)
    trainer(resumed, again, family, folder).train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    same(values(again), values(attached))


WAYS: dict[str, Way] = {"TRL, SFTTrainer": sft}


@pytest.mark.parametrize(("technique", "family"), pairs(0, CAUSAL))
def test_it_trains(technique: str, family: str, tmp_path: Path) -> None:
    sft(technique, family, tmp_path)
