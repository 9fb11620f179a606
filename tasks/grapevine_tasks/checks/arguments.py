"""A node's arguments against its operator's signature: the first thing that is checked of a node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, Ref
from grapevine_tasks.opset import LARGEST_OPERAND, Kind, Slot
from grapevine_tasks.sizes import Size, TensorType, ValueType


def resolve(slot: Slot, argument: Argument, values: Sequence[ValueType]) -> Any:
    """The argument as shape rules take it: types for references, `Size` for sizes, tuples for lists.

    In a list of sizes −1 becomes None. Raises TaskError when the argument is not what `slot` says
    or refers to a value that does not exist yet.
    """
    if argument is None:
        if slot.optional:
            return None
        raise TaskError(f"{slot.name} is missing")
    match slot.kind, argument:
        case Kind.TENSOR, Ref():
            return _tensor(slot, argument, values)
        case Kind.OPERAND, Ref():
            return _tensor(slot, argument, values)
        case Kind.OPERAND, int() | float() if not isinstance(argument, bool):
            return _within(slot, argument, -LARGEST_OPERAND, LARGEST_OPERAND)
        case Kind.TENSORS, (first, *_):
            if not isinstance(first, Ref):
                raise TaskError(f"{slot.name} must be values, not numbers")
            return tuple(_tensor(slot, item, values) for item in argument)
        case Kind.SIZE, Ref() | int() if not isinstance(argument, bool):
            return _size(slot, argument, values)
        case Kind.SIZES, tuple():
            return tuple(None if item == -1 else _size(slot, item, values) for item in argument)
        case Kind.INTEGER, int() if not isinstance(argument, bool):
            return _within(slot, argument, slot.low, slot.high)
        case Kind.INTEGERS, tuple():
            return _integers(slot, argument)
        case Kind.REAL, float():
            return _within(slot, argument, slot.low, slot.high)
        case Kind.FLAG, bool():
            return argument
    raise TaskError(f"{slot.name} is {argument}, expected {slot}")


def _value(slot: Slot, reference: Ref, values: Sequence[ValueType]) -> ValueType:
    if not 0 <= reference.value < len(values):
        raise TaskError(f"{slot.name} refers to value {reference.value}, which does not exist yet: sort the nodes")
    return values[reference.value]


def _tensor(slot: Slot, reference: Ref | int, values: Sequence[ValueType]) -> TensorType:
    value = _value(slot, reference, values) if isinstance(reference, Ref) else None
    if not isinstance(value, TensorType):
        raise TaskError(f"{slot.name} must be a tensor, not {value if value is not None else reference}")
    return value


def _size(slot: Slot, item: Ref | int, values: Sequence[ValueType]) -> Size:
    if isinstance(item, int):
        if item < 0:
            raise TaskError(f"{slot.name} holds {item}; sizes are not negative")
        return Size.constant(item)
    value = _value(slot, item, values)
    if not isinstance(value, Size):
        raise TaskError(f"{slot.name} must be a size, not {value}")
    return value


def _integers(slot: Slot, argument: tuple[Ref | int, ...]) -> tuple[int, ...]:
    if slot.length is not None and len(argument) != slot.length:
        raise TaskError(f"{slot.name} has {len(argument)} numbers, expected {slot.length}")
    numbers = []
    for item in argument:
        if isinstance(item, Ref):
            raise TaskError(f"{slot.name} must be written out as numbers")
        _within(slot, item, slot.low, slot.high)
        numbers.append(item)
    return tuple(numbers)


def _within(slot: Slot, number: float, low: float, high: float) -> float:
    if not math.isfinite(number) or not low <= number <= high:
        raise TaskError(f"{slot.name} is {number}, outside {low:g} to {high:g}")
    return number
