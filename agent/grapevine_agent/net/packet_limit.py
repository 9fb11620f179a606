"""How large a packet a broker takes, where it does not say so: learnt from how connections end. Sans-IO.

Theory of operation. In MQTT 3.1.1 a broker that finds a packet too large has one thing that it can do: close the
connection. Whoever sends the packet again is closed again. So the transport tells of each connection that a
broker closed which was the largest message that it had not acknowledged, and

    closed ──taken in again at the next attempt──▶ a strike against its size ──a second one──▶ the limit is halved
           ──not reached at the next attempt────▶ nothing: it was the broker, or the line, that went

until it is below that size. A class is a power of two. One message of a class that is acknowledged clears the class and
all below it. What we cut ourselves, a broker that is shutting down, a login that another client took: none of these is
told. A broker that says that a packet was too large (MQTT 5.0, section 4.13) needs to say it once.

Still it may have been chance: a broker that was killed twice, and was there again within a second each time. So a
learnt limit doubles after `GROWS_AFTER_S`, and goes where a message is acknowledged that is as large as the one blamed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SMALLEST_BYTES = 4_096  # of a limit: presence takes a few hundred, and pieces of chunks are cut to what is left
GROWS_AFTER_S = 4 * 3_600.0
STRIKES = 2


@dataclass(kw_only=True)
class PacketLimit:
    """See the module's docstring. Of one broker; times are monotonic seconds."""

    own_bytes: int  # what the owner allows
    _learnt_bytes: float = math.inf
    _blamed_bytes: int = 0  # the smallest message that a limit was learnt from
    _grows_at_s: float = math.inf
    _strikes: dict[int, int] = field(default_factory=dict)  # by size class
    _suspect: int = 0  # the size that the last connection may have ended for; 0: none

    def bytes(self, now_s: float) -> int:
        """The largest packet that may be sent now."""
        while now_s >= self._grows_at_s:
            self._learnt_bytes *= 2
            self._grows_at_s += GROWS_AFTER_S
            if self._learnt_bytes >= self.own_bytes:
                self._forget()
        return int(min(self.own_bytes, self._learnt_bytes))

    @property
    def is_learnt(self) -> bool:
        """Whether it is below what the owner allows."""
        return self._learnt_bytes < self.own_bytes

    def closed(self, largest_bytes: int, now_s: float, *, is_said: bool = False) -> None:
        """The broker ended a connection while this was the largest message that it had not acknowledged.

        `is_said`: it said that a packet was too large.
        """
        self._suspect = largest_bytes if largest_bytes > SMALLEST_BYTES else 0
        if is_said and self._suspect:
            self._strikes[_size_class(largest_bytes)] = STRIKES
            self._convict(now_s)

    def not_reached(self) -> None:
        """The next attempt found nobody: the connection ended because the broker, or the line, did."""
        self._suspect = 0

    def taken_in(self, now_s: float) -> None:
        """The next attempt found the broker well, as if nothing had happened."""
        if self._suspect:
            size_class = _size_class(self._suspect)
            self._strikes[size_class] = self._strikes.get(size_class, 0) + 1
            self._convict(now_s)

    def acknowledged(self, num_bytes: int) -> None:
        """The broker took a message of this size."""
        if self._strikes:
            taken = _size_class(num_bytes)
            self._strikes = {each: num for each, num in self._strikes.items() if each > taken}
        if self._blamed_bytes and num_bytes >= self._blamed_bytes:
            self._forget()

    def _convict(self, now_s: float) -> None:
        suspect, self._suspect = self._suspect, 0
        if self._strikes.get(_size_class(suspect), 0) < STRIKES:
            return
        self._strikes.clear()
        limit = self.bytes(now_s)
        while limit >= suspect and limit > SMALLEST_BYTES:
            limit = max(SMALLEST_BYTES, limit // 2)
        self._learnt_bytes, self._grows_at_s = limit, now_s + GROWS_AFTER_S
        self._blamed_bytes = min(self._blamed_bytes or suspect, suspect)

    def _forget(self) -> None:
        self._learnt_bytes = self._grows_at_s = math.inf
        self._blamed_bytes = 0


def _size_class(num_bytes: int) -> int:
    return num_bytes.bit_length()
