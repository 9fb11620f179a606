"""Chunks that were asked for, in the order of asking, as fast as the owner lends. Sans-IO.

What is asked for faster than limits.upload_mb_per_s allows, or than the outbox empties, waits here instead of being
refused: who asks sees slower answers, and asks for less at a time (`window`); were it refused it would wait for
nothing, and take what it asked for as lost. Who asks again for what waits keeps its place. Members have a line, and
those who are not heard yet another, half as fast, so that invented askers take nothing from members.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from grapevine_agent.transfers.giving import Gift
from grapevine_proto.bulk import CHUNK_BYTES
from grapevine_proto.messages import ChunkRequest
from grapevine_proto.quotas import Bucket

BURST_S: Final = 2.0  # of what the owner lends for sending, at once
PATIENCE_S: Final = 30.0  # who asked has asked again, or somebody else
MOST_WAITING: Final = 1_024  # chunks in a line: at 4 MB a second half a minute's
MOST_OF_ONE: Final = 64  # of one asker
LEAST_S: Final = 0.001  # a timer's: less than that would be now
AGAIN_S: Final = 0.1  # until it is looked again whether the outbox has emptied

_Key: TypeAlias = tuple[str, bytes, int, bool]  # who asks, of what bulk, for which chunk, whether for the index


@dataclass(frozen=True, slots=True)
class Waiting:
    """A chunk that somebody waits for."""

    asker: str
    gift: Gift
    until_s: float


@dataclass(kw_only=True)
class _Line:
    bucket: Bucket
    waiting: OrderedDict[_Key, Waiting] = field(default_factory=OrderedDict)
    num_of: Counter[str] = field(default_factory=Counter)

    def remove(self, key: _Key) -> None:
        asker = self.waiting.pop(key).asker
        self.num_of[asker] -= 1
        if not self.num_of[asker]:
            del self.num_of[asker]


class Pacing:
    """See the module's docstring.

    Args:
        bytes_per_s: What the owner lends for sending.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._members, self._others = (
            _Line(bucket=Bucket(per_s=rate, burst=BURST_S * rate)) for rate in (bytes_per_s, bytes_per_s / 2)
        )

        self._is_blocked = False

    def has_room_for(self, asker: str, num: int, *, is_member: bool) -> bool:
        """Whether so many more chunks of one asker can wait."""
        line = self._members if is_member else self._others
        return len(line.waiting) + num <= MOST_WAITING and line.num_of[asker] + num <= MOST_OF_ONE

    def not_waiting(self, asker: str, request: ChunkRequest, now_s: float) -> ChunkRequest:
        """A request without what waits already, which keeps its place for as long as if it was asked for now."""
        chunks = [chunk for chunk in request.chunks if not self._waits((asker, request.digest, chunk, False), now_s)]
        index = request.index and not self._waits((asker, request.digest, 0, True), now_s)
        return ChunkRequest(digest=request.digest, index=index, chunks=tuple(chunks))

    def _waits(self, key: _Key, now_s: float) -> bool:
        for line in (self._members, self._others):
            known = line.waiting.get(key)
            if known is not None:
                line.waiting[key] = replace(known, until_s=now_s + PATIENCE_S)
                return True
        return False

    def put(self, asker: str, gifts: Iterable[Gift], now_s: float, *, is_member: bool) -> None:
        """These are to be sent, when their turn comes."""
        line = self._members if is_member else self._others
        for gift in gifts:
            key = (asker, gift.digest, gift.start // CHUNK_BYTES, gift.index)
            if key not in line.waiting:
                line.waiting[key] = Waiting(asker, gift, now_s + PATIENCE_S)
                line.num_of[asker] += 1

    def due(self, now_s: float, has_room: Callable[[Waiting], bool] = lambda _: True) -> Iterator[Waiting]:
        """What may be sent now, counted as it is taken; not what has no room further on."""
        self._is_blocked = False
        for line in (self._members, self._others):
            for key, each in list(line.waiting.items()):
                if each.until_s < now_s:
                    line.remove(key)
                elif not has_room(each):
                    self._is_blocked = True
                elif line.bucket.take(each.gift.end - each.gift.start, now_s):
                    line.remove(key)
                    yield each
                else:
                    break

    def deadline_s(self, now_s: float) -> float:
        """When `due` has something next."""
        at_s = now_s + AGAIN_S if self._is_blocked else math.inf
        for line in (self._members, self._others):
            if line.waiting and not self._is_blocked:
                first = next(iter(line.waiting.values())).gift
                wait_s = line.bucket.wait_s(first.end - first.start, now_s)
                at_s = min(at_s, now_s + (max(wait_s, LEAST_S) if wait_s else 0.0))
        return at_s

    def __len__(self) -> int:
        """How many chunks wait."""
        return len(self._members.waiting) + len(self._others.waiting)
