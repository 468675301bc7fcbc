"""`transformers.Trainer`: the same training as a bare loop, with evaluation, checkpoints that hold the module, and resumption."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from peftref.core.problem import PeftrefError
from peftref.modules.attached import Attached
from peftref.study.train.checkpoints import ModuleCallback
from tests.integrations.common import (
    LENGTH,
    ROWS,
    STEPS,
    Trained,
    Way,
    batch,
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

torch.set_num_threads(1)


def arguments(folder: Path, **more: Any) -> tf.TrainingArguments:
    """Settings of the trainer under which it does what the bare loop does."""
    given: dict[str, Any] = {
        "max_steps": STEPS, "per_device_train_batch_size": ROWS, "max_grad_norm": 0.0, "report_to": [], "use_cpu": True,
        "seed": 0, "disable_tqdm": True, "logging_steps": 1, "logging_strategy": "steps", "save_strategy": "no",
        "lr_scheduler_type": "constant",
    }  # fmt: skip
    return tf.TrainingArguments(str(folder), **given | more)


class Ordered(tf.Trainer):  # type: ignore[misc]  # transformers is not typed
    """The trainer, which takes the examples in their order."""

    def _get_train_sampler(self, *args: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer(model: Any, attached: Attached, family: str, given: tf.TrainingArguments, **more: Any) -> Ordered:
    """A trainer that takes the examples of a host in their order, with the optimizer of the bare loop."""
    chosen = optimizer(attached)
    constant = torch.optim.lr_scheduler.LambdaLR(chosen, lambda step: 1.0)
    return Ordered(
        model, given, train_dataset=rows(family), eval_dataset=rows(family, 4), data_collator=batch,
        optimizers=(chosen, constant), callbacks=[ModuleCallback(attached, **more)],
    )  # fmt: skip


@cache
def scale(family: str, parts: int = 1) -> float:
    """By what transformers multiplies the loss of a host that stands alone; parts: of a batch, over which it accumulates.

    It divides by the number of labels where it takes the host for one that does so itself, and some hosts do not.
    """
    model = host(family)
    with torch.no_grad():
        alone = float(model.train()(**batch(rows(family, ROWS))).loss)
    with tempfile.TemporaryDirectory() as folder:
        given = arguments(
            Path(folder), max_steps=1, learning_rate=0.0, per_device_train_batch_size=ROWS // parts,
            gradient_accumulation_steps=parts,
        )  # fmt: skip
        made = Ordered(model, given, train_dataset=rows(family), data_collator=batch)
        made.train()
    counted = losses(made)[0] / alone
    return next(each for each in (1.0, 2.0, 1 - 1 / LENGTH) if abs(each - counted) < 1e-3)


def losses(made: Ordered) -> tuple[float, ...]:
    return tuple(each["loss"] for each in made.state.log_history if "loss" in each)


def trains(technique: str, family: str, folder: Path) -> None:
    """Training with evaluation gives what the bare loop gives; resumed training gives what uninterrupted training gives."""
    model = host(family)
    attached = stand(model, technique)
    before = own(model)
    given = arguments(folder, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    made = trainer(model, attached, family, given)
    made.train()
    measure = reference(technique, family, scale(family))
    measure.near(Trained(losses(made), values(attached)), rtol=2e-4, atol=2e-4)  # losses are logged in four digits
    same(own(model), before)
    assert [each["step"] for each in made.state.log_history if "eval_loss" in each] == [2, 4]
    checkpoint = folder / "checkpoint-2"
    assert {path.name for path in (checkpoint / "peftref" / "default").iterdir()} == {
        "module.json", "module.safetensors", "technique.yaml",
    }  # fmt: skip
    resumed = host(family)
    again = stand(resumed, technique)
    other = trainer(resumed, again, family, given)
    other.train(resume_from_checkpoint=str(checkpoint))
    same(values(again), values(attached))
    same(own(resumed), before)


def accumulates(technique: str, family: str, folder: Path) -> None:
    """Accumulated gradients, with checkpointing, give what the bare loop gives."""
    model = host(family)
    attached = stand(model, technique)
    given = arguments(
        folder, per_device_train_batch_size=ROWS // 2, gradient_accumulation_steps=2, gradient_checkpointing=True
    )
    made = trainer(model, attached, family, given)
    made.train()
    measure = reference(technique, family, scale(family, 2))
    measure.near(Trained(losses(made), values(attached)), rtol=5e-4, atol=5e-4)


WAYS: dict[str, Way] = {"Trainer, evaluated and resumed": trains, "Trainer, accumulated and checkpointed": accumulates}


@pytest.mark.parametrize(
    ("way", "technique", "family"), [(way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i)]
)
def test_it_trains(way: str, technique: str, family: str, tmp_path: Path) -> None:
    WAYS[way](technique, family, tmp_path)


def test_the_best_module_is_there_at_the_end(tmp_path: Path) -> None:
    """A rate at which it gets worse: the best module is the first one, and it is brought back."""
    model = host("bert")
    attached = stand(model, "lora")
    given = arguments(
        tmp_path, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True
    )
    made = trainer(model, attached, "bert", given)
    for group in made.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = -1.0
    made.lr_scheduler.base_lrs = [-1.0]
    made.train()
    assert made.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    best = made.evaluate()["eval_loss"]
    assert best == min(each["eval_loss"] for each in made.state.log_history if "eval_loss" in each)
    record = json.loads((tmp_path / "checkpoint-1" / "peftref" / "default" / "module.json").read_text())
    assert record["technique"] == "lora"


def test_a_checkpoint_from_elsewhere_is_named(tmp_path: Path) -> None:
    """A folder of the same step of another training is not taken for it; where it is named, it is taken."""
    model = host("bert")
    attached = stand(model, "lora")
    for name in ("one", "two"):
        given = arguments(tmp_path / name, save_strategy="steps", save_steps=2)
        trainer(model, attached, "bert", given).train()
    moved = tmp_path / "moved"
    (tmp_path / "one" / "checkpoint-2").rename(moved)
    fresh = stand(host("bert"), "lora")
    given = arguments(tmp_path / "two", save_strategy="no")
    with pytest.raises(PeftrefError, match="resume-place"):
        trainer(fresh.model, fresh, "bert", given).train(resume_from_checkpoint=str(moved))
    found = stand(host("bert"), "lora")
    trainer(found.model, found, "bert", given, resume=moved).train(resume_from_checkpoint=str(moved))
    reference("lora", "bert").near(Trained(reference("lora", "bert").losses, values(found)))
