"""Classifiers: same head for the same seed, host untouched, and training that learns."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import transformers as tf

from peftref.study.train.classifier import load_classifier
from peftref.study.train.data import encode
from peftref.study.train.loop import Recipe, evaluate, train
from peftref.study.train.rows import Split
from peftref.study.train.tokenizer import load_tokenizer, word_tokenizer
from tests.hosts.families import CONFIGS, build

WORDS = ["good", "bad", "film", "very", "dull", "fine", "the", "a"]


def data(tmp_path: Path, rows: int = 200) -> tuple[Split, Path]:
    """Texts whose class is whether `good` stands in them, and a folder with a tokenizer."""
    rng = random.Random(0)
    texts = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 9))) for _ in range(rows)]
    word_tokenizer(WORDS, 99).save_pretrained(tmp_path)
    return Split(tuple(texts), (), tuple(int("good" in text.split()) for text in texts)), tmp_path


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "phi3"])
def test_a_seed_makes_the_head_and_leaves_the_host(family: str) -> None:
    live = build(family)
    classifier = load_classifier(live, 3, 0)
    one, same, other = (classifier.fresh(seed) for seed in (0, 0, 1))
    assert classifier.head
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert any(not torch.equal(one.get_parameter(name), other.get_parameter(name)) for name in classifier.head)
    backbone = {key: value for key, value in live.base_model.state_dict().items() if "pooler" not in key}
    for name, tensor in backbone.items():
        assert torch.equal(one.base_model.state_dict()[name], tensor)


def test_a_random_host_says_so() -> None:
    assert load_classifier(CONFIGS["bert"](), 2, 0).random
    assert not load_classifier(build("bert"), 2, 0).random


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_training_learns_and_padding_changes_nothing(family: str, tmp_path: Path) -> None:
    rows, folder = data(tmp_path)
    classifier = load_classifier(build(family), 2, 0)
    tokenizer = load_tokenizer(str(folder), classifier.model.config)
    encoded = encode(rows, tokenizer, 16)
    model = classifier.fresh(0)
    before = evaluate(model, encoded)
    alone = [float(evaluate(model, encode(rows.take([at]), tokenizer, 16)).loss) for at in range(12)]
    together = evaluate(model, encode(rows.take(list(range(12))), tokenizer, 16)).loss
    assert together == pytest.approx(sum(alone) / 12, abs=1e-5)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    found = train(model, model.parameters(), encoded, encoded, Recipe(steps=60, lr=3e-3, eval_every=30), 0)
    assert found.status == "finished"
    assert [point.step for point in found.curve] == [30, 60]
    assert found.curve[-1].dev.accuracy > max(0.95, before.accuracy)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    rows, folder = data(tmp_path, 40)
    model = load_classifier(build("llama"), 2, 0).fresh(0).requires_grad_(True)
    encoded = encode(rows, load_tokenizer(str(folder), model.config), 16)
    found = train(model, model.parameters(), encoded, encoded, Recipe(steps=30, lr=1e12, clip=1e30), 0)
    assert found.status == "diverged"
    assert found.steps < 30


def test_random_state_is_kept(tmp_path: Path) -> None:
    rows, folder = data(tmp_path, 40)
    model = load_classifier(build("bert"), 2, 0).fresh(0).requires_grad_(True)
    encoded = encode(rows, load_tokenizer(str(folder), model.config), 16)
    before = torch.get_rng_state()
    train(model, model.parameters(), encoded, encoded, Recipe(steps=2, lr=1e-3), 7)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    live = build("bert")
    live.save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, 2, 0)
    assert not classifier.random
    for name, tensor in tf.AutoModel.from_pretrained(tmp_path).encoder.state_dict().items():
        assert torch.equal(classifier.model.base_model.encoder.state_dict()[name], tensor)
