"""What a server counts of a task beside its models: why updates were refused, and what memory its vectors take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from grapevine_proto.errors import WireError

if TYPE_CHECKING:
    from grapevine_agent.core.learning.aggregator import Aggregator

ROOMS: Final = ("grapevine_agent.merge.", "grapevine_agent.core.learning.")  # whose objects are looked into


@contextmanager
def counting_refusals(server: Aggregator | None) -> Iterator[None]:
    """A block in which a server takes an update, or refuses it by a `WireError`. None: it is no server."""
    try:
        yield
    except WireError as error:
        if server is not None:
            server.refused[error.reason] += 1
        raise


def vector_bytes(*holders: object) -> int:
    """The bytes of all arrays that these hold, each memory counted once, however often it is held.

    Looked into are sequences, sets, mappings' values, and objects of merging and learning. Not to be called while
    somebody works on them.
    """
    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[object] = list(holders)
    while waiting:
        one = waiting.pop()
        if isinstance(one, np.ndarray):
            address = one.__array_interface__["data"][0]
            found[address] = max(found.get(address, 0), one.nbytes)
        elif id(one) not in seen:
            seen.add(id(one))
            waiting += _held_by(one)
    return sum(found.values())


def _held_by(one: object) -> list[object]:
    if isinstance(one, Mapping):
        return list(one.values())
    if isinstance(one, list | tuple | set | frozenset | deque):
        return list(one)
    if not type(one).__module__.startswith(ROOMS):
        return []
    if is_dataclass(one):
        return [getattr(one, each.name) for each in fields(one)]
    return list(getattr(one, "__dict__", {}).values())
