"""An MQTT 5 broker in memory: what a message sets off, without sockets, threads, waiting or a clock.

Theory of operation. Every call says what a client did, and when; it returns what the broker sends
because of that, at once and in order. When, and whether, a delivery arrives is for a model of the
network to decide. It calls `acknowledge` when the acknowledgement of a QoS 1 delivery has made its
way back, and it forgets what is still on its way to or from a client whose connection ends, as TCP
does: the broker sends what was not acknowledged again when the client returns to its session.

Where MQTT leaves a choice it does as Mosquitto 2 does: overlapping subscriptions bring a copy each
(3.3.4), an absent client's session queues QoS 1 and not QoS 0, at most 20 messages are in flight to
a client, and a full queue drops the newest. In one point it does not: a shared subscription passes
absent members over while one is there (4.8.2). tests/e2e/test_broker_behaviour.py holds both to
the same behaviours, and lists where Mosquitto departs from MQTT.

Left out: QoS 2, topic aliases, subscription identifiers, keep-alive (the network knows when a
connection ends) and access rules.

Section numbers are those of MQTT 5.0, OASIS Standard, 7 March 2019.
"""

from __future__ import annotations

import heapq
import sys
from math import inf
from typing import Literal

from grapevine_lab.simulator.broker_sessions import (
    Connection,
    Delivery,
    Message,
    Options,
    Session,
    ShareGroups,
    Will,
    options_of,
)
from grapevine_lab.simulator.broker_topics import FilterIndex, TopicIndex, check_filter, check_publication, split_shared
from grapevine_lab.simulator.packets import LARGEST_BYTES, MOST_BESIDE_BYTES, fits

__all__ = ["Connection", "Delivery", "MemoryBroker", "Will"]

_Timer = tuple[float, int, Literal["session", "will", "retained"], str]  # when, a tie-breaker, what, whose


class MemoryBroker:
    """See the module's docstring.

    Times are seconds on the caller's clock and never go back. Every call first does what was due by
    its `now_s`, but nobody else calls `tick`: do so when `deadline_s()` has come.

    Args:
        max_in_flight: How many QoS 1 messages may be on their way to one client (4.9).
        max_queued_messages: How many more may wait for it, connected or not.
        max_packet_bytes: Whoever sends a larger one loses the connection (4.13).

    Raises:
        ValueError: A limit is not positive.
    """

    def __init__(
        self, *, max_in_flight: int = 20, max_queued_messages: int = 1000, max_packet_bytes: int = LARGEST_BYTES
    ) -> None:
        if max_in_flight < 1 or max_queued_messages < 1:
            raise ValueError(f"{max_in_flight=} and {max_queued_messages=}: give at least 1 each")
        self.num_dropped = 0
        """Messages that full queues have dropped so far, once for each client that missed one."""
        self._max_in_flight = max_in_flight
        self._max_queued_messages = max_queued_messages
        self._max_packet_bytes = max_packet_bytes
        self._surely_fit = max_packet_bytes - MOST_BESIDE_BYTES
        self._sessions: dict[str, Session] = {}
        self._subscribers: FilterIndex[Options] = FilterIndex()  # by client
        self._groups = ShareGroups()
        self._retained: TopicIndex[Message] = TopicIndex()
        self._timers: list[_Timer] = []
        self._watched: dict[str, float] = {}  # topic -> when its only valid timer is set for
        self._num_timers = 0

    # --- connections ------------------------------------------------------------------------------

    def connect(
        self,
        client: str,
        *,
        clean_start: bool = True,
        session_expiry_s: float = 0.0,
        will: Will | None = None,
        now_s: float,
    ) -> Connection:
        """Let a client in (3.1). One that is connected already loses that connection first (3.1.4).

        Args:
            client: The client's id.
            clean_start: Forget the session that there is.
            session_expiry_s: How long the session outlives this connection; `math.inf` for ever.
            will: What to publish when the connection is lost.
            now_s: The time.

        Returns:
            Whether a session was resumed, and what is sent. A resumed session gets what was in flight again.

        Raises:
            ValueError: No client id, or a will that nobody could publish.
        """
        if not client:
            raise ValueError("a client has an id")
        if will is not None:
            check_publication(will.topic, will.qos)
        deliveries = self.tick(now_s)
        session = self._sessions.get(client)
        if session is not None:
            deliveries += self._close(session, now_s)
            if clean_start and client in self._sessions:
                deliveries += self._end(session, now_s)
        session = self._sessions.get(client)
        is_present = session is not None
        if session is None:
            session = self._sessions[client] = Session(client)
        session.connected = True
        session.expiry_s = session_expiry_s
        session.will = will  # a delayed one of the connection before is cancelled (3.1.3.2.2)
        session.will_at_s = session.ends_at_s = inf
        if is_present:
            deliveries += session.send_again()
            deliveries += session.send_waiting(self._max_in_flight, now_s)
        return Connection(is_present, deliveries)

    def disconnect(self, client: str, now_s: float) -> list[Delivery]:
        """Let a client go that says so: without its will (3.14). Harmless when it is not connected."""
        deliveries = self.tick(now_s)
        session = self._sessions.get(client)
        if session is not None and session.connected:
            session.will = None
            deliveries += self._close(session, now_s)
        return deliveries

    def drop(self, client: str, now_s: float) -> list[Delivery]:
        """Take note that a connection is lost: its will is published, or waits (3.1.2.5). Harmless when it is not."""
        deliveries = self.tick(now_s)
        session = self._sessions.get(client)
        if session is not None:
            deliveries += self._close(session, now_s)
        return deliveries

    def crash(self) -> None:
        """End as a broker that is killed: no connection, session or will is left; what it retains was on its disk."""
        self._sessions.clear()
        self._subscribers, self._groups = FilterIndex(), ShareGroups()

    def is_connected(self, client: str) -> bool:
        """Whether a client is connected."""
        session = self._sessions.get(client)
        return session is not None and session.connected

    # --- subscriptions ----------------------------------------------------------------------------

    def subscribe(
        self,
        client: str,
        topic_filter: str,
        qos: int,
        now_s: float,
        retain_handling: int = 0,
        retain_as_published: bool = False,
        no_local: bool = False,
    ) -> list[Delivery]:
        """Subscribe to a filter, or to `$share/<group>/<filter>` (3.8). The same filter again replaces the first.

        Args:
            client: A connected client.
            topic_filter: With + and # as in section 4.7.
            qos: The most that messages are sent with, 0 or 1.
            now_s: The time.
            retain_handling: Send retained messages 0 now, 1 if this is a new subscription, 2 not.
            retain_as_published: Keep the retain flag of live messages.
            no_local: Leave out what the client itself publishes.

        Returns:
            The retained messages that match, with the retain flag; none for a shared subscription.

        Raises:
            ValueError: No such connection, or something that MQTT forbids.
        """
        session = self._connected_session(client)
        group, plain_filter = split_shared(topic_filter)
        check_filter(plain_filter)
        if qos not in (0, 1) or retain_handling not in (0, 1, 2):
            raise ValueError(f"{qos=} and {retain_handling=}: give 0 or 1, and 0, 1 or 2")
        if group and no_local:
            raise ValueError(f"{topic_filter!r} is shared: no_local is not allowed there (3.8.3.1)")
        deliveries = self.tick(now_s)
        options = options_of(qos, bool(no_local), bool(retain_as_published))
        is_new = topic_filter not in session.subscriptions
        topic_filter = sys.intern(topic_filter)  # thousands of clients name the same one
        session.subscriptions[topic_filter] = options
        if group:
            self._groups.put(topic_filter, client, options)
            return deliveries
        self._subscribers.put(topic_filter, client, options)
        if retain_handling == 0 or (retain_handling == 1 and is_new):
            for message in self._retained.matching(topic_filter):
                if no_local and message.publisher == client:
                    continue
                if qos and message.qos:
                    self._send(deliveries, session, message, True, now_s)
                else:
                    deliveries.append(message.for_client(client, retained=True))
        return deliveries

    def unsubscribe(self, client: str, topic_filter: str, now_s: float) -> list[Delivery]:
        """End a subscription (3.10). Harmless when there is none. Raises ValueError without such a connection."""
        session = self._connected_session(client)
        deliveries = self.tick(now_s)
        if session.subscriptions.pop(topic_filter, None) is not None:
            self._forget_subscription(client, topic_filter)
        return deliveries

    # --- messages ---------------------------------------------------------------------------------

    def publish(
        self,
        client: str,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        now_s: float,
        expiry_s: float | None = None,
    ) -> list[Delivery]:
        """Publish a message, now that it has reached the broker (3.3). One that is too large ends its connection.

        Args:
            client: A connected client.
            topic: Without wildcards.
            payload: Anything. A retained message without one erases what is retained on the topic.
            qos: 0 or 1.
            retain: Keep it for later subscribers, in the place of what was kept.
            now_s: The time.
            expiry_s: After this it is neither retained nor queued any more (3.3.2.3.3); None: never.

        Raises:
            ValueError: No such connection, or something that MQTT forbids.
        """
        self._connected_session(client)
        check_publication(topic, qos)
        if len(payload) > self._surely_fit and not self.takes(topic, payload, qos):
            return self.drop(client, now_s)
        timers = self._timers
        deliveries = self.tick(now_s) if timers and timers[0][0] <= now_s else []
        expires_at_s = inf if expiry_s is None else now_s + expiry_s
        self._publish(deliveries, Message(topic, payload, qos, retain, client, expires_at_s), now_s)
        return deliveries

    def takes(self, topic: str, payload: bytes, qos: int) -> bool:
        """Whether a message is not too large for it."""
        return fits(topic, payload, qos, self._max_packet_bytes)

    def acknowledge(self, client: str, packet_id: int, now_s: float) -> list[Delivery]:
        """Take note that a delivery at QoS 1 arrived (3.4), and send what waited for it.

        One that comes after its connection has ended means nothing, and nor does a second one.
        """
        deliveries = self.tick(now_s)
        session = self._sessions.get(client)
        if session is not None and session.connected and session.in_flight.pop(packet_id, None) is not None:
            deliveries += session.send_waiting(self._max_in_flight, now_s)
        return deliveries

    # --- time -------------------------------------------------------------------------------------

    def deadline_s(self) -> float:
        """Return when `tick` has something to do; `math.inf` while nothing is to come."""
        while self._timers and self._is_outdated(self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else inf

    def tick(self, now_s: float) -> list[Delivery]:
        """End sessions, forget retained messages and publish delayed wills whose time has come, in its order."""
        deliveries: list[Delivery] = []
        while self._timers and self._timers[0][0] <= now_s:
            timer = heapq.heappop(self._timers)
            if self._is_outdated(timer):
                continue
            at_s, _order, what, name = timer
            if what == "retained":
                del self._watched[name]
                self._retained.remove(name)
                continue
            session = self._sessions[name]
            deliveries += self._end(session, at_s) if what == "session" else self._publish_will(session, at_s)
        return deliveries

    def _set_timer(self, at_s: float, what: Literal["session", "will", "retained"], name: str) -> None:
        if at_s < inf:
            self._num_timers += 1
            heapq.heappush(self._timers, (at_s, self._num_timers, what, name))

    def _watch(self, topic: str, expires_at_s: float) -> None:
        """Have one timer for a topic, however often its message is replaced."""
        if expires_at_s < self._watched.get(topic, inf):
            self._watched[topic] = expires_at_s
            self._set_timer(expires_at_s, "retained", topic)

    def _is_outdated(self, timer: _Timer) -> bool:
        """Whether a timer has nothing to do any more. That of a replaced retained message is set anew."""
        at_s, _order, what, name = timer
        if what != "retained":
            session = self._sessions.get(name)
            return session is None or at_s != (session.ends_at_s if what == "session" else session.will_at_s)
        if self._watched.get(name) != at_s:
            return True
        message = self._retained.get(name)
        if message is not None and message.expires_at_s <= at_s:
            return False
        del self._watched[name]
        if message is not None:
            self._watch(name, message.expires_at_s)
        return True

    # --- within -----------------------------------------------------------------------------------

    def _connected_session(self, client: str) -> Session:
        session = self._sessions.get(client)
        if session is None or not session.connected:
            raise ValueError(f"client {client!r} is not connected: connect it first")
        return session

    def _close(self, session: Session, now_s: float) -> list[Delivery]:
        """End a connection, and with it the session or not, and its will now or later."""
        if not session.connected:
            return []
        session.connected = False
        if session.expiry_s <= 0:
            return self._end(session, now_s)
        session.ends_at_s = now_s + session.expiry_s
        self._set_timer(session.ends_at_s, "session", session.client)
        if session.will is None:
            return []
        if session.will.delay_s <= 0:
            return self._publish_will(session, now_s)
        session.will_at_s = now_s + session.will.delay_s
        self._set_timer(session.will_at_s, "will", session.client)
        return []

    def _end(self, session: Session, now_s: float) -> list[Delivery]:
        """End a session. A will that still waits is published (3.1.2.5)."""
        del self._sessions[session.client]
        for topic_filter in session.subscriptions:
            self._forget_subscription(session.client, topic_filter)
        return self._publish_will(session, now_s)

    def _publish_will(self, session: Session, now_s: float) -> list[Delivery]:
        will, session.will, session.will_at_s = session.will, None, inf
        deliveries: list[Delivery] = []
        if will is not None:
            self._publish(deliveries, will.as_message(session.client, now_s), now_s)
        return deliveries

    def _forget_subscription(self, client: str, topic_filter: str) -> None:
        subscribers = self._groups if topic_filter.startswith("$share/") else self._subscribers
        subscribers.remove(topic_filter, client)

    def _publish(self, deliveries: list[Delivery], message: Message, now_s: float) -> None:
        """Retain a message if it says so, and append what is sent to whom."""
        topic, payload, qos, retain, publisher, expires_at_s = message
        if retain and payload:
            self._retained.put(topic, message)
            self._watch(topic, expires_at_s)
        elif retain:
            self._retained.remove(topic)
        sessions = self._sessions
        for subscribers in self._subscribers.matching(topic):
            for client, (granted_qos, no_local, as_published) in subscribers.items():
                if no_local and client == publisher:
                    continue
                session = sessions[client]
                flag = retain and as_published
                if qos and granted_qos:
                    self._send(deliveries, session, message, flag, now_s)
                elif session.connected:
                    deliveries.append(Delivery(client, topic, payload, 0, flag, publisher, 0, False))
        for groups in self._groups.matching(topic):
            for group in groups.values():
                session, (granted_qos, _no_local, as_published) = group.take_turn(sessions)
                flag = retain and as_published
                if qos and granted_qos:
                    self._send(deliveries, session, message, flag, now_s)
                elif session.connected:
                    deliveries.append(message.for_client(session.client, flag))

    def _send(
        self, deliveries: list[Delivery], session: Session, message: Message, retained: bool, now_s: float
    ) -> None:
        """Send at QoS 1, now or once there is room; what finds the queue full is lost."""
        if session.connected and len(session.in_flight) < self._max_in_flight:
            deliveries.append(session.send(message, retained))
            return
        if not session.enqueue(message, retained, self._max_queued_messages, now_s):
            self.num_dropped += 1
