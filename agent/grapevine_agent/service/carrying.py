"""What is too large for a packet, on its way between the core and the broker.

    core ─Publish─▶ sealing ─ too large ─▶ notice ─▶ outbox            its bulk: giving
    broker ─notice─▶ hearing ─▶ core ─Fetch─▶ fetching ─Ask─▶ outbox
    broker ─ChunkRequest─▶ hearing ─▶ core ─GiveChunks─▶ giving ─▶ pacing ─▶ outbox, as chunks
    broker ─Chunk─▶ hearing ─▶ fetching ─ it is whole ─▶ the message ─▶ core.fetched

What to ask for, and what to give, is decided in `transfers/carrier.py`, which knows neither sockets nor clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable
from pathlib import Path
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service import clock
from grapevine_agent.service.turns import Turns
from grapevine_agent.transfers.assembly import File, Memory, Room
from grapevine_agent.transfers.carrier import (
    CHUNK_DEADLINE_S,
    Carrier,
    End,
    Notice,
    RoomKind,
    goes_apart,
    message_of,
)
from grapevine_agent.transfers.fetching import Ask, GivenUp, Whole
from grapevine_agent.transfers.giving import Gift, NotGivenError
from grapevine_proto.bodies import num_bytes
from grapevine_proto.bulk import Bulk
from grapevine_proto.codec import Received, SealedApart
from grapevine_proto.errors import WireError
from grapevine_proto.messages import ChunkRefusal
from grapevine_proto.parts import Payload
from grapevine_proto.topics import ChunkTopic, InboxTopic, Topic, receiver_of

logger = logging.getLogger(__name__)

LONGEST_NAP_S: Final = 5.0
KEPT_PARTS: Final = 4  # of weights that were begun
KEPT_S: Final = 7 * 24 * 3600.0


class Carrying:
    """See the module's docstring. `run()` is its one task.

    Args:
        core: Who decides what is worth fetching.
        turns: For calls into it.
        outbox_to: Where chunks to a peer wait for their turn.
        publish: Publishes what we say.
        wake: Something waits in the outbox.
        root: Topic root.
        max_packet_bytes: What the broker takes, at present.
        folder: Where initial weights lie until they are whole.
        window: Chunks of one bulk that may be under way.
        most_bytes: Of bulks that are fetched at a time, and of those that are held for others.
        rejected: Told of a message that was let in by its notice and is none, and of its sender.
        in_background: Has something done that is awaited by nobody.
    """

    def __init__(
        self,
        *,
        core: AgentCore,
        turns: Turns,
        outbox_to: Callable[[str], Outbox],
        publish: Callable[[fx.Publish], None],
        wake: Callable[[], None],
        root: str,
        max_packet_bytes: Callable[[], int],
        folder: Path,
        window: int,
        most_bytes: int,
        rejected: Callable[[WireError, str], None],
        in_background: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._core = core
        self._turns = turns
        self._outbox_to = outbox_to
        self._publish = publish
        self._wake_outbox = wake
        self._root = root
        self._max_packet_bytes = max_packet_bytes
        self._folder = folder
        self._rejected = rejected
        self._in_background = in_background
        _clear(folder)
        self._carrier = Carrier(
            peer=core.settings.peer,
            window=window,
            most_bytes=most_bytes,
            upload_bytes_per_s=core.settings.upload_bytes_per_s,
            make_room=self._make_room,
        )
        self._wake = asyncio.Event()

    # --- on the way out -----------------------------------------------------------------------------

    def goes_apart(self, num_bytes: int, topic: Topic) -> bool:
        """Whether a body with so many bytes of large fields is sent as a notice and a bulk; without any it is not."""
        return goes_apart(num_bytes, self._packet_bytes_to(receiver_of(topic)))

    def _packet_bytes_to(self, receiver: str) -> int:
        """What every broker takes that we are connected to, and who carries for the receiver."""
        return int(min(self._max_packet_bytes(), self._core.packet_bytes_to(receiver, clock.now())))

    def may_send(self, publish: fx.Publish) -> bool:
        """Whether there is room for one more bulk of its kind: none is offered while two are on their way."""
        return self._carrier.may_send(publish.body, num_bytes(publish.body), clock.now().monotonic_s)

    def hold(self, publish: fx.Publish, sealed: SealedApart) -> bytes:
        """The notice of a message, whose bulk can be asked for from now on."""
        return self._carrier.hold(publish.body, sealed, receiver_of(publish.topic), clock.now().monotonic_s)

    def drop_task(self, task: str) -> None:
        """Nothing of a task is sent, or fetched, any more."""
        self._tell(self._carrier.drop_task(task))

    def give(self, wanted: fx.GiveChunks) -> None:
        """Somebody asks for chunks."""
        asker, now = wanted.topic.receiver, clock.now()
        is_member, governor = self._core.members.is_member(asker), self._core.governing.governor
        try:
            self._carrier.give(
                wanted.request,
                asker,
                now.monotonic_s,
                is_member=is_member,
                may_give=lambda num_bytes: governor.may_give(num_bytes, now, is_member=is_member),
            )
        except NotGivenError as error:
            refusal = ChunkRefusal(digest=wanted.request.digest, reason=str(error))
            self._publish(fx.Publish(topic=wanted.topic, body=refusal, receiver_session=wanted.receiver_session))
        except WireError as error:
            self._rejected(error, asker)
        self._wake.set()

    def _send_due(self, now_s: float) -> None:
        """Chunks whose turn has come go to the outbox, in pieces that the broker takes."""

        def has_room(asker: str, num_pieces: int) -> bool:
            return self._outbox_to(asker).has_room_for_chunks(num_pieces)

        for gift in self._carrier.due(now_s, self._packet_bytes_to, has_room):
            name = f"{self._root}/{self._carrier.topic_of(gift).below_root()}"
            self._outbox_to(gift.asker).chunk(
                name, deadline_s=now_s + CHUNK_DEADLINE_S, order=gift, num_bytes=gift.end - gift.start
            )
            self._wake_outbox()

    def payload_of(self, gift: Gift) -> Payload | None:
        """A chunk, when it is its turn to leave; None if it is not held any more."""
        return self._carrier.payload_of(gift)

    # --- on the way in ------------------------------------------------------------------------------

    def fetch(self, received: Received) -> None:
        """A notice was let in: get its bulk."""
        gone: list[GivenUp]
        try:
            gone = self._carrier.want(received, clock.now().monotonic_s)
        except WireError as error:
            self._rejected(error, received.message.sender)
            gone = [GivenUp((Notice(received),), str(error))]
        self._tell(gone)
        self._wake.set()

    def hear_piece(self, topic: ChunkTopic, payload: bytes | memoryview) -> None:
        """A chunk came, or a piece of one. Raises `WireError` if it is none that was asked for."""
        self._tell(self._carrier.hear_piece(topic, payload, clock.now().monotonic_s))
        self._wake.set()

    def hear_refusal(self, refused: fx.Refused) -> None:
        """A peer does not give what it has spoken of."""
        self._tell(self._carrier.hear_refusal(refused.sender, refused.refusal))
        self._wake.set()

    def connected(self) -> None:
        """There is a new connection."""
        self._carrier.connected()
        self._wake.set()

    def status(self) -> dict[str, object]:
        """What is on its way, and what has come and gone in chunks since the start."""
        return self._carrier.status()

    def _make_room(self, kind: RoomKind, bulk: Bulk) -> Room:
        return File(self._folder, bulk) if kind == "disk" else Memory(bulk.num_bytes)

    # --- time ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for what is missing, for ever."""
        while True:
            self._wake.clear()
            now_s = clock.now().monotonic_s
            self._tell(self._carrier.tick(now_s))
            self._send_due(now_s)
            wait_s = min(LONGEST_NAP_S, max(0.0, self._carrier.deadline_s(now_s) - now_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _tell(self, what: Iterable[End]) -> None:
        for each in what:
            match each:
                case Ask(holder=holder, request=request):
                    self._publish(
                        fx.Publish(
                            topic=InboxTopic(holder, self._core.settings.peer),
                            body=request,
                            receiver_session=self._core.members.session_of(holder),
                        )
                    )
                case Whole(wanted_for=notices, room=room):
                    self._in_background(self._deliver(notices, room))
                case GivenUp(wanted_for=notices, why=why):
                    logger.debug("not fetched: %s", why)
                    for notice in notices:
                        self._in_background(self._give_up(notice, why))

    async def _deliver(self, notices: Iterable[Hashable], room: Room) -> None:
        try:
            for notice in notices:
                assert isinstance(notice, Notice)
                await self._take(notice, room.view)
        finally:
            room.discard()

    async def _take(self, notice: Notice, content: memoryview) -> None:
        def take() -> Iterable[fx.Effect]:
            return self._core.fetched(message_of(notice, content), clock.now())

        try:
            await self._turns.take(take, num_bytes=lambda: len(content))
        except WireError as error:
            self._rejected(error, notice.received.message.sender)
            await self._give_up(notice, str(error))

    async def _give_up(self, notice: Hashable, why: str) -> None:
        assert isinstance(notice, Notice)
        await self._turns.take(lambda: self._core.not_fetched(notice.received, why, clock.now()))


def _clear(folder: Path) -> None:
    """Delete what was begun and not wanted again for long."""
    with contextlib.suppress(OSError):
        parts = sorted(folder.glob("*.part"), key=lambda path: path.stat().st_mtime, reverse=True)
        for number, path in enumerate(parts):
            if number >= KEPT_PARTS or path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink(missing_ok=True)
