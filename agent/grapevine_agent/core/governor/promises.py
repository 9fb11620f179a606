"""Bytes that are as good as sent: what was decided on, and has not left yet.

A promise holds until as much has left, or nothing of that size has for `PROMISED_S`: a day's budget is not spent twice
by what still waits in the outbox.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

PROMISED_S: Final = 30.0
PART_BYTES: Final = 8_000  # what is smaller, such as presence, does not show that a promise is being kept
WHOLE: Final = 4  # a model is a promise kept, though it took but a quarter of what was thought


@dataclass(frozen=True)
class _Promise:
    """So many bytes are to leave. `at_s`: since when nothing of it has; inf: a part of it has just left."""

    at_s: float
    num_bytes: float
    is_begun: bool = False  # it leaves in parts

    def without(self, num_bytes: int) -> _Promise:
        """What is left of it."""
        is_part = num_bytes >= PART_BYTES
        left = self.num_bytes - num_bytes
        return _Promise(math.inf if is_part else self.at_s, left, is_part or self.is_begun)


@dataclass
class Promises:
    """See the module's docstring. Times are monotonic."""

    _made: deque[_Promise] = field(default_factory=deque)  # the oldest first

    @property
    def num_bytes(self) -> float:
        """What is still to leave."""
        return sum(each.num_bytes for each in tuple(self._made))

    def make(self, num_bytes: float, now_s: float) -> None:
        """So much is to leave."""
        self._made.append(_Promise(now_s, num_bytes))

    def sent(self, num_bytes: int) -> None:
        """So much has left, in one message or a part of one. A shell may call it beside a turn."""
        with suppress(IndexError):  # nothing is promised
            promise = self._made.popleft()
            is_whole = num_bytes >= promise.num_bytes or (
                WHOLE * num_bytes >= promise.num_bytes and not promise.is_begun
            )
            if not is_whole:  # a part of it, or something small that nobody promised
                self._made.appendleft(promise.without(num_bytes))

    def look(self, now_s: float) -> None:
        """Forget those that are over."""
        with suppress(IndexError):  # all are over
            while True:
                first = self._made[0]
                if first.at_s == math.inf:
                    self._made[0] = replace(first, at_s=now_s)
                elif now_s - first.at_s >= PROMISED_S:
                    self._made.popleft()
                    continue
                break
