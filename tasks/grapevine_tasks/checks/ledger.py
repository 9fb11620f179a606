"""Memory as it is taken and given back, without taking any."""

from __future__ import annotations


class Ledger:
    """Pieces of memory, each with the number of things that hold it; those held by nothing are free.

    A piece may lie `on` another one, which it holds as long as it is held itself: a copy that may also be a view.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._bytes: list[int] = []
        self._holders: list[int] = []
        self._on: list[int | None] = []

    def take(self, num_bytes: int, on: int | None = None) -> int:
        """New memory, held once. Returns its number."""
        self._bytes.append(num_bytes)
        self._holders.append(1)
        self._on.append(on if on is None else self.hold(on))
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        return len(self._bytes) - 1

    def hold(self, piece: int) -> int:
        """One more holder of the same memory."""
        self._holders[piece] += 1
        return piece

    def release(self, piece: int | None) -> None:
        """One holder less, of this piece and, where it was the last, of what it lies on."""
        while piece is not None:
            self._holders[piece] -= 1
            if self._holders[piece]:
                return
            self.now -= self._bytes[piece]
            piece = self._on[piece]

    def brush(self, num_bytes: int) -> None:
        """Memory that is taken and given back at once."""
        self.peak = max(self.peak, self.now + num_bytes)

    def size(self, piece: int) -> int:
        """How many bytes a piece has, without what it lies on."""
        return self._bytes[piece]

    def is_only_held_once(self, piece: int) -> bool:
        """Whether nothing else would see it changed in place."""
        return self._holders[piece] == 1
