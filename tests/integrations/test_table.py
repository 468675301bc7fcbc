"""The page of training: every way stands in it, and what does not work is said with its reason."""

from __future__ import annotations

from tests.integrations.common import HOSTS, TECHNIQUES
from tests.integrations.pair import WAYS
from tests.integrations.table import TARGET, table, ways


def test_the_page_has_every_way() -> None:
    text = TARGET.read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in (*ways(), *WAYS))
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {name} |" for name in TECHNIQUES))]
    assert len(rows) == len(TECHNIQUES) * len(HOSTS)


def test_what_does_not_work_has_its_reason() -> None:
    found = {("deepcopy", "lora", "llama"): "works", ("TRL, SFTTrainer", "lora", "llama"): "OSError: no"}
    text = table(found)
    llama, bert = (
        next(line for line in text.splitlines() if line.startswith(f"| lora | {each} |"))
        for each in HOSTS
        if each in ("llama", "bert")
    )
    assert (llama.count("✓"), llama.count("**a**"), bert.count("–")) == (1, 1, 1)
    assert "- **a** OSError: no" in text
