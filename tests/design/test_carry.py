"""What is carried beside the stream: every way to declare or use it wrongly, and what may look wrong and is not."""

from __future__ import annotations

import pytest

from peftref.analyse.count import count
from peftref.core.problem import PeftrefError
from peftref.design.load import read

SOUND = """name: beside
title: Beside
settings: {n: 4}
carries: {s: [n]}
insert:
  - at: attention
    leaves:
      D: {shape: [n, d_model], init: {normal: 0.02}}
    equation: s' = s + D @ h
  - at: ffn
    leaves:
      U: {shape: [d_model, n], init: zeros}
    equation: h' = h + U @ s
"""


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        ("carries: {s: [n]}", "carries: {s: [m]}", "unknown-size", (4, 15)),
        ("carries: {s: [n]}", "carries: {s: [n], t: [n]}", "carry-unset", (4, 19)),
        ("carries: {s: [n]}", "carries: {s: [2]}", "shape", (13, 24)),
        ("h' = h + U @ s", "h' = h + U @ (U.T @ h)", "no-gradient", (12, 7)),
        ("carries: {s: [n]}", "carries: {h: [n]}", "shadowed-name", (4, 11)),
        ("carries: {s: [n]}", "carries: {n: [n]}", "shadowed-name", (4, 11)),
        ("carries: {s: [n]}", "carries: {d_model: [n]}", "shadowed-name", (4, 11)),
        ("carries: {s: [n]}", "carries: {relu: [n]}", "shadowed-name", (4, 11)),
        ("carries: {s: [n]}", "carries: {D: [n]}", "shadowed-name", (4, 11)),
        ("  - at: attention\n", "  - at: attention.query\n", "unknown-name", (9, 20)),
        ("  - at: attention\n    leaves", "  - at: attention\n    layers: {last: 1}\n    leaves", "carry-early", (14, 28)),
        ("s' = s + D @ h", "s' = s + D @ h; s' = s", "set-twice", (9, 31)),
        ("settings: {n: 4}", "settings: {n: 0}", "setting-size", (3, 15)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, code: str, place: tuple[int, int]) -> None:
    assert old in SOUND
    with pytest.raises(PeftrefError) as error:
        read(SOUND.replace(old, new), "t.yaml")
    found = {problem.code: problem.place for problem in error.value.problems}
    assert code in found
    where = found[code]
    assert where is not None
    assert (where.line, where.column) == place


def test_sound_ones_pass() -> None:
    """Set where the first layer reads it, at the same slot above, in an earlier layer, and by its own equation from zero."""
    first = SOUND.replace("at: ffn", "at: attention")
    earlier = SOUND.replace("at: ffn", "at: attention\n    layers: [1]").replace("at: attention\n    leaves", "at: ffn\n    layers: [0]\n    leaves", 1)  # fmt: skip
    for text in (SOUND, first, earlier):
        assert read(text).carries == {"s": ("n",)}


def test_two_insertions_at_one_slot_act_in_the_order_of_the_file() -> None:
    one, other = SOUND.replace("at: ffn", "at: attention").split("insert:\n")[1].split("  - at")[1:]
    head = SOUND.split("insert:\n")[0]
    with pytest.raises(PeftrefError, match="carry-early"):
        read(f"{head}insert:\n  - at{other}  - at{one}")


def test_a_host_on_which_it_is_read_too_early_is_named() -> None:
    """That the second stack has no layer 5 of its own is seen on the host alone."""
    text = SOUND.replace("at: attention\n", "at: encoder.attention\n").replace("at: ffn\n", "at: decoder.ffn\n")
    with pytest.raises(PeftrefError, match=r"decoder\.0\.ffn of t5-base"):
        count(read(text), "t5-base")


def test_it_reads_back_as_it_was() -> None:
    made = read(SOUND)
    assert read(made.to_yaml()) == made
    assert made.budget_setting() == "n"
