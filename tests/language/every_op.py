"""The ops of the language and one from outside, which every stage must take alike."""

from __future__ import annotations

from peftref.language.ops import OPS, register_op
from tests.language import shift

EVERY_OP = (*OPS, *(register_op(op) for op in shift.OPS))
