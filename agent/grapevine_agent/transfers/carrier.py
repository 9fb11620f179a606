"""Both ends of one peer's transfers: what is sent in two, what is given of it, and what is got of others. Sans-IO.

Theory of operation. A shell brings what happens and when, and does what comes back; the service's is
`service/carrying.py`, the simulator's `grapevine_lab.simulator.carrying`.

    says something large ─goes_apart, may_send─▶ hold ─▶ its notice, to be sent          (its bulk: `giving`)
    asked for chunks     ─give─▶ they wait (`pacing`) ─due─▶ gifts, to be sent one by one ─payload_of─▶ a chunk
    a notice was let in  ─want─┐
    a chunk came    ─hear_piece─┼▶ Ask: send a request │ Whole: `message_of` it, and hand it over │ GivenUp: say so
    time passed          ─tick─┘                                                         (all that: `fetching`)

Only what its digest says is ever handed over, whatever comes and from whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from grapevine_agent.transfers.assembly import Memory, Room
from grapevine_agent.transfers.fetching import Ask, Fetching, GivenUp, Whole
from grapevine_agent.transfers.giving import Gift, Giving
from grapevine_agent.transfers.pacing import Pacing, Waiting
from grapevine_proto import bulk as bulks
from grapevine_proto.bulk import Bulk
from grapevine_proto.codec import Received, SealedApart, complete
from grapevine_proto.errors import WireError
from grapevine_proto.messages import (
    Apart,
    Blob,
    Body,
    ChunkRefusal,
    ChunkRequest,
    ModelUpdate,
    ReleasedModel,
    ServerModel,
)
from grapevine_proto.topics import ChunkTopic

BESIDE_IT_BYTES: Final = 16_384  # of a message, beside its large fields: contributions, lists of members
PIECE_OVERNOTICE_BYTES: Final = 256  # of a packet with a piece: topic, header, offset
LEAST_PIECE_BYTES: Final = 1_024
CHUNK_DEADLINE_S: Final = 30.0  # who asked has asked again, or somebody else

End: TypeAlias = Ask | Whole | GivenUp
RoomKind: TypeAlias = Literal["memory", "disk"]  # what changes every round, and what a restart must not lose


def goes_apart(num_bytes: int, max_packet_bytes: int) -> bool:
    """Whether a body with so many bytes of large fields is sent as a notice and a bulk; without any it is not."""
    return num_bytes > min(bulks.APART_BYTES, max(max_packet_bytes - BESIDE_IT_BYTES, max_packet_bytes // 4))


def thing_of(body: Body) -> str:
    """What a bulk is the newest of."""
    match body:
        case ModelUpdate(task=task):
            return f"update of {task}"
        case Blob(digest=digest):
            return digest
        case ServerModel(task=task, cluster=cluster) | ReleasedModel(task=task, cluster=cluster):
            return f"{type(body).__name__} {cluster} of {task}"
    raise ValueError(f"{type(body).__name__} has no large fields")


@dataclass(frozen=True, eq=False)
class Notice:
    """A message that was let in, whose bulk is on its way."""

    received: Received

    @property
    def task(self) -> str:
        """The task that it belongs to."""
        apart = self.received.message.body
        assert isinstance(apart, Apart)
        return apart.task


@dataclass(frozen=True)
class _MakeRoom:
    """A plain object, so that a checkpoint can hold it."""

    kind: RoomKind
    bulk: Bulk
    make: Callable[[RoomKind, Bulk], Room]

    def __call__(self) -> Room:
        return self.make(self.kind, self.bulk)


def in_memory(_kind: RoomKind, bulk: Bulk) -> Room:
    """A room for anything, where there is no disk."""
    return Memory(bulk.num_bytes)


class Carrier:
    """See the module's docstring. Times are monotonic seconds.

    Args:
        peer: Our own id.
        window: Chunks of one bulk that may be under way.
        most_bytes: Of bulks that are fetched at a time, and of those that are held for others.
        upload_bytes_per_s: What the owner lends; who is no member shares half as much again.
        make_room: Where the bytes of a bulk are to lie. What it raises as `StoreError` gives the bulk up.
    """

    def __init__(
        self,
        *,
        peer: str,
        window: int,
        most_bytes: int,
        upload_bytes_per_s: float,
        make_room: Callable[[RoomKind, Bulk], Room] = in_memory,
    ) -> None:
        self._peer = peer
        self._make_room = make_room
        self._pacing = Pacing(upload_bytes_per_s)
        self.fetching = Fetching(most_window=window, most_bytes=most_bytes)
        self.giving = Giving(most_bytes=most_bytes)

    # --- on the way out -----------------------------------------------------------------------------

    def may_send(self, body: Body, num_bytes: int, now_s: float) -> bool:
        """Whether there is room for one more bulk of its kind: none is offered while two are on their way."""
        return self.giving.has_room_for(thing_of(body), num_bytes, now_s)

    def hold(self, body: Body, sealed: SealedApart, receiver: str, now_s: float) -> bytes:
        """The notice of a message, whose bulk can be asked for from now on. `receiver`: "" for whoever reads it."""
        is_answer = isinstance(body, Blob | ReleasedModel)
        self.giving.hold(sealed, thing_of(body), now_s, receiver, is_answer=is_answer)
        return sealed.payload

    def drop_task(self, task: str) -> list[GivenUp]:
        """Nothing of a task is sent, or fetched, any more."""
        self.giving.drop(f"update of {task}")
        return self.fetching.drop(lambda notice: isinstance(notice, Notice) and notice.task == task)

    def give(
        self,
        request: ChunkRequest,
        asker: str,
        now_s: float,
        *,
        is_member: bool,
        may_give: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Somebody asks for chunks: they are due when their turn comes.

        `may_give` says whether so many bytes may leave of what was asked for (an update was sent, and is counted).

        Raises `NotGivenError` if nothing of it is given, which the asker is to be told, and `WireError("over-quota")`
        where too much waits already, or `may_give` says no: it will ask again.
        """
        request = self._pacing.not_waiting(asker, request, now_s)
        if not self._pacing.has_room_for(asker, len(request.chunks) + request.index, is_member=is_member):
            raise WireError("over-quota", f"{asker} asks for chunks of {request.digest.hex()[:12]}…")
        gifts = self.giving.asked(request, now_s, asker)
        if self.giving.is_answer(request.digest) and not may_give(sum(gift.end - gift.start for gift in gifts)):
            raise WireError("over-quota", f"{asker} asks for chunks, and today's bytes are spent")
        self._pacing.put(asker, gifts, now_s, is_member=is_member)

    def due(
        self,
        now_s: float,
        packet_bytes_to: Callable[[str], int],
        has_room: Callable[[str, int], bool] = lambda _, __: True,
    ) -> Iterator[Gift]:
        """What is to be sent now, in pieces that a packet to the asker holds.

        `has_room` says whether so many more have room on their way to a peer.
        """

        def most_bytes(each: Waiting) -> int:
            return max(LEAST_PIECE_BYTES, min(bulks.CHUNK_BYTES, packet_bytes_to(each.asker) - PIECE_OVERNOTICE_BYTES))

        def fits(each: Waiting) -> bool:
            return has_room(each.asker, -(-(each.gift.end - each.gift.start) // most_bytes(each)))

        for each in self._pacing.due(now_s, fits):
            at_most = most_bytes(each)
            for start in range(each.gift.start, each.gift.end, at_most):
                yield replace(each.gift, start=start, end=min(each.gift.end, start + at_most))

    def topic_of(self, gift: Gift) -> ChunkTopic:
        """Where a gift goes."""
        return ChunkTopic(gift.asker, self._peer, bulks.transfer_of(gift.digest))

    def payload_of(self, gift: Gift) -> bytes | None:
        """A chunk, when it is its turn to leave; None if it is not held any more."""
        content = self.giving.content_of(gift)
        if content is None:
            return None
        (piece,) = bulks.pieces_of(content, gift.start, gift.end, index=gift.index, at_most=gift.end - gift.start)
        self.giving.left(gift)
        return bulks.write_piece(piece)

    # --- on the way in ------------------------------------------------------------------------------

    def want(self, received: Received, now_s: float) -> list[GivenUp]:
        """A notice was let in: get its bulk. Raises `WireError("over-quota")` where too many are wanted already."""
        apart, bulk, sender = received.message.body, received.bulk, received.message.sender
        assert isinstance(apart, Apart)
        assert bulk is not None
        make_room = _MakeRoom("disk" if apart.kind is Blob else "memory", bulk, self._make_room)
        key = (sender, apart.task) if apart.kind is ModelUpdate else None
        return self.fetching.want(bulk, sender, Notice(received), now_s, make_room=make_room, key=key)

    def hear_piece(self, topic: ChunkTopic, payload: bytes | memoryview, now_s: float) -> list[End]:
        """A chunk came, or a piece of one. Raises `WireError` if it is none that was asked for."""
        if topic.receiver != self._peer or not self.fetching.is_wanted(topic.transfer, topic.sender):
            raise WireError("not-asked", f"a chunk of {topic.transfer} by {topic.sender}")
        if len(payload) > bulks.CHUNK_BYTES + PIECE_OVERNOTICE_BYTES:
            raise WireError("too-big", f"a chunk of {len(payload)} bytes")
        end = self.fetching.hear_piece(topic.sender, topic.transfer, bulks.read_piece(payload), now_s)
        return [end] if end is not None else []

    def hear_refusal(self, sender: str, refusal: ChunkRefusal) -> list[End]:
        """A peer does not give what it has spoken of."""
        gone = self.fetching.hear_refusal(sender, refusal.digest, refusal.reason)
        return [gone] if gone is not None else []

    def connected(self) -> None:
        """There is a new connection."""
        self.fetching.connected()

    # --- time ---------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[End]:
        """What is to be asked for now, and what has come to its end."""
        self.giving.tick(now_s)
        return list(self.fetching.tick(now_s))

    def deadline_s(self, now_s: float) -> float:
        """When `tick` or `due` has something to do next."""
        return min(self.fetching.deadline_s(), self.giving.deadline_s(), self._pacing.deadline_s(now_s))

    def status(self) -> dict[str, object]:
        """What is on its way, and what has come and gone in chunks since the start, in bytes."""
        return {
            "fetched_bytes": self.fetching.num_bytes,
            "given_bytes": self.giving.num_bytes,
            "given_again_bytes": self.giving.num_bytes_again,
            "fetched": self.fetching.num_whole,
            "resumed": self.fetching.num_resumed,
            "given_up": self.fetching.num_given_up,
            "under_way": self.fetching.lines(),
        }


def message_of(notice: Notice, content: memoryview) -> Received:
    """The whole message, now that its bulk is here, whose bytes these are. Raises `WireError`."""
    return complete(notice.received, content)
