"""Giving bulks: those that we have spoken of lately are held, and their chunks go to who asks. Sans-IO.

What is held is bounded: of each *thing* (the update of a task, a blob) the newest few bulks, and of all together so
many bytes; what nobody has asked for lately goes first. Whoever asks for what has gone is told so, and need not wait.
Updates hold the vectors that they were made of: nothing is copied.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from grapevine_proto.bulk import Bulk, span_of
from grapevine_proto.codec import SealedApart
from grapevine_proto.messages import ChunkRequest
from grapevine_proto.parts import Parts

NEW_S: Final = 20.0  # a bulk that was spoken of, or asked for, within this may be on its way to somebody
KEEP_S: Final = 120.0
MOST_OF_A_THING: Final = 2


@dataclass(frozen=True, slots=True)
class Gift:
    """Bytes of a bulk, or of its index, that somebody asked for."""

    digest: bytes
    index: bool
    start: int
    end: int


@dataclass(kw_only=True, eq=False)
class _Held:
    bulk: Bulk
    index: bytes
    content: Parts
    thing: str
    used_s: float


@dataclass(kw_only=True)
class Giving:
    """See the module's docstring. `most_bytes` is of all that is held; the newest bulk alone may be larger."""

    most_bytes: int = 256_000_000
    num_bytes: int = 0  # given away
    _held: OrderedDict[bytes, _Held] = field(default_factory=OrderedDict)  # by digest, used longest ago first

    def has_room_for(self, thing: str, digest: bytes, now_s: float) -> bool:
        """Whether another bulk of this thing can be held: not while several of it are on their way."""
        if digest in self._held:
            return True
        busy = [each for each in self._held.values() if each.thing == thing and each.used_s > now_s - NEW_S]
        return len(busy) < MOST_OF_A_THING

    def hold(self, sealed: SealedApart, thing: str, now_s: float) -> None:
        """A message speaks of this bulk: whoever gets it will ask."""
        digest = sealed.bulk.digest
        known = self._held.pop(digest, None)
        self._held[digest] = known or _Held(
            bulk=sealed.bulk, index=sealed.index, content=sealed.content, thing=thing, used_s=now_s
        )
        self._held[digest].used_s = now_s
        self._make_room(thing)

    def asked(self, request: ChunkRequest, now_s: float) -> list[Gift] | None:
        """What is to be sent for a request; None: the bulk is not held."""
        held = self._held.get(request.digest)
        if held is None:
            return None
        held.used_s = now_s
        self._held.move_to_end(request.digest)
        gifts = [Gift(request.digest, True, 0, len(held.index))] if request.index else []
        chunks = (chunk for chunk in request.chunks if chunk < held.bulk.num_chunks)
        gifts += (Gift(request.digest, False, *span_of(chunk, held.bulk.num_bytes)) for chunk in chunks)
        return gifts

    def content_of(self, gift: Gift) -> Parts | None:
        """The bytes that a gift is a part of; None: they have gone meanwhile."""
        held = self._held.get(gift.digest)
        if held is None:
            return None
        return Parts([held.index]) if gift.index else held.content

    def tick(self, now_s: float) -> None:
        """What nobody asks for any more goes."""
        while self._held and next(iter(self._held.values())).used_s < now_s - KEEP_S:
            self._held.popitem(last=False)

    def drop(self, thing: str) -> None:
        """Nothing of this thing is given any more."""
        for digest in [digest for digest, each in self._held.items() if each.thing == thing]:
            del self._held[digest]

    def __len__(self) -> int:
        """How many bulks are held."""
        return len(self._held)

    def _make_room(self, thing: str) -> None:
        same = [digest for digest, each in self._held.items() if each.thing == thing]
        for digest in same[:-MOST_OF_A_THING]:
            del self._held[digest]
        while len(self._held) > 1 and sum(each.bulk.num_bytes for each in self._held.values()) > self.most_bytes:
            self._held.popitem(last=False)
