"""What is too large for a packet, on its way between the core and the broker.

    core ─Publish─▶ sealing ─ too large ─▶ notice ─▶ outbox            its bulk: giving
    broker ─notice─▶ hearing ─▶ core ─Fetch─▶ fetching ─Ask─▶ outbox
    broker ─ChunkRequest─▶ hearing ─▶ core ─GiveChunks─▶ giving ─▶ pacing ─▶ outbox, as chunks
    broker ─Chunk─▶ hearing ─▶ fetching ─ it is whole ─▶ the message ─▶ core.fetched

What to ask for, and what to give, is decided in `transfers`, which knows neither sockets nor clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service import clock
from grapevine_agent.service.turns import Turns
from grapevine_agent.transfers.assembly import File, Memory, Room
from grapevine_agent.transfers.fetching import Ask, Fetching, GivenUp, Whole
from grapevine_agent.transfers.giving import Gift, Giving, NotGivenError
from grapevine_agent.transfers.pacing import Pacing, Waiting
from grapevine_proto import bulk as bulks
from grapevine_proto.bodies import num_bytes
from grapevine_proto.codec import Received, SealedApart, complete
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Apart, Blob, ChunkRefusal, ModelUpdate, ReleasedModel, ServerModel
from grapevine_proto.parts import Payload
from grapevine_proto.topics import ChunkTopic, InboxTopic

logger = logging.getLogger(__name__)

BESIDE_IT_BYTES: Final = 16_384  # of a message, beside its large fields: contributions, lists of members
PIECE_OVERNOTICE_BYTES: Final = 256  # of a packet with a piece: topic, header, offset
CHUNK_DEADLINE_S: Final = 30.0  # who asked has asked again, or somebody else
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
        rejected: Counts a message that was let in by its notice and is none.
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
        rejected: Callable[[WireError], None],
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
        self._pacing = Pacing(core.settings.upload_bytes_per_s)
        _clear(folder)
        self.fetching = Fetching(most_window=window, most_bytes=most_bytes)
        self.giving = Giving(most_bytes=most_bytes)
        self._wake = asyncio.Event()

    # --- on the way out -----------------------------------------------------------------------------

    def goes_apart(self, num_bytes: int) -> bool:
        """Whether a body with so many bytes of large fields is sent as a notice and a bulk; without any it is not."""
        packet = self._max_packet_bytes()
        return num_bytes > min(bulks.APART_BYTES, max(packet - BESIDE_IT_BYTES, packet // 4))

    def may_send(self, publish: fx.Publish) -> bool:
        """Whether there is room for one more bulk of its kind: none is offered while two are on their way."""
        return self.giving.has_room_for(_thing(publish), num_bytes(publish.body), clock.now().monotonic_s)

    def hold(self, publish: fx.Publish, sealed: SealedApart) -> bytes:
        """The notice of a message, whose bulk can be asked for from now on."""
        receiver = publish.topic.receiver if isinstance(publish.topic, InboxTopic) else ""
        self.giving.hold(sealed, _thing(publish), clock.now().monotonic_s, receiver)
        return sealed.payload

    def drop_task(self, task: str) -> None:
        """Nothing of a task is sent, or fetched, any more."""
        self.giving.drop(f"update of {task}")
        self._tell(self.fetching.drop(lambda notice: isinstance(notice, _Notice) and notice.task == task))

    def give(self, wanted: fx.GiveChunks) -> None:
        """Somebody asks for chunks."""
        asker, now_s = wanted.topic.receiver, clock.now().monotonic_s
        is_member = self._core.members.is_member(asker)
        request = self._pacing.not_waiting(asker, wanted.request, now_s)
        if not self._pacing.has_room_for(asker, len(request.chunks) + request.index, is_member=is_member):
            self._rejected(WireError("over-quota", f"{asker} asks for chunks of {request.digest.hex()[:12]}…"))
            return  # it will ask again
        try:
            gifts = self.giving.asked(request, now_s, asker)
        except NotGivenError as error:
            refusal = ChunkRefusal(digest=request.digest, reason=str(error))
            self._publish(fx.Publish(topic=wanted.topic, body=refusal, receiver_session=wanted.receiver_session))
            return
        self._pacing.put(asker, gifts, now_s, is_member=is_member)
        self._wake.set()

    def _send_due(self, now_s: float) -> None:
        """Chunks whose turn has come go to the outbox, in pieces that the broker takes."""
        at_most = max(1_024, min(bulks.CHUNK_BYTES, self._max_packet_bytes() - PIECE_OVERNOTICE_BYTES))

        def has_room(each: Waiting) -> bool:
            num_pieces = -(-(each.gift.end - each.gift.start) // at_most)
            return self._outbox_to(each.asker).has_room_for_chunks(num_pieces)

        for each in self._pacing.due(now_s, has_room):
            gift = each.gift
            topic = ChunkTopic(each.asker, self._core.settings.peer, bulks.transfer_of(gift.digest))
            name, outbox = f"{self._root}/{topic.below_root()}", self._outbox_to(each.asker)
            for start in range(gift.start, gift.end, at_most):
                piece = Gift(gift.digest, gift.index, start, min(gift.end, start + at_most))
                deadline_s = now_s + CHUNK_DEADLINE_S
                outbox.chunk(name, deadline_s=deadline_s, order=piece, num_bytes=piece.end - piece.start)
            self._wake_outbox()

    def payload_of(self, gift: Gift) -> Payload | None:
        """A chunk, when it is its turn to leave; None if it is not held any more."""
        content = self.giving.content_of(gift)
        if content is None:
            return None
        (piece,) = bulks.pieces_of(content, gift.start, gift.end, index=gift.index, at_most=gift.end - gift.start)
        self.giving.num_bytes += gift.end - gift.start
        return bulks.write_piece(piece)

    # --- on the way in ------------------------------------------------------------------------------

    def fetch(self, received: Received) -> None:
        """A notice was let in: get its bulk."""
        apart, bulk, sender = received.message.body, received.bulk, received.message.sender
        assert isinstance(apart, Apart)
        assert bulk is not None
        notice = _Notice(received)
        make_room: Callable[[], Room] = partial(Memory, bulk.num_bytes)
        if apart.kind is Blob:
            make_room = partial(File, self._folder, bulk)
        key = (sender, apart.task) if apart.kind is ModelUpdate else None
        try:
            gone = self.fetching.want(bulk, sender, notice, clock.now().monotonic_s, make_room=make_room, key=key)
        except WireError as error:
            self._rejected(error)
            gone = [GivenUp((notice,), str(error))]
        self._tell(gone)
        self._wake.set()

    def hear_piece(self, topic: ChunkTopic, payload: bytes | memoryview) -> None:
        """A chunk came, or a piece of one. Raises `WireError` if it is none that was asked for."""
        if topic.receiver != self._core.settings.peer or not self.fetching.is_wanted(topic.transfer, topic.sender):
            raise WireError("not-asked", f"a chunk of {topic.transfer} by {topic.sender}")
        if len(payload) > bulks.CHUNK_BYTES + PIECE_OVERNOTICE_BYTES:
            raise WireError("too-big", f"a chunk of {len(payload)} bytes")
        end = self.fetching.hear_piece(topic.sender, topic.transfer, bulks.read_piece(payload), clock.now().monotonic_s)
        self._tell([end] if end is not None else [])
        self._wake.set()

    def hear_refusal(self, refused: fx.Refused) -> None:
        """A peer does not give what it has spoken of."""
        gone = self.fetching.hear_refusal(refused.sender, refused.refusal.digest, refused.refusal.reason)
        self._tell([gone] if gone is not None else [])
        self._wake.set()

    def connected(self) -> None:
        """There is a new connection."""
        self.fetching.connected()
        self._wake.set()

    def status(self) -> dict[str, object]:
        """What is on its way, and what has come and gone in chunks since the start, in bytes."""
        return {
            "fetched_bytes": self.fetching.num_bytes,
            "given_bytes": self.giving.num_bytes,
            "under_way": self.fetching.lines(),
        }

    # --- time ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for what is missing, for ever."""
        while True:
            self._wake.clear()
            self._tell(self.fetching.tick(clock.now().monotonic_s))
            now_s = clock.now().monotonic_s
            self.giving.tick(now_s)
            self._send_due(now_s)
            due_s = min(self.fetching.deadline_s(), self._pacing.deadline_s(now_s))
            wait_s = min(LONGEST_NAP_S, max(0.0, due_s - now_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _tell(self, what: Iterable[Ask | Whole | GivenUp]) -> None:
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
                assert isinstance(notice, _Notice)
                await self._take(notice, room.view)
        finally:
            room.discard()

    async def _take(self, notice: _Notice, content: memoryview) -> None:
        def take() -> Iterable[fx.Effect]:
            return self._core.fetched(complete(notice.received, content), clock.now())

        try:
            await self._turns.take(take, num_bytes=lambda: len(content))
        except WireError as error:
            self._rejected(error)
            await self._give_up(notice, str(error))

    async def _give_up(self, notice: Hashable, why: str) -> None:
        assert isinstance(notice, _Notice)
        await self._turns.take(lambda: self._core.not_fetched(notice.received, why, clock.now()))


@dataclass(frozen=True, eq=False)
class _Notice:
    """A message that was let in, whose bulk is on its way."""

    received: Received

    @property
    def task(self) -> str:
        return self.received.message.body.task  # type: ignore[union-attr]


def _thing(publish: fx.Publish) -> str:
    """What a bulk is the newest of."""
    match publish.body:
        case ModelUpdate(task=task):
            return f"update of {task}"
        case Blob(digest=digest):
            return digest
        case ServerModel(task=task, cluster=cluster) | ReleasedModel(task=task, cluster=cluster):
            return f"{type(publish.body).__name__} {cluster} of {task}"
    raise ValueError(f"{type(publish.body).__name__} has no large fields")


def _clear(folder: Path) -> None:
    """Delete what was begun and not wanted again for long."""
    with contextlib.suppress(OSError):
        parts = sorted(folder.glob("*.part"), key=lambda path: path.stat().st_mtime, reverse=True)
        for number, path in enumerate(parts):
            if number >= KEPT_PARTS or path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink(missing_ok=True)
