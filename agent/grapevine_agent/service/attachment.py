"""One connection to a broker, and all that is of it alone; and several, as one.

    Attachment    transport · outbox · what is being sent · answers · how the broker receives us, and what it can
    Attachments   a record goes to all of them, a message by the route of its receiver, a subscription to each; what
                  comes later, because it was found, begins with the records and subscriptions of the others

Each has an outbox of its own: what one broker has acknowledged another may lack, and one that is away holds up nothing
that goes by the others. They share a session, since whoever hears of us by two brokers is to count every message once;
what is said of a connection, its state and its will, bears the connection's number beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.net.events import Connected, Disconnected, Listening, Trying, Will
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.net.transport import Transport
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.double import Double
from grapevine_agent.service.finding_out import FindingOut
from grapevine_agent.service.reception import Reception
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sending import Sending
from grapevine_agent.transfers.giving import Gift
from grapevine_proto.parts import Payload
from grapevine_proto.topics import Topic

MakeTransport = Callable[[Callable[[], Will | None]], Transport]
_LOOK_S = 0.02


class Attachment:
    """See the module's docstring.

    Args:
        number: Which one, from 0.
        transport: Makes the connection, given the function that makes our will.
        will: Makes it, for a new attempt to connect.
        double: Notices another agent with our key.
        sealing: Signs what is sent.
        get_blob: Reads initial weights.
        chunk: A chunk, when its turn comes.
        goes_apart: Whether so many bytes travel apart from their message.
        root: Topic root.
        peer: Our own id.
        found: Called with the number and what the broker does with what it retains.
        dropped: Called with what found no room, or waited for too long.
        sent: Counts the bytes that are given to the broker.
    """

    def __init__(
        self,
        number: int,
        *,
        transport: MakeTransport,
        will: Callable[[Attachment], Will | None],
        double: Double,
        sealing: Sealing,
        get_blob: Callable[[str], Coroutine[object, object, bytes | None]],
        chunk: Callable[[Gift], Payload | None],
        goes_apart: Callable[[int, Topic], bool],
        root: str,
        peer: str,
        found: Callable[[int, BrokerAbilities], None],
        dropped: Callable[[Waiting], None],
        sent: Callable[[int], None] = lambda _num_bytes: None,
    ) -> None:
        self.number = number
        self.session = 0  # that its connection belongs to, or the last attempt at one
        self.connection = 0  # its number within the session
        self.transport = transport(lambda: will(self))
        self._wanted: set[str] = set()  # filters of our own
        self._carried: set[str] = set()  # and those of whom a gateway makes known
        self.outbox = Outbox(dropped=dropped)
        self.reception = Reception(double)
        self.answers = Answers(outbox=self.outbox, get_blob=get_blob, sealing=sealing, root=root, goes_apart=goes_apart)
        self.sending = Sending(
            outbox=self.outbox, transport=self.transport, answers=self.answers, sealing=sealing, chunk=chunk, sent=sent
        )
        self.finding_out = FindingOut(
            transport=self.transport,
            root=root,
            peer=peer,
            is_out=self.outbox.is_out,
            tell=lambda gives: found(number, gives),
        )

    @property
    def is_found(self) -> bool:
        """Whether nobody configured the broker that has us."""
        url = self.transport.connected_to
        return url is not None and url.is_found

    @property
    def is_connected(self) -> bool:
        """Whether a broker has us now."""
        return self.transport.connected_to is not None

    @property
    def is_in_session(self) -> bool:
        """Whether a broker has us, or is being asked to, with the will of this session."""
        return self.is_connected or self.transport.is_attempting

    async def subscribe(self, *filters: tuple[str, int], carried: bool = False) -> None:
        """Subscribe, now or when a broker has us; BrokerError as of `Transport.subscribe`."""
        (self._carried if carried else self._wanted).update(name for name, _ in filters)
        await self.transport.subscribe(*filters)

    async def unsubscribe(self, *filters: str, carried: bool = False) -> None:
        """End what nobody else here wants."""
        mine, others = (self._carried, self._wanted) if carried else (self._wanted, self._carried)
        mine.difference_update(filters)
        if over := [name for name in filters if name not in others]:
            await self.transport.unsubscribe(*over)

    async def rest(self, state: str, within_s: float) -> None:
        """Be at no broker until `transport.resume`, once our state is out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.is_connected and not self.outbox.is_out(state):
                    await asyncio.sleep(_LOOK_S)
        await self.transport.rest()
        self.outbox.forget(state)  # the next connection has a state of its own

    def connected(self, event: Connected) -> Coroutine[None, None, None]:
        """A broker took us in. What is returned finds out what it can; begin it once our state is said."""
        self.reception.connected(event)
        self.sending.connected(event.max_in_flight)
        return self.finding_out.run(self.finding_out.connected(event.max_packet_bytes, shared=event.shares))

    def told(self, event: Listening | Disconnected | Trying, *, is_leaving: bool) -> None:
        """The transport tells something else than a connection or a message."""
        match event:
            case Listening():
                self.reception.listening(event)
                self.finding_out.listening(event)
            case Disconnected():
                self.reception.lost(event, is_wanted=is_leaving)
            case Trying():
                self.reception.tried(event)


class Attachments:
    """See the module's docstring. `route` says by which of several a message to a peer goes, if anybody knows."""

    def __init__(self, attachments: Sequence[Attachment], route: Callable[[str], int | None]) -> None:
        self._by_number = {each.number: each for each in attachments}
        self._route = route
        self._filters: dict[str, int] = {}
        self._in_turn: dict[str, None] = {}
        self.is_resting = False
        self._resting = asyncio.Lock()

    @property
    def _all(self) -> tuple[Attachment, ...]:
        return tuple(self._by_number.values())

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._all)

    def __getitem__(self, number: int) -> Attachment:
        return self._by_number[number]

    def get(self, number: int) -> Attachment | None:
        """The same; None where it has gone."""
        return self._by_number.get(number)

    async def add(self, attachment: Attachment, *, below: str, state: str) -> None:
        """One more: it keeps the records of the others, but for the state of their connections.

        It subscribes to what lies below a topic: a broker that nobody configured is told nothing of sensors.
        """
        if self.is_resting:
            await attachment.transport.rest()
        for name in self._in_turn:
            attachment.transport.subscribe_in_turn(name)
        await attachment.subscribe(*((name, qos) for name, qos in self._filters.items() if name.startswith(below)))
        attachment.outbox.keep_as(self._all[0].outbox, but=state)
        self._by_number[attachment.number] = attachment

    def remove(self, attachment: Attachment) -> None:
        """One less. The first stays."""
        del self._by_number[attachment.number]

    def to(self, peer: str) -> Attachment:
        """The one by which a message to a peer goes."""
        if len(self._by_number) == 1:
            return self._all[0]
        number = self._route(peer)
        return self.first if number is None else self._by_number.get(number, self.first)

    @property
    def first(self) -> Attachment:
        """The first that is connected; the first of all while none is."""
        return next((each for each in self._all if each.is_connected), self._all[0])

    @property
    def max_packet_bytes(self) -> int:
        """What every broker takes that we are connected to."""
        connected = [each for each in self._all if each.is_connected] or self._all
        configured = [each for each in connected if not each.is_found] or connected
        return min(each.transport.max_packet_bytes for each in configured)

    @property
    def num_unsent(self) -> int:
        """Publishes that wait or are under way."""
        return sum(len(each.outbox) for each in self._all)

    @property
    def all_refuse(self) -> bool:
        """Whether every broker refuses us, until somebody mends something."""
        return all(each.reception.all_refuse for each in self._all)

    @property
    def trouble(self) -> str:
        """What the owner should know; empty while all is well."""
        return "; ".join(dict.fromkeys(each.reception.trouble for each in self._all if each.reception.trouble))

    def has_session(self, session: int, beside: Attachment) -> bool:
        """Whether another one than this is connected in a session, or about to be."""
        return any(each.session == session and each.is_in_session for each in self._all if each is not beside)

    # --- on the way out -----------------------------------------------------------------------------

    def keep(self, name: str, payload: bytes, *, until_ms: int = 0, is_last: bool = False) -> None:
        """A record, for every broker."""
        for each in self._all:
            each.outbox.keep(name, payload, until_ms=until_ms, is_last=is_last)

    def drop_task(self, task: str) -> None:
        """No message of a task is sent any more."""
        for each in self._all:
            each.outbox.drop_task(task)

    def wake(self) -> None:
        """Something waits to be sent."""
        for each in self._all:
            each.sending.wake()

    def queue(self, order: fx.SendBlob | fx.Publish, receiver: str) -> bool:
        """Let a peer have something large. Whether there is room for it."""
        attachment = self.to(receiver)
        is_queued = attachment.answers.queue(order)
        attachment.sending.wake()
        return is_queued

    # --- subscriptions ------------------------------------------------------------------------------

    async def subscribe(self, *filters: tuple[str, int]) -> None:
        """Subscribe at every broker, now or when it has us; BrokerError as of the first that refuses."""
        self._filters.update(filters)
        await _each(each.subscribe(*filters) for each in self._all)

    async def unsubscribe(self, *filters: str) -> None:
        """End it."""
        for each in filters:
            self._filters.pop(each, None)
            self._in_turn.pop(each, None)
        await _each(each.unsubscribe(*filters) for each in self._all)

    def subscribe_in_turn(self, name: str) -> None:
        """Subscribe at every broker to what brings much."""
        self._in_turn[name] = None
        for each in self._all:
            each.transport.subscribe_in_turn(name)

    # --- the end, and sleep -------------------------------------------------------------------------

    async def rest(self, state: str, within_s: float) -> None:
        """Be at no broker, until `resume`; our state, which says so, goes first, if it goes in so many seconds."""
        self.is_resting = True
        async with self._resting:
            await _each(each.rest(state, within_s) for each in self._all)

    async def resume(self) -> None:
        """Be at all of them again."""
        async with self._resting:
            self.is_resting = False
            for each in self._all:
                each.transport.resume()

    async def leave(self, goodbye: Callable[[Attachment], Sequence[tuple[str, bytes]]], within_s: float) -> None:
        """Say goodbye at every broker that has us, and disconnect without our will being sent."""
        await _each(each.sending.leave(goodbye(each), within_s) for each in self._all)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await _each(each.transport.disconnect() for each in self._all)


async def _each(work: Iterator[Coroutine[None, None, None]]) -> None:
    """Have all of it done; then raise the first error."""
    for error in await asyncio.gather(*work, return_exceptions=True):
        if error is not None:
            raise error
