"""Arithmetic on changes of models, block by block, and in float64 where sums are long.

A float32 sum of 25 million squares loses digits, and a float64 copy of such a vector takes 200 MB; a
block at a time costs neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.merge.geometry import BLOCK64, LARGEST, blocks, store
from grapevine_agent.merge.halves import BLOCK
from grapevine_proto.messages import Vector

ROOM = 1 << 20  # float64 numbers of one block over all vectors: 8 MiB


def difference(model: Vector, base: Vector) -> Vector:
    """How far `model` is from `base`: model − base, float32 [p]."""
    result = np.empty_like(model)
    for span in blocks(0, result.size):
        store(np.subtract(model[span], base[span], dtype=np.float64), result, span)
    return result


def moved(model: Vector, step: Vector, factor: float = 1.0) -> Vector:
    """A model moved by a step: model + factor·step, float32 [p]. What would overflow stops at the largest number."""
    result, by = np.empty_like(model), np.array(factor, np.float32)
    with np.errstate(over="ignore"):
        for span in blocks(0, result.size, BLOCK):
            block = np.multiply(step[span], by, out=result[span])
            np.add(block, model[span], out=block)
            np.clip(block, -LARGEST, LARGEST, out=block)
    return result


def add_difference(total: Vector, model: Vector, base: Vector, factor: float) -> None:
    """`total` += factor·(model − base), in place, all float32 [p], in one pass; of numbers up to 1e30, as let in."""
    scratch = np.empty(min(BLOCK, total.size), np.float32)
    by = np.array(factor, np.float32)
    for span in blocks(0, total.size, BLOCK):
        block = np.subtract(model[span], base[span], out=scratch[: span.stop - span.start])
        np.multiply(block, by, out=block)
        np.add(total[span], block, out=total[span])


def norm(vector: Vector) -> float:
    """‖vector‖₂ of a float32 [p]."""
    squares = 0.0
    for span in blocks(0, vector.size):
        block = vector[span].astype(np.float64)
        squares += float(np.dot(block, block))
    return float(np.sqrt(squares))


def cosines(left: Sequence[Vector], right: Sequence[Vector]) -> NDArray[np.float64]:
    """Cosine similarities, [len(left), len(right)] in [−1, 1], of float32 [p] vectors; neither is empty.

    A vector of norm zero points nowhere: its cosine with any other is 0, half-way. Given the same
    sequence twice, each block is read once.
    """
    dots = np.zeros((len(left), len(right)))
    left_squares, right_squares = np.zeros(len(left)), np.zeros(len(right))
    step = min(BLOCK64, max(1, ROOM // (len(left) + len(right))))
    rows = np.empty((len(left), step))
    columns = rows if right is left else np.empty((len(right), step))
    for span in blocks(0, left[0].size, step):
        one = _filled(rows, left, span)
        other = one if right is left else _filled(columns, right, span)
        dots += one @ other.T
        left_squares += np.einsum("ij,ij->i", one, one)
        right_squares += np.einsum("ij,ij->i", other, other)
    lengths = np.outer(np.sqrt(left_squares), np.sqrt(right_squares))
    similar = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return np.asarray(np.clip(similar, -1.0, 1.0))


def _filled(room: NDArray[np.float64], vectors: Sequence[Vector], span: slice) -> NDArray[np.float64]:
    filled = room[:, : span.stop - span.start]
    for row, vector in zip(filled, vectors, strict=True):
        row[:] = vector[span]
    return filled
