"""Plain scalars as YAML 1.2's core schema reads them, and texts written so that every YAML reader reads texts."""

from __future__ import annotations

import math
import re

Scalar = None | bool | int | float | str

MAX_DIGITS = 18

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})

# What YAML 1.1 readers, which many editors still are, take for something else than a text.
_ELSEWHERE = re.compile(r"(?i)y|n|yes|no|on|off|<<|=|[-+]?[0-9][0-9_:.]*|[-+]?0b[01_]+|\d{4}-\d{1,2}-\d{1,2}.*")
_PLAIN_FLOW = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_.()/*+@' -]*[A-Za-z0-9_.()'])?")
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff"
_PLAIN_BLOCK = re.compile(rf"[A-Za-z_(](?:[^{_CONTROL}]*[^\s{_CONTROL}])?")
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises ValueError for a number too large to hold.

    >>> [resolve(text) for text in ("1e-3", "012", "12:30", "no", "true", "~", "0x1f")]
    [0.001, 12, '12:30', 'no', True, None, 31]
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _DECIMAL.fullmatch(text):
        return _whole(text, 10)
    if _BASED.fullmatch(text):
        return _whole(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError("this number is too large")
        return value
    infinite = _INFINITE.fullmatch(text)
    if infinite:
        return -math.inf if infinite.group(1) == "-" else math.inf
    return math.nan if text in _NAN else text


def _whole(digits: str, base: int) -> int:
    if len(digits.lstrip("+-0")) > MAX_DIGITS:
        raise ValueError(f"this number has more than {MAX_DIGITS} digits")
    return int(digits, base)


def write(value: Scalar, *, flow: bool = True) -> str:
    """A scalar as canonical YAML on one line; `flow` where it stands between brackets, braces and commas.

    >>> [write(value) for value in (8, 0.001, True, None, "a, b", "no", "1e-3", "d_in // n")]
    ['8', '0.001', 'true', 'null', '"a, b"', '"no"', '"1e-3"', 'd_in // n']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    return value if _reads_back(value, flow) else _quoted(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")  # a 1.1 reader needs the point


def _reads_back(text: str, flow: bool) -> bool:
    pattern = _PLAIN_FLOW if flow else _PLAIN_BLOCK
    if not pattern.fullmatch(text) or ": " in text or " #" in text or text.endswith(":"):
        return False
    return not _ELSEWHERE.fullmatch(text) and isinstance(resolve(text), str)


def _quoted(text: str) -> str:
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x20 or 0x7F <= code <= 0x9F:
        return f"\\x{code:02x}"
    if code in (0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF) or 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return character
