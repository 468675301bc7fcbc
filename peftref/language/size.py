"""Symbolic sizes: integer polynomials over size symbols in one normal form, so that equal sizes are equal objects.

`/` is exact division: `n * (d / n)` is `d`, and a value that does not divide is an error when numbers come in. `//`, `ceil`,
`min` and `max` stay as they are written, as atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from peftref.core.problem import fail


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named size."""

    name: str

    def text(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Rounded:
    """A function of sizes that is no polynomial: floordiv, ceil, min, max."""

    function: str
    args: tuple[Size, ...]

    def text(self) -> str:
        shown = [arg.show() for arg in self.args]
        if self.function == "floordiv":
            return f"({_grouped(self.args[0])} // {_grouped(self.args[1])})"
        if self.function == "ceil":
            return f"ceil({_grouped(self.args[0])} / {_grouped(self.args[1])})"
        return f"{self.function}({', '.join(shown)})"


Atom = Symbol | Rounded
Monomial = tuple[tuple[Atom, int], ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A size: a sum of integer or rational multiples of monomials, in normal form.

    >>> n, d = Size.symbol("n"), Size.symbol("d")
    >>> n * (d / n) == d
    True
    >>> (n * d + n).evaluate({"n": 4, "d": 8})
    36
    """

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(value: int) -> Size:
        """A number as a size."""
        return _normal([((), Fraction(value))])

    @staticmethod
    @cache
    def symbol(name: str) -> Size:
        """A named size."""
        return _normal([(((Symbol(name), 1),), Fraction(1))])

    @staticmethod
    def rounded(function: str, *args: Size) -> Size:
        """floordiv, ceil, min or max of sizes; evaluated at once where all are numbers, or equal ones under min and max."""
        if function in ("min", "max") and len(set(args)) == 1:
            return args[0]
        numbers = [arg.number() for arg in args]
        if all(number is not None for number in numbers):
            return Size.of(_round(function, [number for number in numbers if number is not None]))
        return _normal([(((Rounded(function, args), 1),), Fraction(1))])

    def __add__(self, other: Size) -> Size:
        return _normal([*self.terms, *other.terms])

    def __sub__(self, other: Size) -> Size:
        return self + Size.of(-1) * other

    def __mul__(self, other: Size) -> Size:
        return _normal((_times(left, right), a * b) for left, a in self.terms for right, b in other.terms)

    def __truediv__(self, other: Size) -> Size:
        if len(other.terms) != 1:
            return _normal([(((Rounded("div", (self, other)), 1),), Fraction(1))])
        (monomial, factor) = other.terms[0]
        inverse = tuple((atom, -power) for atom, power in monomial)
        return _normal((_times(left, inverse), a / factor) for left, a in self.terms)

    def number(self) -> int | None:
        """The size as a number, or None where it has symbols."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0] and self.terms[0][1].denominator == 1:
            return int(self.terms[0][1])
        return None

    def symbols(self) -> frozenset[str]:
        """The names of the symbols in it."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                if isinstance(atom, Symbol):
                    found.add(atom.name)
                else:
                    found.update(*(arg.symbols() for arg in atom.args))
        return frozenset(found)

    def substitute(self, values: Mapping[str, Size]) -> Size:
        """The size with symbols replaced by sizes."""
        result = Size.of(0)
        for monomial, factor in self.terms:
            part = _normal([((), factor)])
            for atom, power in monomial:
                if isinstance(atom, Symbol):
                    base = values.get(atom.name, Size.symbol(atom.name))
                elif atom.function == "div":
                    base = atom.args[0].substitute(values) / atom.args[1].substitute(values)
                else:
                    base = Size.rounded(atom.function, *(arg.substitute(values) for arg in atom.args))
                for _ in range(abs(power)):
                    part = part * base if power > 0 else part / base
            result = result + part
        return result

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The number; raises PeftrefError `indivisible` where a division leaves a rest, `unknown-size` for a symbol without value."""
        total = self._rational(values)
        if total.denominator != 1:
            shown = ", ".join(f"{name} = {values[name]}" for name in sorted(self.symbols()))
            raise fail("indivisible", f"{self.show()} is no whole number with {shown}", hint="choose sizes that divide")
        return int(total)

    def _rational(self, values: Mapping[str, int]) -> Fraction | int:
        total: Fraction | int = 0
        for monomial, factor in self.terms:
            product = factor.numerator if factor.denominator == 1 else factor
            for atom, power in monomial:
                base = self._atom(atom, values)
                product *= base**power if power > 0 else Fraction(base) ** power
            total += product
        return total

    @staticmethod
    def _atom(atom: Atom, values: Mapping[str, int]) -> int:
        if isinstance(atom, Symbol):
            if atom.name not in values:
                raise fail("unknown-size", f"no value is known for the size {atom.name}")
            return values[atom.name]
        return _round(atom.function, [arg._rational(values) for arg in atom.args])

    def show(self) -> str:
        """Canonical text, with the common factor in front: `r * (d_in + d_out)`.

        >>> r, a, b = Size.symbol("r"), Size.symbol("d_in"), Size.symbol("d_out")
        >>> (r * a + r * b).show()
        'r * (d_in + d_out)'
        """
        if not self.terms:
            return "0"
        common = _common([monomial for monomial, _ in self.terms])
        divisor = math.gcd(*(abs(factor.numerator) for _, factor in self.terms))
        if len(self.terms) == 1 or (not common and divisor == 1):
            return _sum(self.terms)
        rest = tuple((_times(monomial, _inverse(common)), factor / divisor) for monomial, factor in self.terms)
        return f"{_product(common, Fraction(divisor))} * ({_sum(rest)})"

    def __str__(self) -> str:
        return self.show()


def _round(function: str, args: list[Fraction | int] | list[int]) -> int:
    values = [Fraction(arg) for arg in args]
    if function in ("floordiv", "ceil", "div") and values[1] == 0:
        raise fail("indivisible", "a size is divided by zero")
    if function == "floordiv":
        return math.floor(values[0] / values[1])
    if function == "ceil":
        return math.ceil(values[0] / values[1])
    if function == "div":
        ratio = values[0] / values[1]
        if ratio.denominator != 1:
            raise fail("indivisible", f"{values[0]} does not divide by {values[1]}", hint="choose sizes that divide")
        return int(ratio)
    return int(min(values) if function == "min" else max(values))


def _normal(terms: Iterable[tuple[Monomial, Fraction]]) -> Size:
    gathered: dict[Monomial, Fraction] = {}
    for monomial, factor in terms:
        gathered[monomial] = gathered.get(monomial, Fraction(0)) + factor
    kept = [(monomial, factor) for monomial, factor in gathered.items() if factor != 0]
    kept.sort(key=lambda term: (-sum(power for _, power in term[0]), [(atom.text(), power) for atom, power in term[0]]))
    return Size(tuple(kept))


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers: dict[Atom, int] = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(((a, p) for a, p in powers.items() if p != 0), key=lambda item: item[0].text()))


def _inverse(monomial: Monomial) -> Monomial:
    return tuple((atom, -power) for atom, power in monomial)


def _common(monomials: list[Monomial]) -> Monomial:
    first, *others = [dict(monomial) for monomial in monomials]
    shared = {
        atom: min([power, *(other.get(atom, 0) for other in others)])
        for atom, power in first.items()
        if power > 0 and all(other.get(atom, 0) > 0 for other in others)
    }
    return tuple(sorted(shared.items(), key=lambda item: item[0].text()))


def _product(monomial: Monomial, factor: Fraction) -> str:
    above = [str(factor.numerator)] if abs(factor.numerator) != 1 else []
    below = [str(factor.denominator)] if factor.denominator != 1 else []
    for atom, power in monomial:
        text = atom.text() if abs(power) == 1 else f"{atom.text()}**{abs(power)}"
        (above if power > 0 else below).append(text)
    top = " * ".join(above) or "1"
    if below:
        top += "".join(f" / {text}" for text in below)
    return f"-{top}" if factor < 0 and abs(factor.numerator) == 1 else top


def _sum(terms: Iterable[tuple[Monomial, Fraction]]) -> str:
    text = ""
    for monomial, factor in terms:
        if not text:
            text = _product(monomial, factor)
        else:
            text += f" {'-' if factor < 0 else '+'} {_product(monomial, abs(factor))}"
    return text


def _grouped(size: Size) -> str:
    shown = size.show()
    return shown if len(size.terms) == 1 and " " not in shown else f"({shown})"
