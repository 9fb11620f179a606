"""Sizes that depend on the batch, and the types of a program's values.

A size is a polynomial of the batch whose coefficients are whole and never negative. That makes two
promises cheap: a shape that fits as polynomials fits for every batch size, and nothing is larger
than it is at the largest batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

from grapevine_proto.errors import TaskError

LARGEST_COEFFICIENT = 2**48  # far beyond every limit on bytes, far below the end of int64
LARGEST_DEGREE = 8
BYTES_PER_ELEMENT = {"float32": 4, "int64": 8, "bool": 1}  # bool: of comparisons, within a graph only


@dataclass(frozen=True)
class Size:
    """c0 + c1·batch + c2·batch² + …, with no trailing zeros; zero has no coefficients at all."""

    coefficients: tuple[int, ...]

    @classmethod
    def of(cls, coefficients: Iterable[int]) -> Size:
        """Build a size. Raises TaskError when a coefficient is negative or too large."""
        trimmed = list(coefficients)
        while trimmed and trimmed[-1] == 0:
            trimmed.pop()
        if len(trimmed) > LARGEST_DEGREE + 1:
            raise TaskError(f"a size grows with more than the {LARGEST_DEGREE}th power of the batch")
        for coefficient in trimmed:
            if not 0 <= coefficient <= LARGEST_COEFFICIENT:
                raise TaskError(f"a size has the coefficient {coefficient}; sizes lie between 0 and 2^48")
        return cls(tuple(trimmed))

    @classmethod
    def constant(cls, number: int) -> Size:
        """A size that does not depend on the batch."""
        return cls.of((number,))

    @property
    def number(self) -> int | None:
        """The size as a number, or None when it depends on the batch."""
        if len(self.coefficients) > 1:
            return None
        return self.coefficients[0] if self.coefficients else 0

    def at(self, batch: int) -> int:
        """The size when the batch has `batch` samples."""
        return sum(c * batch**k for k, c in enumerate(self.coefficients))

    def __add__(self, other: Size) -> Size:
        return Size.of(a + b for a, b in zip_longest(self.coefficients, other.coefficients, fillvalue=0))

    def __sub__(self, other: Size) -> Size:
        return Size.of(a - b for a, b in zip_longest(self.coefficients, other.coefficients, fillvalue=0))

    def __mul__(self, other: Size) -> Size:
        if not self.coefficients or not other.coefficients:
            return Size(())
        if self.coefficients == (1,):
            return other
        if other.coefficients == (1,):
            return self
        product = [0] * (len(self.coefficients) + len(other.coefficients) - 1)
        for i, a in enumerate(self.coefficients):
            for j, b in enumerate(other.coefficients):
                product[i + j] += a * b
        return Size.of(product)

    def floor_divided(self, divisor: Size) -> Size:
        """Floor division by a number. Raises TaskError unless it holds alike for every batch size."""
        by = divisor.number
        if not by:
            raise TaskError(f"{self} is divided by {divisor}; only positive numbers divide a size")
        if any(c % by for c in self.coefficients[1:]):
            raise TaskError(f"{self} // {by} depends on the batch in steps")
        return Size.of(c // by for c in self.coefficients)

    def exactly_divided(self, divisor: Size) -> Size | None:
        """The quotient, when the divisor is a single term and divides every coefficient; else None."""
        power = len(divisor.coefficients) - 1
        if power < 0 or any(divisor.coefficients[:power]) or any(self.coefficients[:power]):
            return None
        by = divisor.coefficients[power]
        if any(c % by for c in self.coefficients):
            return None
        return Size.of(c // by for c in self.coefficients[power:])

    def __str__(self) -> str:
        # Rules write their complaints before they know whether they need them: most sizes are plain numbers.
        if len(self.coefficients) < 2:
            return str(self.coefficients[0]) if self.coefficients else "0"
        terms = []
        for power, coefficient in enumerate(self.coefficients):
            if coefficient:
                batch = {0: "", 1: "batch"}.get(power, f"batch^{power}")
                terms.append(str(coefficient) if not batch else batch if coefficient == 1 else f"{coefficient}·{batch}")
        return " + ".join(reversed(terms)) or "0"


ONE = Size((1,))
BATCH = Size((0, 1))
Shape: TypeAlias = tuple[Size, ...]


@dataclass(frozen=True)
class TensorType:
    """A tensor's dtype ("float32", "int64" or, between nodes, "bool") and shape."""

    dtype: str
    shape: Shape

    @property
    def num_elements(self) -> Size:
        """How many numbers it holds."""
        return math.prod(self.shape, start=ONE)

    def bytes_at(self, batch: int) -> int:
        """How many bytes it takes when the batch has `batch` samples."""
        return BYTES_PER_ELEMENT[self.dtype] * self.num_elements.at(batch)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


ValueType: TypeAlias = TensorType | Size


def fixed(*dimensions: int) -> Shape:
    """A shape that does not depend on the batch."""
    return tuple(Size.constant(d) for d in dimensions)
