"""One MQTT connection over one fresh paho client, seen from asyncio.

Theory of operation. paho runs a network thread that calls back for everything. A slow callback
starves its keepalive, so callbacks here do nothing but hand over: a message to the inbound queue,
the rest to futures of the event loop. Each connection has a client of its own: paho's queue of
unacknowledged messages is unlimited and is sent again for ever, whereas what must survive a lost
connection waits in our outbox. For the same reason paho's own reconnecting is off.

    open() ──TCP, TLS──> CONNECT ──CONNACK──> subscribe() / publish() … ──> close() or lost

Whatever is answered has a deadline (`unanswered.py`). When it passes, the connection is cut, all that was not
answered fails, and the transport makes a new one: a broker that lost one acknowledgement may have lost others.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from grapevine_agent.net.client import Client
from grapevine_agent.net.events import Will
from grapevine_agent.net.explaining import explain, is_about_retaining, is_about_the_login, is_for_good, refusal
from grapevine_agent.net.failures import (
    ConnectionLostError,
    NotAllowedError,
    RefusedError,
    RetainedWillError,
    WrongVersionError,
)
from grapevine_agent.net.inbound import wake
from grapevine_agent.net.outbox import MAX_UNDER_WAY
from grapevine_agent.net.unanswered import ANSWER_S, Unanswered
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto.errors import BrokerError
from grapevine_proto.parts import LARGE, Parts, Payload

MAX_RECEIVED_BYTES = 4_000_000  # a v5 broker sends us no larger packet: room on a small device is scarce
_FILTERS_PER_PACKET = 8  # AWS IoT takes no more in one SUBSCRIBE
_CLOSE_S = 2.0
NOT_ALLOWED = "Not authorized"  # as paho has it
_LOOKS_PER_DEADLINE = 4  # how often what is overdue is looked for
_PACKET_OVERHEAD_BYTES = 10  # fixed header (5), topic length (2), packet id (2), property length (1)

_LOST = (MQTTErrorCode.MQTT_ERR_NO_CONN, MQTTErrorCode.MQTT_ERR_CONN_LOST)

End: TypeAlias = Literal["closed", "too-large", "lost"]  # the broker closed it; it said why; anything else
# paho has one code for every end that it did not foresee: a stream that is closed is one of them.
_ENDS: dict[str, End] = {"Unspecified error": "closed", "Packet too large": "too-large"}


def packet_bytes(topic: str, payload: Payload) -> int:
    """Return an upper bound of the size of a PUBLISH packet, in bytes."""
    return len(topic.encode()) + len(payload) + _PACKET_OVERHEAD_BYTES


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What the broker said in its CONNACK."""

    max_packet_bytes: int | None = None  # None: it did not say
    max_in_flight: int = MAX_UNDER_WAY  # more unacknowledged messages would end a v5 connection
    shares: bool = False  # it has shared subscriptions, which came with MQTT 5
    retains: bool = True  # where it does not, a message that is to be retained would end a v5 connection


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who connects, and how."""

    client_id: str
    username: str = ""
    password: str = ""
    keepalive_s: int
    max_received_bytes: int = MAX_RECEIVED_BYTES
    tls: ssl.SSLContext | None = None
    will: Will | None = None


class Connection:
    """See the module's docstring. Call everything from the event loop.

    Args:
        url: The broker.
        version: `5` or `3.1.1`.
        login: Who connects, and how.
        on_message: Called **in the network thread** with topic, payload (a view, if it is large) and the retained flag.
        answer_s: How long the broker may take to answer what we send.
    """

    def __init__(
        self,
        *,
        url: BrokerUrl,
        version: str,
        login: Login,
        on_message: Callable[[str, bytes | memoryview, bool], object],
        answer_s: float = ANSWER_S,
    ) -> None:
        self.url = url
        self.version = version
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._keepalive_s = login.keepalive_s
        self._username = login.username
        self._max_received_bytes = login.max_received_bytes
        self._accepted: asyncio.Future[Accepted] = self._loop.create_future()
        self.over: asyncio.Future[str] = self._loop.create_future()  # done, with the reason, when the connection is
        self._tcp_open: asyncio.Future[None] = self._loop.create_future()
        self._acks: dict[int, asyncio.Future[None]] = {}  # of QoS 1
        self._sizes: dict[int, int] = {}  # of the messages that wait for these
        self.largest_lost = 0  # bytes of the largest message that was not acknowledged when the connection ended
        self.end: End = "lost"
        self._written: dict[int, asyncio.Future[None]] = {}  # of QoS 0
        self._subacks: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        # publish() waits for room, so that paho queues nothing: for QoS 0 until it is written to the socket
        self._room = (asyncio.Semaphore(MAX_UNDER_WAY), asyncio.Semaphore(MAX_UNDER_WAY))
        self.retains = True  # the broker, as far as it says
        self.shares = False  # it has shared subscriptions
        self._has_retained_will = login.will is not None and login.will.retain
        self._answer_s = answer_s
        self._unanswered = Unanswered(answer_s=answer_s)
        self._next_look: asyncio.TimerHandle | None = None
        self._reason = ""
        self._is_for_good = False  # the reason: somebody has to mend something
        self._given_up = False
        self._client = self._make_client(login)

    async def open(self, *, connect_s: float, connack_s: float) -> Accepted:
        """Connect, and wait for the broker's CONNACK.

        Raises:
            WrongVersionError: It refused this version of MQTT, closed, or said nothing for `connack_s` seconds.
            RetainedWillError: It retains nothing, and our will is to be retained.
            RefusedError: It refuses our login, or TLS with it fails.
            BrokerError: It cannot be reached, or refuses us.
        """
        self._client.connect_timeout = connect_s
        self._client.connect_async(
            self.url.host,
            self.url.port,
            keepalive=self._keepalive_s,
            clean_start=True if self.version == "5" else mqtt.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_connect_properties(self._max_received_bytes) if self.version == "5" else None,
        )
        self._client.loop_start()
        try:
            async with asyncio.timeout(connect_s * 2 + 1):  # several addresses, TLS
                await _first_of(self._tcp_open, self.over)
            async with asyncio.timeout(connack_s):
                await _first_of(self._accepted, self.over)
        except TimeoutError:
            if self._tcp_open.done():
                msg = f"it took the connection but did not answer a CONNECT of MQTT {self.version} in {connack_s:g} s"
                raise WrongVersionError(msg) from None
            msg = f"no answer from {self.url.host}:{self.url.port}"
            raise BrokerError(msg) from None
        if self._is_for_good:
            raise RefusedError(self.over.result())
        if self._accepted.done():
            accepted = self._accepted.result()  # or its exception
            self._room = (self._room[0], asyncio.Semaphore(accepted.max_in_flight))
            self.retains, self.shares = accepted.retains, accepted.shares
            return accepted
        if self._tcp_open.done():
            msg = f"it closed the connection at a CONNECT of MQTT {self.version} ({self.over.result()})"
            if self.version != "5" and self._has_retained_will:  # for which that version has no answer
                msg += "; so does a broker that is not to retain anything (Mosquitto: retain_available true)"
            raise WrongVersionError(msg)
        raise BrokerError(self.over.result())

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> tuple[str, ...]:
        """Subscribe to (filter, QoS) pairs; those that the broker refused.

        Raises:
            ConnectionLostError: The connection was lost, or cut because no answer came.
        """
        asked: list[tuple[Sequence[tuple[str, int]], asyncio.Future[list[ReasonCode]]]] = []
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            some = filters[start : start + _FILTERS_PER_PACKET]
            what = f"a subscription to {some[0][0]}"
            asked.append((some, self._await_suback(what, *self._client.subscribe(list(some)))))
        codes = await asyncio.gather(*(future for _, future in asked))
        return tuple(
            each
            for (some, _), answer in zip(asked, codes, strict=True)
            for index, (each, _) in enumerate(some)
            if index >= len(answer) or answer[index].is_failure
        )

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """End subscriptions; ConnectionLostError as for `subscribe`."""
        asked = []
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            some = list(filters[start : start + _FILTERS_PER_PACKET])
            asked.append(self._await_suback(f"the end of a subscription to {some[0]}", *self._client.unsubscribe(some)))
        await asyncio.gather(*asked)

    async def publish(self, topic: str, payload: Payload, *, qos: int, retain: bool) -> None:
        """Publish; return when acknowledged (QoS 1) or written to the socket (QoS 0).

        At one QoS messages leave in the order of the calls. A caller that is cancelled keeps its place among those
        that wait for their acknowledgement: the broker counts it too. A broker that says that it retains nothing is
        not asked to.

        Raises:
            ConnectionLostError: The connection was lost before that, or cut because no answer came.
            NotAllowedError: The broker's access rules forbid it.
            BrokerError: The broker refused.
        """
        room = self._room[min(qos, 1)]
        await room.acquire()
        try:
            ack = self._hand_over(topic, payload, qos, retain and self.retains)
        except BaseException:
            room.release()
            raise
        ack.add_done_callback(lambda _done: room.release())
        await asyncio.shield(ack)

    def _hand_over(self, topic: str, payload: Payload, qos: int, retain: bool) -> asyncio.Future[None]:
        """Give a message to paho; what is to come of it."""
        if self.over.done():
            msg = f"lost the connection to {self.url} before publishing on {topic}"
            raise ConnectionLostError(msg)
        was_there = self._client.socket() is not None
        if isinstance(payload, Parts) and len(payload) >= LARGE:
            info = self._client.publish_in_parts(topic, payload, qos, retain)
        else:
            info = self._client.publish(topic, bytes(payload), qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            msg = f"could not publish on {topic} to {self.url}: {mqtt.error_string(info.rc)}"
            if was_there and qos and info.rc in _LOST:  # while it was written, and perhaps for its size
                self._sizes[info.mid] = packet_bytes(topic, payload)
            raise ConnectionLostError(msg) if info.rc in _LOST else BrokerError(msg)
        acks = self._acks if qos else self._written
        ack = acks[info.mid] = self._loop.create_future()
        if qos:
            self._sizes[info.mid] = packet_bytes(topic, payload)
        self._asked(info.mid, f"a message on {topic}", len(topic) + len(payload))
        return ack

    async def close(self) -> None:
        """Say DISCONNECT, so that the broker forgets our will, and wait for the end."""
        self._client.disconnect()
        await asyncio.wait([self.over], timeout=_CLOSE_S)

    async def abort(self) -> None:
        """Cut the connection without a DISCONNECT: the broker will send our will. Harmless when it is over."""
        if self._cut():
            await asyncio.wait([self.over], timeout=_CLOSE_S)

    def _make_client(self, login: Login) -> Client:
        is_v5 = self.version == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            clean_session=None if is_v5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if self.url.is_websocket else "tcp",
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # no limit in paho, because ours is lower
        client.is_under_way = self._unanswered.__contains__
        if login.username:
            client.username_pw_set(login.username, login.password or None)
        if self.url.has_tls:
            assert login.tls is not None, "TLS is decided by the URL, and never left out"
            client.tls_set_context(login.tls)
        if self.url.is_websocket:
            client.ws_set_options(path=self.url.path)
        if (will := login.will) is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_socket_open = self._socket_opened
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._arrived
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._subscribed
        client.when_over = self._thread_ended
        return client

    # --- in the network thread: hand over, and do nothing else -----------------------------------

    def _socket_opened(self, _client: mqtt.Client, _userdata: object, connection: object) -> None:
        if isinstance(connection, socket.socket):
            if self._given_up:  # it took so long that nobody waits for it any more
                connection.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wake(self._loop, _settle, self._tcp_open, None)

    def _connected(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._reason = f"refused: {code}"
            failure: BrokerError = BrokerError(refusal(code))
            if "protocol version" in str(code).lower():
                failure = WrongVersionError(refusal(code))
            elif is_about_the_login(code):
                failure = RefusedError(refusal(code, self._username))
            elif is_about_retaining(code):
                failure = RetainedWillError(refusal(code))
            wake(self._loop, _fail, self._accepted, failure)
            return
        accepted = Accepted(
            max_packet_bytes=getattr(properties, "MaximumPacketSize", None),
            max_in_flight=min(MAX_UNDER_WAY, getattr(properties, "ReceiveMaximum", MAX_UNDER_WAY)),
            retains=bool(getattr(properties, "RetainAvailable", True)),
            shares=self.version == "5" and bool(getattr(properties, "SharedSubscriptionAvailable", True)),
        )
        wake(self._loop, _settle, self._accepted, accepted)

    def _disconnected(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        # paho has one code for every loss that it did not foresee.
        self._reason = self._reason or {"Unspecified error": "connection lost"}.get(str(code), str(code))
        if not self._given_up:
            self.end = _ENDS.get(str(code), "lost")

    def _arrived(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self._unanswered.heard(self._loop.time())
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours
        if not self._given_up:
            payload = cast("bytes | memoryview", message.payload)  # see `Client`
            self._on_message(topic, payload, message.retain)

    def _published(
        self, _client: mqtt.Client, _userdata: object, mid: int, code: ReasonCode, _properties: object
    ) -> None:
        wake(self._loop, self._acknowledge, mid, f"{code}" if code.is_failure else "")

    def _subscribed(
        self, _client: mqtt.Client, _userdata: object, mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        wake(self._loop, self._settle_suback, mid, codes)

    def _thread_ended(self, error: BaseException | None) -> None:
        reason = explain(error, self.url) if error is not None else self._reason or "connection lost"
        self._is_for_good = is_for_good(error)
        wake(self._loop, self._finish, reason)

    # --- in the event loop ----------------------------------------------------------------------

    def _acknowledge(self, mid: int, refusal: str) -> None:
        by_broker = mid in self._acks
        ack = (self._acks if by_broker else self._written).pop(mid, None)
        self._sizes.pop(mid, None)
        if ack is None:
            return
        self._unanswered.answered(mid, self._loop.time(), by_broker=by_broker)
        if refusal:
            kind = NotAllowedError if refusal == NOT_ALLOWED else BrokerError
            _fail(ack, kind(f"{self.url} refuses the message: {refusal}"))
        else:
            _settle(ack, None)

    def _settle_suback(self, mid: int, codes: list[ReasonCode]) -> None:
        suback = self._subacks.pop(mid, None)
        if suback is not None:
            self._unanswered.answered(mid, self._loop.time())
            _settle(suback, codes)

    def _await_suback(self, what: str, code: MQTTErrorCode, mid: int | None) -> asyncio.Future[list[ReasonCode]]:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or self.over.done():
            msg = f"lost the connection to {self.url} while subscribing"
            raise ConnectionLostError(msg)
        self._subacks[mid] = self._loop.create_future()
        self._asked(mid, what, 0)
        return self._subacks[mid]

    def _asked(self, mid: int, what: str, num_bytes: int) -> None:
        self._unanswered.sent(mid, what, num_bytes, self._loop.time())
        if self._next_look is None:
            self._look()

    def _look(self) -> None:
        """Cut the connection if an answer is overdue, else look again while there is something to wait for."""
        self._next_look = None
        now_s, deadline_s = self._loop.time(), self._unanswered.deadline_s()
        if self.over.done() or deadline_s == math.inf:
            return
        if deadline_s > now_s:
            in_s = min(deadline_s - now_s, self._answer_s / _LOOKS_PER_DEADLINE)
            self._next_look = self._loop.call_later(in_s, self._look)
            return
        self._reason = self._reason or self._unanswered.complaint(now_s)
        self._cut()
        self._loop.call_later(_CLOSE_S, self._finish, self._reason)  # even if its thread hangs

    def _cut(self) -> bool:
        """End the stream, so that the network thread sees it and ends; whether there is one."""
        self._given_up = True
        connection = None if self.over.done() else self._client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        elif connection is not None:
            connection.close()
        return connection is not None

    def _finish(self, reason: str) -> None:
        if self.over.done():
            return
        self.largest_lost = max(self._sizes.values(), default=0)
        self._sizes.clear()
        _settle(self.over, reason)
        lost = f"the connection to {self.url} was lost before it acknowledged ({reason})"
        unanswered: list[asyncio.Future[Any]] = [*self._acks.values(), *self._written.values(), *self._subacks.values()]
        for future in unanswered:
            _fail(future, ConnectionLostError(lost))
        if self._next_look is not None:
            self._next_look.cancel()
        # The callbacks are methods of ours: cut the knot, so that the client closes its sockets now.
        self._client.on_socket_open = self._client.on_connect = self._client.on_disconnect = None
        self._client.on_message = self._client.on_publish = self._client.on_subscribe = None
        self._client.on_unsubscribe = self._client.when_over = self._client.is_under_way = None


def _connect_properties(max_received_bytes: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = max_received_bytes
    return properties


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BrokerError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waited for it may have gone: that is no error of its own
