"""Which of a source's samples are held out to test with, where it brings none for that: a fifth, by the task's word.

    last      the last fifth in order: what a forecast will be asked for, if what comes resembles what was
    blocks    stretches in the middle of up to ten equal parts of the time, so that every season is tested on
    random    of a series such stretches at a place drawn once and for all; else single samples, drawn once and for all

A task that says nothing has "last" for series and "random" for everything else. Of a series each stretch stands by
itself: windows that would reach across a seam, and so share rows with what is tested on, are not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

HELD_OUT: Final = 5  # without test samples of its own, a source gives up every fifth sample
HOLDOUTS: Final[Mapping[str, str]] = {
    "last": "the last fifth in order",
    "blocks": "stretches in the middle of up to ten equal parts of the time",
    "random": "a fifth drawn once and for all, of a series in stretches",
}
MOST_STRETCHES: Final = 10
LEAST_WINDOWS: Final = 4  # a stretch is so many times as long as what one sample spans, if there are rows for it
HELD_OUT_SEED: Final = 0x7E57  # the same split after every start: what was tested on is never trained on


def held_out(num_samples: int) -> int:
    """How many of a source's samples are tested with, where it has none for that."""
    return num_samples // HELD_OUT


def num_stretches(num_rows: int, span: int, holdout: str) -> int:
    """In how many stretches rows in order are held out, where one sample spans `span` of them."""
    if holdout == "last":
        return 1
    return max(1, min(MOST_STRETCHES, held_out(num_rows) // (LEAST_WINDOWS * span)))


def held_out_stretches(num_rows: int, span: int, holdout: str) -> list[tuple[int, int]]:
    """Where the held-out stretches of rows in order begin and end: together `held_out(num_rows)` rows."""
    total, num = held_out(num_rows), num_stretches(num_rows, span, holdout)
    if holdout == "last":
        return [(num_rows - total, num_rows)]
    rng = np.random.default_rng(HELD_OUT_SEED)
    found = []
    for part in range(num):
        start, end = part * num_rows // num, (part + 1) * num_rows // num
        length = (part + 1) * total // num - part * total // num
        room = end - start - length
        start += int(rng.integers(room + 1)) if holdout == "random" else room // 2
        found.append((start, start + length))
    return found


def left_stretches(num_rows: int, tested: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of the rows beside the held-out stretches, in order."""
    edges = [0, *(edge for stretch in tested for edge in stretch), num_rows]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
