"""What no packet holds, between a simulated device's core and its brokers: compare `service/carrying.py`.

    core ─Publish─▶ too large ─▶ an order in the outbox ─its turn─▶ notice         its bulk: the device's `Carrier`
    a notice was let in ─Fetch─▶ Carrier ─Ask─▶ a request          asked ─GiveChunks─▶ Carrier ─▶ chunks in the outbox
    a chunk came ─▶ Carrier ─ it is whole ─▶ core.fetched          `Carrier.deadline_s` ─▶ ev.Carry ─▶ tick

What to ask for and what to give is decided by the agent's own `transfers/carrier.py`, what leaves first by its outbox,
and how large a packet may be, where a broker does not say it, by its `net/packet_limit.py`. Only where a broker of the
scenario has a limit is anything of this there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.net.outbox import Waiting
from grapevine_agent.service.carrying import KEPT_PARTS
from grapevine_agent.service.publishing import MESSAGE_DEADLINE_S
from grapevine_agent.service.shell import BULK_BYTES
from grapevine_agent.transfers.assembly import Room
from grapevine_agent.transfers.carrier import (
    CHUNK_DEADLINE_S,
    Carrier,
    End,
    Notice,
    RoomKind,
    goes_apart,
    message_of,
    thing_of,
)
from grapevine_agent.transfers.fetching import Ask, GivenUp, Whole
from grapevine_agent.transfers.giving import Gift, NotGivenError
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.attachment import Attachment
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.device import Device, Disk
from grapevine_lab.simulator.letters import Letter
from grapevine_lab.simulator.packets import packet_of
from grapevine_lab.simulator.post import Post
from grapevine_lab.simulator.tally import Tally
from grapevine_proto.bodies import num_bytes
from grapevine_proto.bulk import NOTICE_BYTES, Bulk
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Blob, ChunkRefusal, ReleasedModel
from grapevine_proto.topics import ChunkTopic, InboxTopic, receiver_of

TOO_LARGE: Final = "too-large"  # counted where something is not sent, because its broker does not take it
NO_ROOM: Final = "no-room"  # the same, because two of its kind are on their way


class Stage(Protocol):
    """What is asked of a world."""

    clock: VirtualClock[ev.Event]
    post: Post
    devices: list[Device]

    def now(self, device: Device) -> Moment: ...  # noqa: D102

    def do(self, device: Device, effects: Iterable[fx.Effect]) -> None: ...  # noqa: D102

    def publish(self, device: Device, effect: fx.Publish) -> None: ...  # noqa: D102


class Bytes:
    """A room in a process's memory, or on a simulated disk. A plain object, so that a checkpoint can hold it."""

    def __init__(self, content: bytearray, disk: Disk | None = None, name: str = "") -> None:
        self._content = content
        self._disk = disk
        self._name = name

    @property
    def view(self) -> memoryview:
        """See `Room`."""
        return memoryview(self._content)

    def close(self) -> None:
        """See `Room`."""

    def discard(self) -> None:
        """See `Room`."""
        if self._disk is not None:
            self._disk.parts.pop(self._name, None)


@dataclass(frozen=True)
class Rooms:
    """Where a device puts bulks together: weights on its disk, where they survive that it is switched off."""

    disk: Disk

    def __call__(self, kind: RoomKind, bulk: Bulk) -> Room:
        """A room for a bulk, with what was got of it before."""
        if kind == "memory":
            return Bytes(bytearray(bulk.num_bytes))
        name, parts = bulk.digest.hex(), self.disk.parts
        begun = parts.pop(name, None)
        parts[name] = begun if begun is not None and len(begun) == bulk.num_bytes else bytearray(bulk.num_bytes)
        return Bytes(parts[name], self.disk, name)


class Carrying:
    """See the module's docstring. `window`: chunks of one bulk that a device has under way."""

    def __init__(self, stage: Stage, window: int) -> None:
        self._stage = stage
        self._window = window

    # --- a device comes and goes --------------------------------------------------------------------

    def begin(self, device: Device) -> None:
        """A process starts."""
        for name in list(device.disk.parts)[:-KEPT_PARTS]:
            del device.disk.parts[name]
        device.carrier = Carrier(
            peer=device.peer,
            window=self._window,
            most_bytes=BULK_BYTES,
            upload_bytes_per_s=device.settings.upload_bytes_per_s,
            make_room=Rooms(device.disk),
        )
        device.carry_s = math.inf

    def end(self, device: Device) -> None:
        """It is over."""
        device.carry_stamp += 1
        if device.carrier is not None:
            device.tally += Tally.of(device.carrier)
            device.carrier = None

    def connected(self, device: Device, attachment: Attachment) -> None:
        """There is a new connection: what was asked for over another one is asked for again."""
        assert device.core is not None
        self._of(device).connected()
        most = attachment.max_packet_bytes(self._stage.clock.now_s)
        abilities = BrokerAbilities(max_packet_bytes=most)
        self._stage.do(device, device.core.found(abilities, self._stage.now(device), attachment.number))
        self._go_on(device)

    # --- on the way out -----------------------------------------------------------------------------

    def packet_bytes_to(self, device: Device, receiver: str) -> int:
        """What every broker takes that a device is connected to, and who carries for the receiver."""
        assert device.core is not None
        connected = [each for each in device.attachments if each.online] or device.attachments
        most = min(each.max_packet_bytes(self._stage.clock.now_s) for each in connected)
        return int(min(most, device.core.packet_bytes_to(receiver, self._stage.now(device))))

    def publish(self, device: Device, effect: fx.Publish, ways: Iterable[Attachment]) -> bool:
        """Queue what goes in two. Whether it does."""
        size, now_s = num_bytes(effect.body), self._stage.clock.now_s
        if effect.retain or not size or not goes_apart(size, self.packet_bytes_to(device, receiver_of(effect.topic))):
            return False
        topic, deadline_s = effect.topic.below_root(), now_s + MESSAGE_DEADLINE_S
        task: str = getattr(effect.body, "task", "")
        is_answer = isinstance(effect.body, Blob | ReleasedModel)
        if not is_answer and not self._of(device).may_send(effect.body, size, now_s):
            device.rejected[NO_ROOM] += 1
            if device.core is not None and isinstance(effect.topic, InboxTopic):
                device.core.not_sent(task, effect.topic.receiver)
            return True
        for each in ways:
            self._stage.post.settle(each)
            if is_answer:
                each.outbox.answer(
                    topic,
                    deadline_s=deadline_s,
                    order=effect,
                    thing=thing_of(effect.body),
                    num_bytes=NOTICE_BYTES,
                    task=task,
                )
            else:
                each.outbox.enqueue(
                    topic, deadline_s=deadline_s, qos=effect.qos, task=task, order=effect, num_bytes=NOTICE_BYTES
                )
            self._stage.post.drain(device, each)
        return True

    def make_first(self, device: Device, attachment: Attachment) -> bool:
        """Make the message whose turn is next, if there is one that was ordered. Whether there was."""
        waiting = attachment.outbox.to_make(self._stage.clock.now_s)
        if waiting is None:
            return False
        attachment.outbox.made(waiting, self._made(device, waiting))
        return True

    def payload_of(self, device: Device, attachment: Attachment, waiting: Waiting) -> bytes | None:
        """What is to leave now. None: it is not there any more, or the broker would not take it."""
        payload: bytes | None
        if isinstance(waiting.order, Gift):
            payload = self._of(device).payload_of(waiting.order)
        elif waiting.order is not None:
            payload = self._made(device, waiting)
        else:
            payload = bytes(waiting.payload)
        if payload is not None:
            most = attachment.max_packet_bytes(self._stage.clock.now_s)
            if packet_of(waiting.topic, payload) > most:
                device.rejected[TOO_LARGE] += 1
                return None
        return payload

    def _made(self, device: Device, waiting: Waiting) -> bytes:
        """A message, now that its turn has come: by now it may fit into a packet, or not any more."""
        effect = waiting.order
        assert isinstance(effect, fx.Publish)
        wall_ms = self._stage.now(device).wall_ms
        receiver = receiver_of(effect.topic)
        if not goes_apart(num_bytes(effect.body), self.packet_bytes_to(device, receiver)):
            return Letter(device.sealer.seal(effect, wall_ms))
        sealed = device.sealer.numbered_apart(effect, wall_ms)()
        payload = self._of(device).hold(effect.body, sealed, receiver, self._stage.clock.now_s)
        self._wind(device)
        return Letter(payload)

    def drop_task(self, device: Device, task: str) -> None:
        """Nothing of a task is sent, or fetched, any more."""
        self._tell(device, self._of(device).drop_task(task))

    # --- what the core asks for, and what arrives -----------------------------------------------------

    def perform(self, device: Device, effect: fx.Fetch | fx.GiveChunks | fx.Refused) -> None:
        """Do what the core asked for."""
        match effect:
            case fx.Fetch(received=received):
                self._fetch(device, received)
            case fx.GiveChunks():
                self._give(device, effect)
            case fx.Refused(sender=sender, refusal=refusal):
                self._tell(device, self._of(device).hear_refusal(sender, refusal))
        self._go_on(device)

    def _fetch(self, device: Device, received: Received) -> None:
        gone: list[GivenUp]
        try:
            gone = self._of(device).want(received, self._stage.clock.now_s)
        except WireError as error:
            device.rejected[error.reason] += 1
            gone = [GivenUp((Notice(received),), str(error))]
        self._tell(device, gone)

    def _give(self, device: Device, wanted: fx.GiveChunks) -> None:
        assert device.core is not None
        asker, now = wanted.topic.receiver, self._stage.now(device)
        is_member, governor = device.core.members.is_member(asker), device.core.governing.governor
        try:
            self._of(device).give(
                wanted.request,
                asker,
                self._stage.clock.now_s,
                is_member=is_member,
                may_give=lambda num_bytes: governor.may_give(num_bytes, now, is_member=is_member),
            )
        except NotGivenError as error:
            refusal = ChunkRefusal(digest=wanted.request.digest, reason=str(error))
            said = fx.Publish(topic=wanted.topic, body=refusal, receiver_session=wanted.receiver_session)
            self._stage.publish(device, said)
        except WireError as error:
            device.rejected[error.reason] += 1

    def _send_due(self, device: Device, now_s: float) -> None:
        """Chunks whose turn has come go to the outbox, in pieces that the broker takes."""
        carrier = self._of(device)

        def has_room(asker: str, num_pieces: int) -> bool:
            attachment = device.to(asker)
            self._stage.post.settle(attachment)
            return attachment.outbox.has_room_for_chunks(num_pieces)

        for gift in carrier.due(now_s, lambda asker: self.packet_bytes_to(device, asker), has_room):
            attachment = device.to(gift.asker)
            attachment.outbox.chunk(
                carrier.topic_of(gift).below_root(),
                deadline_s=now_s + CHUNK_DEADLINE_S,
                order=gift,
                num_bytes=gift.end - gift.start,
            )
            self._stage.post.drain(device, attachment)

    def hear_piece(self, device: Device, topic: ChunkTopic, payload: bytes) -> None:
        """A chunk came, or a piece of one. Raises `WireError` if it is none that was asked for."""
        self._tell(device, self._of(device).hear_piece(topic, payload, self._stage.clock.now_s))
        self._go_on(device)

    def _tell(self, device: Device, ends: Iterable[End]) -> None:
        for each in ends:
            match each:
                case Ask(holder=holder, request=request):
                    assert device.core is not None
                    session = device.core.members.session_of(holder)
                    topic = InboxTopic(holder, device.peer)
                    self._stage.publish(device, fx.Publish(topic=topic, body=request, receiver_session=session))
                case Whole(wanted_for=notices, room=room):
                    for notice in notices:
                        assert isinstance(notice, Notice)
                        self._take(device, notice, room)
                    room.discard()
                case GivenUp(wanted_for=notices, why=why):
                    for notice in notices:
                        assert isinstance(notice, Notice)
                        self._give_up(device, notice, why)

    def _take(self, device: Device, notice: Notice, room: Room) -> None:
        assert device.core is not None
        try:
            effects = device.core.fetched(message_of(notice, room.view), self._stage.now(device))
        except WireError as error:
            device.rejected[error.reason] += 1
            self._give_up(device, notice, str(error))
        else:
            self._stage.do(device, effects)

    def _give_up(self, device: Device, notice: Notice, why: str) -> None:
        assert device.core is not None
        self._stage.do(device, device.core.not_fetched(notice.received, why, self._stage.now(device)))

    # --- time ---------------------------------------------------------------------------------------

    def carry(self, event: ev.Carry) -> None:
        """Something is due."""
        device = self._stage.devices[event.node]
        if device.running and device.carry_stamp == event.stamp:
            device.carry_s = math.inf
            self._go_on(device)

    def _go_on(self, device: Device) -> None:
        """Do what is due now, and wind the timer for the rest."""
        now_s = self._stage.clock.now_s
        while device.carrier is not None and device.carrier.deadline_s(now_s) <= now_s:
            self._tell(device, device.carrier.tick(now_s))
            if device.carrier is not None:
                self._send_due(device, now_s)
        self._wind(device)

    def _wind(self, device: Device) -> None:
        due_s = device.carrier.deadline_s(self._stage.clock.now_s) if device.carrier is not None else math.inf
        if due_s != device.carry_s:
            device.carry_s = due_s
            device.carry_stamp += 1
            if due_s < math.inf:
                self._stage.clock.at(max(due_s, self._stage.clock.now_s), ev.Carry(device.index, device.carry_stamp))

    @staticmethod
    def _of(device: Device) -> Carrier:
        assert device.carrier is not None
        return device.carrier
