"""Our own voice on the wire: sessions, sequences and signatures for what the core wants published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from grapevine_agent.core.effects import Publish
from grapevine_agent.service.numbering import MOST
from grapevine_proto.codec import SealedApart, seal_apart, seal_in_parts
from grapevine_proto.messages import RECORDS, Message, PeerState, ServerAdvert
from grapevine_proto.parts import Parts
from grapevine_proto.signing import Signer
from grapevine_proto.topics import PeerTopic


class KeyHolder(Protocol):
    """Who speaks, as `Identity` says it."""

    @property
    def peer_id(self) -> str: ...  # noqa: D102

    @property
    def key(self) -> Signer: ...  # noqa: D102


class Numbers(Protocol):
    """Sessions and sequences, as `OwnNumbers` gives them."""

    def next_session(self, now_ms: int) -> int: ...  # noqa: D102

    def next_sequence(self, topic: str, now_ms: int) -> int: ...  # noqa: D102


class Sealer:
    """Numbers and signs what we say.

    A session begins with each attempt to connect, unless another connection stands already.
    Sequences of records must grow for as long as the peer lives, so they are kept on disk;
    presence and adverts, which change every second and mean little after a restart, are numbered by
    the clock alone.
    """

    def __init__(self, identity: KeyHolder, numbers: Numbers) -> None:
        self._identity = identity
        self._numbers = numbers
        self.session = 0
        self._sequence = 0
        self._connection = 0
        self._last_volatile = 0

    def begin_session(self, wall_ms: int) -> int:
        """A new session; what is sealed from now on belongs to it."""
        self.session = self._numbers.next_session(wall_ms)
        self._sequence = self._connection = 0
        return self.session

    def begin_connection(self) -> int:
        """The number of one more connection of this session."""
        self._connection += 1
        return self._connection

    def seal(self, publish: Publish, wall_ms: int) -> bytes:
        """The MQTT payload for `publish`."""
        return bytes(self.numbered(publish, wall_ms)())

    def numbered(self, publish: Publish, wall_ms: int) -> Callable[[], Parts]:
        """Give `publish` its number now; what is returned encodes and signs it, on any thread."""
        message, key = self._message(publish, wall_ms), self._identity.key
        return lambda: seal_in_parts(message, publish.topic, key)

    def numbered_apart(self, publish: Publish, wall_ms: int) -> Callable[[], SealedApart]:
        """The same for a message whose large fields travel apart from it."""
        message, key = self._message(publish, wall_ms), self._identity.key
        return lambda: seal_apart(message, publish.topic, key)

    def _message(self, publish: Publish, wall_ms: int) -> Message:
        return Message(
            sender=self._identity.peer_id,
            session=self.session,
            sequence=self._next(publish, wall_ms),
            body=publish.body,
            created_at_ms=max(0, wall_ms),
            expires_at_ms=publish.expires_at_ms,
            receiver_session=publish.receiver_session,
        )

    def seal_will(self, wall_ms: int, connection: int = 0) -> tuple[PeerTopic, bytes]:
        """What the broker is to say for us when it loses this connection of this session."""
        topic, body = PeerTopic(self._identity.peer_id, "state"), PeerState(online=False, connection=connection)
        return topic, self.seal(Publish(topic=topic, body=body, retain=True), wall_ms)

    def heard(self, message: Message) -> None:
        """A broker sent something of ours back: what is numbered by the clock goes on above it."""
        if isinstance(message.body, PeerState | ServerAdvert) and message.sequence < MOST:
            self._last_volatile = max(self._last_volatile, message.sequence)

    def _next(self, publish: Publish, wall_ms: int) -> int:
        if isinstance(publish.body, PeerState | ServerAdvert):
            self._last_volatile = max(self._last_volatile + 1, wall_ms)
            return self._last_volatile
        if isinstance(publish.body, RECORDS):
            return self._numbers.next_sequence(publish.topic.below_root(), wall_ms)
        self._sequence += 1
        return self._sequence
