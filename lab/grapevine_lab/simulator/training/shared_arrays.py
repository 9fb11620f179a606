"""Arrays in memory that several processes share.

The memory is a memfd: it has no name, so nothing is left behind however its processes end. Pages
that nobody writes take no memory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes: a cache line

AnyArray = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an array lies, and what it is."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The places of all arrays, and how much memory they take together."""

    places: tuple[Place, ...]
    num_bytes: int

    @classmethod
    def of(cls, arrays: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> Plan:
        """Room for arrays of these shapes and dtypes, in this order."""
        places = []
        offset = 0
        for shape, dtype in arrays:
            places.append(Place(offset=offset, shape=shape, dtype=dtype.str))
            num_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            offset += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        return cls(places=tuple(places), num_bytes=max(offset, _ALIGNMENT))


def create(plan: Plan) -> int:
    """New memory, all zeros; its file descriptor, which the caller closes."""
    fd = os.memfd_create("grapevine-crowd", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, plan.num_bytes)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_arrays(fd: int, plan: Plan) -> list[AnyArray]:
    """The arrays in this memory. It is unmapped when the last of them is gone; `fd` may be closed before."""
    memory = mmap.mmap(fd, plan.num_bytes)
    return [np.ndarray(place.shape, place.dtype, buffer=memory, offset=place.offset) for place in plan.places]
