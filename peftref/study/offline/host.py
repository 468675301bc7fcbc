"""The offline host: a small llama-like transformer with a word-level tokenizer, pretrained on the grammar's text on first use."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from peftref.core.data import cache_folder
from peftref.core.quiet import silent
from peftref.study.offline.grammar import documents, task_rows
from peftref.study.store import write_problem
from peftref.study.train.tokenizer import word_tokenizer

Tick = Callable[[int, int], None]
CACHE_HINT = "set PEFTREF_CACHE to a folder that can be written"


@dataclass(frozen=True, slots=True)
class Pretraining:
    """How the offline host is made; the folder in the cache is named by it."""

    width: int = 64
    layers: int = 4
    heads: int = 4
    inner: int = 192
    documents: int = 24_000
    steps: int = 900
    batch_size: int = 48
    length: int = 40
    lr: float = 5e-3
    spread: float = 0.1
    seed: int = 0
    version: int = 2

    @property
    def name(self) -> str:
        """The folder's name: what it is, and a digest of how it is made."""
        return "grammar-" + hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


def offline_host(recipe: Pretraining | None = None, tick: Tick = lambda done, total: None) -> Path:
    """The folder of the offline host, pretrained on first use (about a minute on two cores) and cached.

    tick is called with the steps done and their number. The folder appears whole or not at all, also where two processes make it.
    Raises PeftrefError `cannot-write`, `disk-full`.
    """
    made = recipe or Pretraining()
    target = cache_folder() / made.name
    if _made(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise write_problem(target.parent, error, CACHE_HINT) from None
    try:
        work.chmod(0o755)
        _pretrain(made, work, tick)
        work.rename(target)
    except OSError as error:
        if not _made(target):
            raise write_problem(target, error, CACHE_HINT) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _made(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _pretrain(recipe: Pretraining, folder: Path, tick: Tick) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = list(documents(recipe.seed, recipe.documents))
    labelled = [str(text) for columns in task_rows().values() for text in columns["text"]]
    tokenizer = word_tokenizer([*texts, *labelled], 1_000)
    ids = _ids(tokenizer, texts, recipe.length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.width,
                intermediate_size=recipe.inner,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                max_position_embeddings=128,
                initializer_range=recipe.spread,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=None,
            )
        )
        _learn(model, ids, tokenizer.pad_token_id, recipe, tick)
    with silent():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _ids(tokenizer: Any, texts: list[str], length: int) -> torch.Tensor:
    found = tokenizer(texts, truncation=True, max_length=length - 1, padding="max_length")["input_ids"]
    ids = torch.tensor(found)
    return torch.cat([torch.full((len(ids), 1), tokenizer.bos_token_id), ids], 1)


def _learn(model: Any, ids: torch.Tensor, pad: int, recipe: Pretraining, tick: Tick) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.1, cycle_momentum=False
    )
    for step in range(recipe.steps):
        batch = ids[torch.randint(len(ids), (recipe.batch_size,))]
        batch = batch[:, : int((batch != pad).sum(1).max())]
        labels = batch.masked_fill(batch == pad, -100)
        loss = model(input_ids=batch, attention_mask=(batch != pad).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        tick(step + 1, recipe.steps)
