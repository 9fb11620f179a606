"""The encodings that there are, by name; what becomes of the numbers is in `encodings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Numbers: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "top-k"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the numbers of a vector are written, and whether zstd follows."""

    numbers: Numbers = "float32"
    zstd: bool = False

    @property
    def name(self) -> str:
        """As tasks and owners write it."""
        return f"{self.numbers}+zstd" if self.zstd else self.numbers

    @property
    def is_plain(self) -> bool:
        """Whether a vector is written as it lies."""
        return self == PLAIN

    @property
    def is_whole(self) -> bool:
        """Whether every number is written, so that a model can be read from it, and not only a change."""
        return self.numbers != "top-k"


PLAIN: Final = Encoding()

# Bytes a number, about, of normally distributed ones; trained ones take up to a tenth less, and their changes up to
# a third (docs/results/encodings.md). The smallest is chosen by it.
SIZES: Final[dict[str, float]] = {
    "float32": 4.0,
    "float32+zstd": 3.5,
    "float16": 2.0,
    "float16+zstd": 1.8,
    "bfloat16": 2.0,
    "bfloat16+zstd": 1.5,
    "int8": 1.02,
    "int8+zstd": 1.0,
    "top-k": 0.16,
    "top-k+zstd": 0.15,
}
_NUMBERS: Final[tuple[Numbers, ...]] = ("float32", "float16", "bfloat16", "int8", "top-k")
ENCODINGS: Final = {each.name: each for numbers in _NUMBERS for each in (Encoding(numbers), Encoding(numbers, True))}
