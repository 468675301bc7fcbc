"""Procedures in transformers' own trainer do what they do in a loop of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tf

import peftref
from peftref.design.load import load
from peftref.modules.attach import attach
from peftref.study.train.loop import Procedures
from tests.hosts.families import build

TECHNIQUE: dict[str, Any] = {"r": 5, "target": 2, "warmup": 2, "final": 2, "interval": 2, "orthogonal": 0.1}
ROWS = [{"input_ids": torch.arange(i, i + 6) + 3, "labels": torch.tensor(i % 2)} for i in range(16)]


def test_the_trainer_takes_the_components_that_a_loop_takes(tmp_path: Path) -> None:
    made = {}
    for way in ("trainer", "loop"):
        model = build("bert", "SequenceClassification", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        attached = attach(model, load("adalora", **TECHNIQUE))
        calls: Procedures = attached
        if way == "trainer":
            arguments = tf.TrainingArguments(
                str(tmp_path), max_steps=12, per_device_train_batch_size=4, learning_rate=0.1, optim="sgd",
                lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], save_strategy="no", use_cpu=True, seed=0,
                disable_tqdm=True, logging_strategy="no",
            )  # fmt: skip
            seen: list[dict[str, torch.Tensor]] = []
            model.register_forward_pre_hook(
                lambda module, args, kwargs, seen=seen: seen.append(dict(kwargs)), with_kwargs=True
            )
            tf.Trainer(model, arguments, train_dataset=ROWS, callbacks=[peftref.ProcedureCallback(calls)]).train()
            assert attached.notes == {"steps": 12, "lr": 0.1, "batch_size": 4, "seed": 0}
        else:
            model.train()
            for step, batch in enumerate(seen, 1):
                (model(**batch).loss + calls.penalty()).backward()
                with torch.no_grad():
                    for parameter in attached.parameters():
                        assert parameter.grad is not None
                        parameter -= 0.1 * parameter.grad
                calls.step(step, len(seen))
                model.zero_grad()
        made[way] = {c.name: attached.module.leaf(c.name).detach().clone() for c in attached.module.copies}
    assert len(seen) == 12
    for name, value in made["loop"].items():
        torch.testing.assert_close(made["trainer"][name], value, rtol=1e-4, atol=1e-6)
    assert sum(int((value == 0).sum()) for value in made["loop"].values()) == 3 * 4
