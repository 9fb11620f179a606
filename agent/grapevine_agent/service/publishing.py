"""What the core wants said, on its way into the outboxes of the brokers that it goes to.

record    signed at once ─▶ every broker's outbox, where it stays; a state as it is said at each
message   signed at once, or an order if it is large ─▶ the outbox of its receiver's route; of all, if it is for all
answer    an order ─▶ the same, behind everything else
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachment, Attachments
from grapevine_agent.service.carrying import Carrying
from grapevine_agent.service.sealer import Sealer
from grapevine_proto import topics
from grapevine_proto.bodies import num_bytes
from grapevine_proto.bulk import NOTICE_BYTES
from grapevine_proto.codec import Received, is_authentic, open_envelope
from grapevine_proto.messages import (
    ApplicationPublication,
    PeerState,
    ReleasedModel,
    Review,
    ServerAdvert,
    TaskPublication,
)
from grapevine_proto.parts import LARGE
from grapevine_proto.topics import InboxTopic, Topic

RELAY_DEADLINE_S: Final = 120.0  # of what a broker lacks: it stays true
MESSAGE_DEADLINE_S: Final = 15.0  # a model that could not be sent for so long is out of date


class Publishing:
    """See the module's docstring.

    Args:
        attachments: The ways out.
        carrying: Holds what travels apart from its message.
        sealer: Numbers and signs.
        root: Topic root.
        take_own: Has our own word on a task count here, as it does elsewhere, and at once.
        no_room: Counts what found none.
        not_sent: Told of a message of a task that found no room.
    """

    def __init__(
        self,
        *,
        attachments: Attachments,
        carrying: Carrying,
        sealer: Sealer,
        root: str,
        take_own: Callable[[Received], None],
        no_room: Callable[[], None],
        not_sent: Callable[[str, Topic], None],
    ) -> None:
        self._attachments = attachments
        self._carrying = carrying
        self._sealer = sealer
        self._root = root
        self._take_own = take_own
        self._no_room = no_room
        self._not_sent = not_sent

    def publish(self, effect: fx.Publish) -> None:
        """Sign and queue one message or record; what is large is signed when its turn comes."""
        if isinstance(effect.body, ReleasedModel):
            assert isinstance(effect.topic, InboxTopic)
            self.answer(effect, effect.topic.receiver)
        elif effect.retain:
            self._record(effect)
        else:
            self._message(effect)

    def _message(self, effect: fx.Publish) -> None:
        size, task = num_bytes(effect.body), getattr(effect.body, "task", "")
        goes_apart = self._carrying.goes_apart(size, effect.topic)
        if goes_apart and not self._carrying.may_send(effect):
            self._no_room()
            self._not_sent(task, effect.topic)
            return
        is_order = size >= LARGE or goes_apart
        payload = b"" if is_order else self._sealer.seal(effect, clock.now().wall_ms)
        for attachment in self._ways_of(effect):
            attachment.outbox.enqueue(
                topics.build(self._root, effect.topic),
                payload,
                deadline_s=clock.now().monotonic_s + MESSAGE_DEADLINE_S,
                qos=effect.qos,
                task=task,
                order=effect if is_order else None,
                num_bytes=(NOTICE_BYTES if goes_apart else size) if is_order else 0,
            )
            attachment.sending.wake()

    def _ways_of(self, effect: fx.Publish) -> Iterable[Attachment]:
        """By which brokers something goes: to one peer by one, to everybody by all."""
        topic = effect.topic
        if effect.by is not None:
            named = self._attachments.get(effect.by)
            return [named] if named is not None else []
        return [self._attachments.to(topic.receiver)] if isinstance(topic, InboxTopic) else self._attachments

    def _record(self, effect: fx.Publish) -> None:
        name, until_ms = topics.build(self._root, effect.topic), effect.expires_at_ms
        if isinstance(effect.body, PeerState):
            for attachment in self._attachments:
                attachment.outbox.keep(name, self.sealed(effect, attachment), until_ms=until_ms)
        else:
            payload = self._sealer.seal(effect, clock.now().wall_ms)
            is_over = isinstance(effect.body, ServerAdvert) and not effect.body.online
            self._attachments.keep(name, payload, until_ms=until_ms, is_last=is_over)
            if isinstance(effect.body, TaskPublication | Review | ApplicationPublication):
                self._take_own(open_envelope(payload, effect.topic))
        self._attachments.wake()

    def sealed(self, effect: fx.Publish, attachment: Attachment) -> bytes:
        """As it is said at one broker."""
        if isinstance(effect.body, PeerState):
            attachment.connection = max(attachment.connection, effect.body.connection)
            effect = replace(effect, body=replace(effect.body, connection=attachment.connection))
        return self._sealer.seal(effect, clock.now().wall_ms)

    def answer(self, effect: fx.SendBlob | fx.Publish, receiver: str) -> bool:
        """Let a peer have something large that it asked for. Whether there is room for it."""
        is_queued = self._attachments.queue(effect, receiver)
        if not is_queued:
            self._no_room()
        return is_queued

    def relay(self, received: Received, attachment: Attachment) -> bool:
        """Give a record to a broker that lacks it. Whether there was room for it."""
        if not is_authentic(received):  # what was read from disk was not verified yet
            return True
        deadline_s = clock.now().monotonic_s + RELAY_DEADLINE_S
        name = topics.build(self._root, received.topic)
        is_queued = attachment.outbox.answer(name, received.envelope, deadline_s=deadline_s, retain=True)
        attachment.sending.wake()
        return is_queued
