"""Giving bulks: those that we have spoken of lately are held, and their chunks go to who asks. Sans-IO.

What is held is bounded: of each *thing* (the update of a task, a blob) the newest few bulks, and of all together so
many bytes; what nobody has asked for lately goes first. Whoever asks for what has gone is told so, and need not wait.
What one notice brings is bounded too: twice its bulk.
Updates hold the vectors that they were made of: nothing is copied.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from grapevine_proto.bulk import CHUNK_BYTES, Bulk, span_of
from grapevine_proto.codec import SealedApart
from grapevine_proto.errors import GrapevineError
from grapevine_proto.messages import ChunkRequest
from grapevine_proto.parts import Parts

NEW_S: Final = 20.0  # whoever was told of a bulk and has not asked for so long does not want it
KEEP_S: Final = 120.0
MOST_OF_A_THING: Final = 2
SOME_CHUNKS: Final = 32
MAX_ASKERS: Final = 1_000  # of one bulk


class NotGivenError(GrapevineError):
    """What was asked for is not given; the text, which the asker gets, says why."""


@dataclass(frozen=True, slots=True)
class Gift:
    """Bytes of a bulk, or of its index, that somebody asked for."""

    digest: bytes
    index: bool
    start: int
    end: int
    asker: str = ""


@dataclass(kw_only=True, eq=False)
class _Held:
    bulk: Bulk
    index: bytes
    content: Parts
    thing: str
    used_s: float
    is_answer: bool
    owed: dict[str, set[int]] = field(default_factory=dict)  # who was told of it → chunks that it has not asked for
    # Who asks → chunks that it may have before it is told again; who has asked longest ago first.
    budgets: OrderedDict[str, int] = field(default_factory=OrderedDict)
    gone: dict[str, int] = field(default_factory=dict)  # who asked → a bit for each chunk that has left for it

    def may_have(self, asker: str, num: int) -> bool:
        """Count so many chunks for who asks; whether it may have them."""
        left = self.budgets.get(asker, self.most_chunks)
        self.budget(asker, left - num if left >= num else left)
        return left >= num

    def budget(self, asker: str, num: int) -> None:
        """So many chunks it may have from now on."""
        self.budgets[asker] = num
        self.budgets.move_to_end(asker)
        if len(self.budgets) > MAX_ASKERS:
            longest_ago, _ = self.budgets.popitem(last=False)
            self.gone.pop(longest_ago, None)

    def has_had(self, gift: Gift) -> bool:
        """Count a piece that leaves; whether all of its chunk had left for this asker before."""
        had, bit = self.gone.get(gift.asker, 0), 1 << (gift.start // CHUNK_BYTES)
        if had & bit or gift.asker not in self.budgets:
            return bool(had & bit)
        if gift.end == span_of(gift.start // CHUNK_BYTES, self.bulk.num_bytes)[1]:
            self.gone[gift.asker] = had | bit
        return False

    def begins_anew(self, asker: str) -> None:
        """Who has had all of it is told of it once more: what it asks for then, it asks for the first time."""
        if self.gone.get(asker) == (1 << self.bulk.num_chunks) - 1:
            del self.gone[asker]

    @property
    def most_chunks(self) -> int:
        """What one notice is good for: all of it, and as much again for what is lost."""
        return 2 * self.bulk.num_chunks + SOME_CHUNKS


@dataclass(kw_only=True)
class Giving:
    """See the module's docstring. `most_bytes` is of all that is held; the newest bulk alone may be larger."""

    most_bytes: int = 64_000_000
    num_bytes: int = 0  # given away
    num_bytes_again: int = 0  # of these, what had left for the same asker before
    _held: OrderedDict[bytes, _Held] = field(default_factory=OrderedDict)  # by digest, used longest ago first

    def has_room_for(self, thing: str, num_bytes: int, now_s: float) -> bool:
        """Whether another bulk of this thing can be held: not while others, together too large, are on their way."""
        busy = [each for each in self._held.values() if each.owed and each.used_s > now_s - NEW_S]
        if not busy:
            return True
        fits = sum(each.bulk.num_bytes for each in busy) + num_bytes <= self.most_bytes
        return fits and sum(each.thing == thing for each in busy) < MOST_OF_A_THING

    def hold(
        self, sealed: SealedApart, thing: str, now_s: float, receiver: str = "", *, is_answer: bool = False
    ) -> None:
        """A message speaks of this bulk: its receiver will ask, or whoever reads it. `is_answer`: it was asked for."""
        digest = sealed.bulk.digest
        known = self._held.pop(digest, None)
        self._held[digest] = known or _Held(
            bulk=sealed.bulk,
            index=sealed.index,
            content=sealed.content,
            thing=thing,
            used_s=now_s,
            is_answer=is_answer,
        )
        self._held[digest].used_s = now_s
        if receiver:
            self._held[digest].budget(receiver, self._held[digest].most_chunks)
            self._held[digest].owed[receiver] = set(range(sealed.bulk.num_chunks))
            self._held[digest].begins_anew(receiver)
        self._make_room(thing)

    def asked(self, request: ChunkRequest, now_s: float, asker: str = "") -> list[Gift]:
        """What is to be sent for a request. Raises `NotGivenError` if nothing is."""
        held = self._held.get(request.digest)
        if held is None:
            raise NotGivenError("not held, or not any more")
        held.used_s = now_s
        self._held.move_to_end(request.digest)
        if asker and not held.may_have(asker, len(request.chunks)):
            raise NotGivenError("all of it was given twice")
        if asker in held.owed:
            held.owed[asker].difference_update(request.chunks)
            if not held.owed[asker]:
                del held.owed[asker]
        gifts = [Gift(request.digest, True, 0, len(held.index), asker)] if request.index else []
        chunks = (chunk for chunk in request.chunks if chunk < held.bulk.num_chunks)
        gifts += (Gift(request.digest, False, *span_of(chunk, held.bulk.num_bytes), asker) for chunk in chunks)
        return gifts

    def is_answer(self, digest: bytes) -> bool:
        """Whether a bulk is held because somebody asked for it."""
        held = self._held.get(digest)
        return held is not None and held.is_answer

    def content_of(self, gift: Gift) -> Parts | None:
        """The bytes that a gift is a part of; None: they have gone meanwhile."""
        held = self._held.get(gift.digest)
        if held is None:
            return None
        return Parts([held.index]) if gift.index else held.content

    def left(self, gift: Gift) -> None:
        """A gift is on its way: count it."""
        self.num_bytes += gift.end - gift.start
        held = self._held.get(gift.digest)
        if held is not None and not gift.index and held.has_had(gift):
            self.num_bytes_again += gift.end - gift.start

    def tick(self, now_s: float) -> None:
        """What nobody asks for any more goes."""
        while self.deadline_s() <= now_s:
            self._held.popitem(last=False)

    def deadline_s(self) -> float:
        """When `tick` has something to do next."""
        return next(iter(self._held.values())).used_s + KEEP_S if self._held else math.inf

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
