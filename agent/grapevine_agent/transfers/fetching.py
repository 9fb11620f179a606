"""Getting bulks: whose chunks to ask for, of whom, and when again. Sans-IO.

    a notice ─want─▶ waits ─there is room─▶ index ─▶ [look at what is on disk] ─▶ chunks, `window` at a time ─▶ whole
                                            ▲                                      │
                                            └── lost, refused: again, of somebody else if there is one

The same bulk may be wanted for several notices: a model that a server publishes, or one that two members pass on. It
is fetched once, of whoever said that it has it. A newer update of a peer takes the place of one that still waits.

Bounded are the bulks that are fetched at a time, in number and bytes, and those that wait: for an hour at most, and
what is smaller overtakes them for half a minute. What makes no
progress for `GIVE_UP_S` is given up; what was got of it until then stays on disk, if it lies there, and is not asked
for again the next time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.transfers.assembly import Assembly, Room
from grapevine_agent.transfers.window import Window
from grapevine_proto.bulk import MAX_ASKED, Bulk, Piece, span_of
from grapevine_proto.errors import StoreError, WireError
from grapevine_proto.messages import ChunkRequest

MOST_AT_A_TIME: Final = 4
MOST_WAITING: Final = 32
MAX_NOTICES: Final = 8  # that one bulk is wanted for
GIVE_UP_S: Final = 90.0
WAIT_S: Final = 3_600.0  # for its turn
OVERTAKEN_S: Final = 30.0  # so long smaller ones go before one that has no room yet
MOST_S: Final = 600.0  # and as long as it takes at this rate: a holder that sends a chunk a minute is none
SLOWEST_BYTES_PER_S: Final = 20_000.0
MAX_FAULTS: Final = 3  # wrong chunks of one holder
LOOKED_AT: Final = 32  # chunks on disk that are checked in one go: 4 MB, some 5 ms


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is to be sent to a holder."""

    holder: str
    request: ChunkRequest


@dataclass(frozen=True, slots=True)
class Whole:
    """A bulk is here: its bytes, and what it was wanted for."""

    wanted_for: tuple[Hashable, ...]
    room: Room


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A bulk will not come."""

    wanted_for: tuple[Hashable, ...]
    why: str


@dataclass(kw_only=True, eq=False)
class _Fetch:
    """One bulk on its way."""

    bulk: Bulk
    make_room: Callable[[], Room]
    key: Hashable  # what a newer one takes the place of
    wanted_for: list[Hashable]
    holders: list[str]  # who said that they have it, the one that is asked first
    window: Window
    wanted_s: float
    progress_s: float
    until_s: float
    faults: dict[str, int] = field(default_factory=dict)
    assembly: Assembly | None = None  # None: it waits
    looking: Iterator[None] | None = None
    asked: dict[int, float] = field(default_factory=dict)  # chunk → when; -1: the index
    why: str = "nobody answers"
    is_resumed: bool = False

    @property
    def is_broken_off(self) -> bool:
        """Whether some of it is here, and not all."""
        return self.assembly is not None and self.assembly.has_some and not self.assembly.is_whole

    @property
    def holder(self) -> str | None:
        return self.holders[0] if self.holders else None

    def begin(self, now_s: float) -> None:
        """Its turn has come: its time begins."""
        self.progress_s = now_s
        self.until_s = now_s + MOST_S + self.bulk.num_bytes / SLOWEST_BYTES_PER_S

    def lose(self, holder: str) -> None:
        """It is not to be asked any more."""
        if holder in self.holders:
            was_asked = holder == self.holder
            self.holders.remove(holder)
            if was_asked:
                self.asked.clear()


@dataclass(kw_only=True)
class Fetching:
    """See the module's docstring.

    Args:
        most_window: Chunks of one bulk that may be under way.
        most_bytes: Of all bulks that are fetched at a time; one alone may be larger.
    """

    most_window: int = 4
    most_bytes: int = 64_000_000
    num_bytes: int = 0  # that came, of chunks that were whole and right
    num_whole: int = 0  # bulks that came
    num_given_up: int = 0  # that were begun, and did not
    num_resumed: int = 0  # that went on after a break: another connection, an answer that did not come, a restart
    _fetches: dict[bytes, _Fetch] = field(default_factory=dict)  # by digest, in the order in which they were wanted
    _by_transfer: dict[str, bytes] = field(default_factory=dict)
    _looked_s: float = -math.inf

    # --- what is wanted -----------------------------------------------------------------------------

    def want(
        self,
        bulk: Bulk,
        holder: str,
        wanted_for: Hashable,
        now_s: float,
        *,
        make_room: Callable[[], Room],
        key: Hashable = None,
    ) -> list[GivenUp]:
        """Get a bulk that this peer has. Raises `WireError("over-quota")` where too many are wanted already.

        `make_room` is called when its turn has come; what it raises as `StoreError` gives the bulk up. `key` says what
        this is the newest of: what still waits under it is given up.
        """
        superseded = [
            fetch
            for fetch in self._fetches.values()
            if key is not None and fetch.key == key and fetch.assembly is None and fetch.bulk.digest != bulk.digest
        ]
        known = self._fetches.get(bulk.digest)
        if known is not None and known.bulk.num_bytes != bulk.num_bytes:
            raise WireError("digest", "two sizes of one bulk")
        num_others = len(self._fetches) - len(superseded)
        if known is None and (num_others >= MOST_WAITING or bulk.transfer in self._by_transfer):
            raise WireError("over-quota", f"{num_others} bulks are wanted already")
        gone = [self._end(fetch, "a newer one came") for fetch in superseded]
        if known is not None:
            if holder not in known.holders:
                known.holders.append(holder)
            if len(known.wanted_for) < MAX_NOTICES:
                known.wanted_for.append(wanted_for)
            return gone
        self._by_transfer[bulk.transfer] = bulk.digest
        self._fetches[bulk.digest] = _Fetch(
            bulk=bulk,
            make_room=make_room,
            key=key,
            wanted_for=[wanted_for],
            holders=[holder],
            window=Window(most=self.most_window),
            wanted_s=now_s,
            progress_s=now_s,
            until_s=now_s + WAIT_S,
        )
        return gone

    def is_wanted(self, transfer: str, sender: str) -> bool:
        """Whether chunks of this transfer were asked for, of this peer."""
        digest = self._by_transfer.get(transfer)
        return digest is not None and sender in self._fetches[digest].holders

    def drop(self, is_unwanted: Callable[[Hashable], bool]) -> list[GivenUp]:
        """Some of what bulks were wanted for is not wanted any more."""
        gone = []
        for fetch in list(self._fetches.values()):
            unwanted = [each for each in fetch.wanted_for if is_unwanted(each)]
            fetch.wanted_for = [each for each in fetch.wanted_for if each not in unwanted]
            if not fetch.wanted_for:
                fetch.wanted_for = unwanted
                gone.append(self._end(fetch, "it is not wanted any more"))
        return gone

    def __len__(self) -> int:
        """How many are on their way, or wait."""
        return len(self._fetches)

    def lines(self) -> list[dict[str, object]]:
        """What is on its way, for who wants to see it."""
        return [
            {
                "transfer": fetch.bulk.transfer,
                "from": fetch.holder,
                "bytes": fetch.bulk.num_bytes,
                "chunks": fetch.bulk.num_chunks,
                "missing": fetch.bulk.num_chunks if fetch.assembly is None else len(fetch.assembly.missing),
                "window": fetch.window.size,
            }
            for fetch in self._fetches.values()
        ]

    # --- what arrives -------------------------------------------------------------------------------

    def hear_piece(self, sender: str, transfer: str, piece: Piece, now_s: float) -> Whole | GivenUp | None:
        """A piece came. Returns the end of its bulk, if it is that. Raises `WireError` if it is none that is wanted."""
        digest = self._by_transfer.get(transfer)
        fetch = None if digest is None else self._fetches[digest]
        if fetch is None or fetch.assembly is None or sender not in fetch.holders or fetch.looking is not None:
            raise WireError("not-asked", f"a chunk of {transfer} by {sender}")
        try:
            chunk = fetch.assembly.put(piece)
        except WireError:
            return self._fault(fetch, sender)
        if piece.index and fetch.assembly.has_index:
            chunk = _INDEX
            fetch.looking = fetch.assembly.look()
        if chunk is not None:
            asked_s = fetch.asked.pop(chunk, None)
            fetch.progress_s = now_s
            if asked_s is not None:
                fetch.window.arrived(now_s - asked_s)
            if chunk != _INDEX:
                fetch.faults.pop(sender, None)
                start, end = span_of(chunk, fetch.bulk.num_bytes)
                self.num_bytes += end - start
        return self._whole(fetch) if fetch.assembly.is_whole and fetch.looking is None else None

    def hear_refusal(self, sender: str, digest: bytes, why: str) -> GivenUp | None:
        """A holder does not hold it any more."""
        fetch = self._fetches.get(digest)
        if fetch is None:
            return None
        fetch.why = f"{sender}: {why}"
        fetch.lose(sender)
        return None if fetch.holders else self._end(fetch, fetch.why)

    def _fault(self, fetch: _Fetch, sender: str) -> GivenUp | None:
        """A holder sends what is not in the bulk: it is asked again, and then no more."""
        fetch.faults[sender] = fetch.faults.get(sender, 0) + 1
        fetch.asked.clear()
        if fetch.faults[sender] < MAX_FAULTS:
            return None
        fetch.why = f"what {sender} sends is not what it has signed"
        fetch.lose(sender)
        return None if fetch.holders else self._end(fetch, fetch.why)

    def connected(self) -> None:
        """What was asked for over another connection may be lost: it is asked for again."""
        for fetch in self._fetches.values():
            fetch.asked.clear()
            self._resume(fetch)

    # --- time ---------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Ask | Whole | GivenUp]:
        """What is to be asked for now, and what has come to its end."""
        out: list[Ask | Whole | GivenUp] = []
        self._begin_some(out, now_s)
        for fetch in list(self._fetches.values()):
            if now_s >= fetch.until_s:
                out.append(self._end(fetch, "it takes too long"))
                continue
            if fetch.assembly is None:
                continue
            if fetch.looking is not None:
                if all(next(fetch.looking, _OVER) is None for _ in range(LOOKED_AT)):
                    continue  # and goes on at the next tick, which is due at once
                fetch.looking = None
                fetch.progress_s = now_s
                self._resume(fetch)
            if fetch.assembly.is_whole:
                out.append(self._whole(fetch))
            elif now_s >= fetch.progress_s + GIVE_UP_S:
                out.append(self._end(fetch, fetch.why))
            else:
                out += self._asks(fetch, now_s)
        return out

    def deadline_s(self) -> float:
        """When `tick` has something to do next."""
        if self._next_to_begin() is not None:
            return -math.inf
        at_s = math.inf
        for fetch in self._fetches.values():
            if fetch.assembly is None:
                at_s = min(at_s, fetch.until_s)
            elif fetch.looking is not None or fetch.assembly.is_whole or self._may_ask(fetch):
                return -math.inf
            else:
                lost_s = min(fetch.asked.values(), default=math.inf) + fetch.window.patience_s
                at_s = min(at_s, lost_s, fetch.progress_s + GIVE_UP_S, fetch.until_s)
        return at_s

    def _begin_some(self, out: list[Ask | Whole | GivenUp], now_s: float) -> None:
        self._looked_s = now_s
        while (fetch := self._next_to_begin()) is not None:
            try:
                room = fetch.make_room()
            except StoreError as error:
                out.append(self._end(fetch, str(error)))
                continue
            fetch.assembly = Assembly(bulk=fetch.bulk, room=room)
            fetch.begin(now_s)
            fetch.looking = fetch.assembly.look() if fetch.assembly.has_index else None

    def _next_to_begin(self) -> _Fetch | None:
        """The one that is next, if it has room; smaller ones overtake it for a while."""
        for fetch in self._fetches.values():
            if fetch.assembly is None:
                if self._has_room_for(fetch):
                    return fetch
                if self._looked_s > fetch.wanted_s + OVERTAKEN_S:
                    return None
        return None

    def _has_room_for(self, fetch: _Fetch) -> bool:
        active = [each.bulk.num_bytes for each in self._fetches.values() if each.assembly is not None]
        if not active:
            return True
        return len(active) < MOST_AT_A_TIME and sum(active) + fetch.bulk.num_bytes <= self.most_bytes

    def _may_ask(self, fetch: _Fetch) -> bool:
        assert fetch.assembly is not None
        if fetch.holder is None:
            return False
        if not fetch.assembly.has_index:
            return not fetch.asked
        return len(fetch.asked) < min(fetch.window.size, len(fetch.assembly.missing))

    def _asks(self, fetch: _Fetch, now_s: float) -> list[Ask | Whole | GivenUp]:
        assert fetch.assembly is not None
        lost = [chunk for chunk, at_s in fetch.asked.items() if at_s + fetch.window.patience_s <= now_s]
        if lost:
            self._resume(fetch)
            fetch.window.lost()
            fetch.holders = fetch.holders[1:] + fetch.holders[:1]  # somebody else may be nearer
            fetch.asked.clear()
        if not self._may_ask(fetch):
            return []
        digest, holder = fetch.bulk.digest, fetch.holders[0]
        if not fetch.assembly.has_index:
            fetch.asked[_INDEX] = now_s
            return [Ask(holder, ChunkRequest(digest=digest, index=True))]
        room = min(fetch.window.size - len(fetch.asked), MAX_ASKED)
        chunks = sorted(fetch.assembly.missing - fetch.asked.keys())[:room]
        fetch.asked.update(dict.fromkeys(chunks, now_s))
        return [Ask(holder, ChunkRequest(digest=digest, chunks=tuple(chunks)))]

    # --- ends ---------------------------------------------------------------------------------------

    def _resume(self, fetch: _Fetch) -> None:
        if fetch.is_broken_off and not fetch.is_resumed:
            fetch.is_resumed = True
            self.num_resumed += 1

    def _whole(self, fetch: _Fetch) -> Whole:
        assert fetch.assembly is not None
        self._remove(fetch)
        self.num_whole += 1
        return Whole(tuple(fetch.wanted_for), fetch.assembly.room)

    def _end(self, fetch: _Fetch, why: str) -> GivenUp:
        self._remove(fetch)
        if fetch.assembly is not None:
            self.num_given_up += 1
            fetch.assembly.room.close()
        return GivenUp(tuple(fetch.wanted_for), why)

    def _remove(self, fetch: _Fetch) -> None:
        del self._fetches[fetch.bulk.digest], self._by_transfer[fetch.bulk.transfer]


_INDEX: Final = -1  # in the place of a chunk's number
_OVER: Final = object()
