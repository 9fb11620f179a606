"""Puts what jobs refer to into memory that worker processes share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grapevine_lab.simulator.training import shared_arrays
from grapevine_lab.simulator.training.jobs import Commons, How, Models
from grapevine_lab.simulator.training.messages import Setup
from grapevine_lab.simulator.training.shared_arrays import AnyArray

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The shared memory: its descriptor, what lies in it, and what workers are told of it."""

    fd: int
    setup: Setup
    commons: Commons
    slots: list[Models]  # [models, p + b] each


def share(commons: Commons, how: How, *, num_slots: int, slot_shape: tuple[int, int]) -> Shared:
    """Copy what jobs refer to into new shared memory, an array that several nodes have only once.

    The caller closes `fd` when the workers have it.
    """
    distinct = _Distinct()
    places = {name: distinct.add(getattr(commons, name)) for name in ("x", "y", "x_test", "y_test")}
    first = len(distinct.arrays)
    wanted: list[tuple[tuple[int, ...], np.dtype[Any]]] = [(array.shape, array.dtype) for array in distinct.arrays]
    wanted += [(commons.moments.shape, _FLOAT32), *[(slot_shape, _FLOAT32)] * num_slots]
    plan = shared_arrays.Plan.of(wanted)
    fd = shared_arrays.create(plan)
    try:
        arrays = shared_arrays.open_arrays(fd, plan)
    except BaseException:
        os.close(fd)
        raise
    for array, shared in zip(distinct.arrays, arrays, strict=False):
        shared[...] = array
    setup = Setup(
        how=how,
        program=commons.program,
        plan=commons.plan,
        arrays=plan,
        moments=first,
        slots=tuple(range(first + 1, len(arrays))),
        **places,
    )
    return Shared(fd=fd, setup=setup, commons=setup.commons(arrays), slots=arrays[first + 1 :])


def identity(array: AnyArray) -> tuple[Any, ...]:
    """The same for two arrays that are the same memory seen in the same way."""
    interface = array.__array_interface__
    return (interface["data"][0], array.shape, array.strides, array.dtype.str)


class _Distinct:
    """Arrays, each once."""

    def __init__(self) -> None:
        self.arrays: list[AnyArray] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def add(self, arrays: Sequence[AnyArray]) -> tuple[int, ...]:
        """The numbers under which these arrays are."""
        numbers = []
        for array in arrays:
            number = self._numbers.setdefault(identity(array), len(self.arrays))
            if number == len(self.arrays):
                self.arrays.append(array)
            numbers.append(number)
        return tuple(numbers)
