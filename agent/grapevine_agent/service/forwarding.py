"""What a gateway carries between its brokers: who is nearer to whom is said by `core/overlay/gateway.py`.

    broker ─ a message to a peer that is made known there ─▶ quota, signature ─▶ the nearer broker, one hop more
    broker ─ a heartbeat of a peer that is made known elsewhere ─▶ the same ─▶ there

What is not signed by the sender that its topic names is not carried, and chunks, which nobody signs, only where a
peer is made known that could have asked for them. All of it together is bounded by what the owner lends for sending.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.gateway import Gateway
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachment, Attachments
from grapevine_agent.service.beside import Beside
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope, with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.parts import LARGE, Payload
from grapevine_proto.quotas import Bucket, SenderQuota
from grapevine_proto.topics import InboxTopic, Topic

DEADLINE_S: Final = 15.0
BURST_S: Final = 4.0
STRANGERS_PER_S: Final = 50.0  # messages of all together that are verified, to be carried
RECORDS_PER_S: Final = 100.0  # of whom is made known
SMALL_BYTES: Final = 4_096  # of presence: it is carried when today's bytes are spent, too


class Forwarding:
    """See the module's docstring.

    Args:
        gateway: Says where something goes.
        attachments: The ways there.
        beside: Where large signatures are checked.
        root: Topic root.
        peer: Our own id.
        max_bytes: Larger payloads are not looked at.
        bytes_per_s: Of what is carried, on average.
        is_member: Whether a peer was heard, and taken in.
        rejected: Told of what is not, and of whose it is.
        may_carry: Whether the governor lets so many bytes leave today, of what is no presence.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        attachments: Attachments,
        beside: Beside,
        root: str,
        peer: str,
        max_bytes: int,
        bytes_per_s: float,
        is_member: Callable[[str], bool],
        rejected: Callable[[WireError, str], None],
        may_carry: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._gateway = gateway
        self._may_carry = may_carry
        self._attachments = attachments
        self._beside = beside
        self._root = root
        self._peer = peer
        self._max_bytes = max_bytes
        self._budget = Bucket(per_s=bytes_per_s, burst=BURST_S * bytes_per_s)
        self._chunks = Bucket(per_s=bytes_per_s, burst=BURST_S * bytes_per_s)  # nobody signs them
        self._strangers = Bucket(per_s=STRANGERS_PER_S, burst=BURST_S * STRANGERS_PER_S)
        self._records = Bucket(per_s=RECORDS_PER_S, burst=BURST_S * RECORDS_PER_S)
        self._is_member = is_member
        self._quota = SenderQuota()
        self._rejected = rejected
        self.num_messages = 0
        self.num_bytes = 0

    async def hear(self, name: str, payload: bytes | memoryview, broker: int) -> bool:
        """Carry what came by a broker, if that is ours to do. Whether it was for somebody else alone."""
        if not self._gateway.is_open or not payload:
            return False
        writer = ""
        try:
            chunk = topics.parse_chunk(self._root, name)
            topic = None if chunk is not None else topics.parse(self._root, name)
            addressed = chunk or topic
            writer = topics.writer_of(addressed) if addressed is not None else ""
            receiver = getattr(addressed, "receiver", "")
            if receiver == self._peer:
                return False
            ways = self._gateway.ways_of(topic, receiver, broker)
            if ways:
                await self._carry(name, topic, payload, ways)
        except WireError as error:
            self._rejected(error, writer)
            return True
        return bool(receiver)

    async def _carry(self, name: str, topic: Topic | None, payload: bytes | memoryview, ways: list[int]) -> None:
        hops, now_s, cost = 0, clock.now().monotonic_s, len(payload) * len(ways)
        budget = self._chunks if topic is None else self._budget
        if not budget.take(cost, now_s):
            raise WireError("over-quota", "more is to be carried between brokers than limits.upload_mb_per_s lends")
        if topic is not None:
            writer = topics.writer_of(topic)
            self._quota.charge(writer, len(payload), now_s)
            if not self._is_member(writer) and not self._strangers.take(1, now_s):
                raise WireError("over-quota", "strangers have more carried between brokers than is verified for them")
            opened = partial(open_envelope, payload, topic, max_bytes=self._max_bytes)
            received = await self._beside.run(opened) if LARGE <= len(payload) <= self._max_bytes else opened()
            hops = received.hops + 1
            if hops > received.message.hop_limit:
                raise WireError("hops", f"{name} has come far enough")
        if len(payload) > SMALL_BYTES and not self._may_carry(cost):
            raise WireError("over-quota", "today's bytes are spent (governor.upload_mb_per_day): no models are carried")
        for number in ways:
            attachment = self._attachments.get(number)
            if attachment is None:
                continue  # it has just gone
            again: Payload = bytes(with_hops(bytes(payload), hops)) if topic is not None else bytes(payload)
            self._send(attachment, name, again, qos=1 if isinstance(topic, InboxTopic) or not topic else 0)

    def say_again(self, effect: fx.Forward) -> None:
        """A peer's record, at a broker where it is made known."""
        attachment = self._attachments.get(effect.broker)
        if attachment is None:
            return
        payload = bytes(with_hops(effect.payload, effect.hops))
        now_s, name = clock.now().monotonic_s, topics.build(self._root, effect.topic)
        has_room = self._records.take(1, now_s) and attachment.outbox.answer(
            name, payload, deadline_s=now_s + DEADLINE_S, retain=effect.retain
        )
        if not has_room:
            self._gateway.not_said(effect.broker, effect.topic)
            return
        self.num_messages += 1
        self.num_bytes += len(payload)
        attachment.sending.wake()

    def _send(self, attachment: Attachment, name: str, payload: Payload, *, qos: int) -> None:
        self.num_messages += 1
        self.num_bytes += len(payload)
        deadline_s = clock.now().monotonic_s + DEADLINE_S
        attachment.outbox.enqueue(name, payload, deadline_s=deadline_s, qos=qos)
        attachment.sending.wake()
