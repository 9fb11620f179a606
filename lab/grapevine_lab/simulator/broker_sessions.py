"""What the broker in memory hands out, and what it keeps of each client."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import inf
from typing import NamedTuple

from grapevine_lab.simulator.broker_topics import FilterIndex, split_shared

_MAX_PACKET_ID = 65_535  # 2.2.1


class Delivery(NamedTuple):
    """A message on its way from the broker to one client."""

    client: str
    """Who gets it."""
    topic: str
    payload: bytes
    qos: int
    """The smaller of what was published with and what was subscribed with (3.8.4)."""
    retained: bool
    """The retain flag as this subscriber sees it (3.3.1.3)."""
    publisher: str
    """Who published it, even of a retained message. Of a will: whose will it is."""
    packet_id: int
    """What to acknowledge it with; 0 at QoS 0."""
    duplicate: bool
    """Sent once before, over a connection that ended before the acknowledgement (3.3.1.1)."""


class Connection(NamedTuple):
    """The broker's answer to a connect."""

    session_present: bool
    deliveries: list[Delivery]


class Message(NamedTuple):
    """A message as it was published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    publisher: str
    expires_at_s: float

    def for_client(self, client: str, retained: bool) -> Delivery:
        """Make a delivery at QoS 0."""
        return Delivery(client, self.topic, self.payload, 0, retained, self.publisher, 0, False)


class Will(NamedTuple):
    """What the broker publishes for a client that is lost (3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    delay_s: float = 0.0
    """How long it waits for the client to come back; not longer than the session lasts (3.1.3.2.2)."""
    expiry_s: float | None = None
    """How long it is good for once it is published."""

    def as_message(self, client: str, now_s: float) -> Message:
        """Make the message that is published at `now_s` for a client."""
        expires_at_s = inf if self.expiry_s is None else now_s + self.expiry_s
        return Message(self.topic, self.payload, self.qos, self.retain, client, expires_at_s)


class Options(NamedTuple):
    """How a client subscribed (3.8.3.1)."""

    qos: int
    no_local: bool
    retain_as_published: bool


@cache
def options_of(qos: int, no_local: bool, retain_as_published: bool) -> Options:
    """Return the one object for these options, which hundreds of thousands of subscriptions share."""
    return Options(qos, no_local, retain_as_published)


@dataclass(slots=True, eq=False)
class ShareGroup:
    """The members of one shared subscription; whose turn it is stands first (4.8.2)."""

    members: OrderedDict[str, Options] = field(default_factory=OrderedDict)

    def take_turn(self, sessions: Mapping[str, Session]) -> tuple[Session, Options]:
        """Return whose turn it is: the first who is there, else the first; and put that one last."""
        client = next((each for each in self.members if sessions[each].connected), next(iter(self.members)))
        self.members.move_to_end(client)
        return sessions[client], self.members[client]


class ShareGroups:
    """Shared subscriptions, by their filter with `$share/<group>/`."""

    __slots__ = ("_by_filter", "_index")

    def __init__(self) -> None:
        self._by_filter: dict[str, ShareGroup] = {}
        self._index: FilterIndex[ShareGroup] = FilterIndex()  # the same, by filter proper and name

    def put(self, topic_filter: str, client: str, options: Options) -> None:
        """Add a member, or replace its options; the first one makes the group."""
        group = self._by_filter.get(topic_filter)
        if group is None:
            group = self._by_filter[topic_filter] = ShareGroup()
            name, plain_filter = split_shared(topic_filter)
            self._index.put(plain_filter, name, group)
        group.members[client] = options

    def remove(self, topic_filter: str, client: str) -> None:
        """Remove a member; the last one takes the group with it."""
        group = self._by_filter[topic_filter]
        del group.members[client]
        if not group.members:
            del self._by_filter[topic_filter]
            name, plain_filter = split_shared(topic_filter)
            self._index.remove(plain_filter, name)

    def matching(self, topic: str) -> list[dict[str, ShareGroup]]:
        """Return the groups of every filter that matches a topic, by name."""
        return self._index.matching(topic)


@dataclass(slots=True, eq=False)
class Session:
    """What the broker keeps of a client while it is connected, and for `expiry_s` after (4.1)."""

    client: str
    connected: bool = False
    expiry_s: float = 0.0
    will: Will | None = None  # while there is one to publish, sooner or later
    will_at_s: float = inf  # while it is delayed
    ends_at_s: float = inf
    subscriptions: dict[str, Options] = field(default_factory=dict)  # by filter, $share/… and all
    in_flight: dict[int, Delivery] = field(default_factory=dict)  # QoS 1, sent and not acknowledged, oldest first
    queue: deque[tuple[Message, bool]] = field(default_factory=deque)  # QoS 1, with the retain flag to send
    queue_lasts_to_s: float = inf  # nothing in the queue runs out before
    _packet_id: int = 0

    def send(self, message: Message, retained: bool) -> Delivery:
        """Put a message in flight."""
        packet_id = self._packet_id
        while True:
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self.in_flight:
                break
        self._packet_id = packet_id
        delivery = Delivery(
            self.client, message.topic, message.payload, 1, retained, message.publisher, packet_id, False
        )
        self.in_flight[packet_id] = delivery
        return delivery

    def send_waiting(self, max_in_flight: int, now_s: float) -> list[Delivery]:
        """Put as much of the queue in flight as there is room for; what ran out while it waited goes (3.3.2.3.3)."""
        sent: list[Delivery] = []
        while self.queue and len(self.in_flight) < max_in_flight:
            message, retained = self.queue.popleft()
            if message.expires_at_s > now_s:
                sent.append(self.send(message, retained))
        return sent

    def send_again(self) -> list[Delivery]:
        """Return what is in flight, as it goes over a new connection (4.4)."""
        return [delivery._replace(duplicate=True) for delivery in self.in_flight.values()]

    def enqueue(self, message: Message, retained: bool, at_most: int, now_s: float) -> bool:
        """Let a message wait, if there are fewer than so many that do. Whether it does."""
        if len(self.queue) >= at_most:
            self._drop_expired(now_s)
        if len(self.queue) >= at_most:
            return False
        self.queue.append((message, retained))
        self.queue_lasts_to_s = min(self.queue_lasts_to_s, message.expires_at_s)
        return True

    def _drop_expired(self, now_s: float) -> None:
        """Make room in the queue, if anything in it has run out."""
        if self.queue_lasts_to_s <= now_s:
            self.queue = deque(waiting for waiting in self.queue if waiting[0].expires_at_s > now_s)
            self.queue_lasts_to_s = min((message.expires_at_s for message, _ in self.queue), default=inf)
