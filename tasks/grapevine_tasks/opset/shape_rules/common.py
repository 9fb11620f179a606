"""What the shape rules share: complaints, dimensions by number, broadcasting.

A rule gets the arguments in the order of the operator's signature, already resolved: tensors as
`TensorType`, sizes as `Size`, lists as tuples, numbers as numbers. It returns one type per result
or raises TaskError, and it must hold for every batch size: dimensions are compared as polynomials.
"""

# ruff: noqa: D103 — each says in its name what it needs
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from grapevine_proto.errors import TaskError
from grapevine_tasks.sizes import ONE, Shape, Size, TensorType, ValueType

Types: TypeAlias = tuple[ValueType, ...]


Operand: TypeAlias = TensorType | int | float

MOST_DIMENSIONS = 8


def need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TaskError(otherwise)


def need_float32(*tensors: TensorType | None) -> None:
    for each in tensors:
        need(each is None or each.dtype == "float32", f"takes float32, not {each}; convert it with TO_FLOAT32")


def tensor(shape: Iterable[Size], dtype: str = "float32") -> tuple[TensorType]:
    dimensions = tuple(shape)
    need(len(dimensions) <= MOST_DIMENSIONS, f"tensors have at most {MOST_DIMENSIONS} dimensions")
    return (TensorType(dtype, dimensions),)


def dim_of(dim: int, rank: int) -> int:
    need(-rank <= dim < rank, f"dim {dim} is outside a tensor of {rank} dimensions")
    return dim % rank


def dims_of(dims: Sequence[int], rank: int) -> tuple[int, ...]:
    counted = tuple(dim_of(d, rank) for d in dims)
    need(len(set(counted)) == len(counted), f"dims {list(dims)} name a dimension twice")
    return counted


def number_of(size: Size, what: str) -> int:
    number = size.number
    if number is None:
        raise TaskError(f"{what} must not depend on the batch, but is {size}")
    return number


def same_shape(a: Shape, b: Shape, what: str) -> None:
    need(a == b, f"{what} has the shape [{_join(a)}], expected [{_join(b)}]")


def _join(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    result = []
    for x, y in zip((ONE,) * (rank - len(a)) + a, (ONE,) * (rank - len(b)) + b, strict=True):
        if not (x in (y, ONE) or y == ONE):
            raise TaskError(f"[{_join(a)}] and [{_join(b)}] do not broadcast for every batch size")
        result.append(y if x == ONE else x)
    return tuple(result)
