"""Who looks at the page: each is given a snapshot, then every patch; who is too slow begins again with a snapshot."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from grapevine_agent.dashboard.overview import Overview

MOST_STREAMS: Final = 32
MOST_WAITING: Final = 40  # patches that one looker has not taken yet: ten seconds' worth
MOST_WAITING_BYTES: Final = 8_000_000
STILL_HERE_S: Final = 15.0
PATCH_S: Final = 0.25
_STILL_HERE: Final = b": still here\n\n"


class Full(Exception):  # noqa: N818 - no fault of anybody's
    """Too many look already."""


class Looker:
    """One stream to a page."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.num_bytes = 0
        self.has_news = asyncio.Event()
        self.is_behind = True  # it needs a snapshot

    def give(self, patch: bytes) -> None:
        """Let it have a patch, unless it is so far behind that it begins again."""
        if self.is_behind:
            return
        self.waiting.append(patch)
        self.num_bytes += len(patch)
        if len(self.waiting) > MOST_WAITING or self.num_bytes > MOST_WAITING_BYTES:
            self.fall_behind()
        self.has_news.set()

    def fall_behind(self) -> None:
        """Let it begin again with a snapshot."""
        self.waiting.clear()
        self.num_bytes, self.is_behind = 0, True
        self.has_news.set()


class Hub:
    """See the module's docstring."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._lookers: set[Looker] = set()
        self._is_closed = False

    @property
    def num_streams(self) -> int:
        """How many look now."""
        return len(self._lookers)

    def flush(self) -> None:
        """Tell everybody what has changed."""
        patch = self._overview.patch()
        if patch and self._lookers:
            told = encoded("patch", patch)
            for each in self._lookers:
                each.give(told)

    def snapshot(self) -> dict[str, Any]:
        """Everything as it is now."""
        self.flush()
        return self._overview.snapshot()

    def open(self) -> AsyncIterator[bytes]:
        """A stream of server-sent events. Raises `Full` if there are too many."""
        if len(self._lookers) >= MOST_STREAMS or self._is_closed:
            raise Full
        looker = Looker()
        self._lookers.add(looker)
        return self._stream(looker)

    def clock_set(self, step_ms: int) -> None:
        """The clock was set: all times are others, and whoever looks begins again."""
        self.flush()
        self._overview.clock_set(step_ms)
        for each in self._lookers:
            each.fall_behind()

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for each in self._lookers:
            each.has_news.set()

    def advance(self, now_ms: int) -> None:
        """Time passed: tell everybody what has changed."""
        self._overview.advance(now_ms)
        self.flush()

    async def run(self) -> None:
        """Tell everybody what has changed, four times a second, until cancelled; somebody else says what time it is."""
        while True:
            await asyncio.sleep(PATCH_S)
            self.flush()

    async def _stream(self, looker: Looker) -> AsyncIterator[bytes]:
        try:
            while not self._is_closed:
                looker.has_news.clear()
                if looker.is_behind:
                    state = self.snapshot()
                    looker.is_behind = False
                    yield encoded("state", state)
                while looker.waiting:
                    patch = looker.waiting.popleft()
                    looker.num_bytes -= len(patch)
                    yield patch
                try:
                    async with asyncio.timeout(STILL_HERE_S):
                        await looker.has_news.wait()
                except TimeoutError:
                    yield _STILL_HERE
        finally:
            self._lookers.discard(looker)


def encoded(kind: str, content: dict[str, Any]) -> bytes:
    """One server-sent event; JSON has no line feeds of its own."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return f"event: {kind}\ndata: {body}\n\n".encode("ascii")
