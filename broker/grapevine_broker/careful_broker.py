"""amqtt's broker with its faults mended from a subclass, for one trusted host.

What amqtt (0.12) still does: parse and build packets, match topics, keep subscriptions and retained
messages, ask plugins who may do what, open and close the listener. What it does not do, or not as
MQTT 3.1.1 asks, is done here and in the modules beside:

- *Connections* (`packets`, `connection`). A packet is read whole and checked before it is parsed;
  whatever is malformed, too large or too slow ends its connection, and the descriptor is free
  again. amqtt leaves such sockets half-closed for ever. Packets are served by one task, in order.
- *Sessions* (`connection`). A client that asked for it finds its subscriptions and messages again;
  a second connection ends the first one, whose will is published; a refused login displaces nobody.
- *Delivery* (`outbox`). The smaller of both qualities of service, a window of 20, a bounded queue
  behind it, and what was not acknowledged once more after a reconnection. amqtt gives up after 5 s.
- *Retained messages* greet new subscriptions only, and only the subscriber's own. They are bounded,
  and forgotten after a while: MQTT 3.1.1 has no expiry, and who holds a record announces it again.
- *Bounds* (`limits`) on all that anybody can make it keep.

There are no users, hence loopback only; see `embedded`. Section numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.broker import Broker, Server
from amqtt.contexts import Action, ListenerConfig
from amqtt.errors import MQTTError
from amqtt.mqtt.connack import UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.protocol.broker_handler import Subscription, UnSubscription
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.session import Session

from grapevine_broker.connection import CarefulConnection, CarefulSession, PatientWriter
from grapevine_broker.limits import Limits
from grapevine_broker.outbox import OBJECT_BYTES, Message, Room
from grapevine_broker.packets import OtherVersionError, PacketReader, RefusedError

_REFUSED = 0x80  # 3.9.3
_log = logging.getLogger(__name__)


class CarefulBroker(Broker):  # type: ignore[misc]  # amqtt ships no types
    """See the module's docstring. Start it with `start()`, and run `sweep()` beside it.

    Args:
        config: amqtt's configuration.
        limits: What anybody can make it keep or wait for.
    """

    def __init__(self, config: dict[str, Any], *, limits: Limits) -> None:
        super().__init__(config | {"session_expiry_interval": int(limits.session_expiry_s)})
        self._limits = limits
        self._room = Room()
        self._open: dict[PatientWriter, None] = {}
        self._unproven: dict[PatientWriter, None] = {}  # those of them that have not sent a CONNECT, oldest first
        self._retained_at_s: dict[str, float] = {}  # oldest first
        self._num_retained_bytes = 0

    @property
    def port(self) -> int:
        """The TCP port that the default listener got."""
        return int(self._servers["default"].instance.sockets[0].getsockname()[1])

    async def sweep(self) -> None:
        """Forget retained messages older than the maximum age, for ever."""
        while True:
            await asyncio.sleep(min(60.0, self._limits.retained_max_age_s / 10))
            oldest_s = asyncio.get_running_loop().time() - self._limits.retained_max_age_s
            for topic in [topic for topic, at_s in self._retained_at_s.items() if at_s < oldest_s]:
                await self.retain_message(None, topic, b"")

    async def shutdown(self) -> None:
        """End all connections, and stop."""
        for writer in list(self._open):
            writer.abort()
        await super().shutdown()

    # --- connections --------------------------------------------------------------------------------------

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve a connection from its first byte to its last; then its descriptor is free, whatever happened."""
        patient = PatientWriter(writer, self._limits.write_s)
        if not self._admit(patient):
            return
        try:
            await self._client_connected(listener_name, PacketReader(reader, self._limits), patient)
        except RefusedError as fault:
            _log.warning("closed a connection: it %s", fault)
        except (EOFError, TimeoutError, ConnectionError):
            pass  # a peer that vanishes or falls silent is ordinary
        except Exception:
            _log.exception("closed a connection because of an error of ours")
        finally:
            self._unproven.pop(patient, None)
            self._open.pop(patient, None)
            patient.abort()

    def _admit(self, writer: PatientWriter) -> bool:
        if len(self._open) >= self._limits.max_connections:
            _log.warning("closed a connection: there are %d others", len(self._open))
            writer.abort()
            return False
        if len(self._unproven) >= self._limits.max_unproven:
            _log.warning("closed a connection without a CONNECT: %d newer ones wait", len(self._unproven))
            oldest = next(iter(self._unproven))
            del self._unproven[oldest]
            oldest.abort()
        self._open[writer] = self._unproven[writer] = None
        return True

    async def _initialize_client_session(
        self,
        reader: PacketReader,
        writer: PatientWriter,
        remote_address: str,  # noqa: ARG002 - amqtt's signature, as below
        remote_port: int,  # noqa: ARG002
    ) -> tuple[CarefulConnection, Session]:
        try:
            frame = await reader.connect_frame()
        except OtherVersionError:
            writer.write(ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_bytes())
            raise
        self._unproven.pop(writer, None)
        try:
            handler, connect = await CarefulConnection.init_from_connect(
                BufferReader(frame), writer, self.plugins_manager
            )
        except MQTTError as error:
            raise RefusedError(f"was not let in: {error}") from None
        return handler, connect

    async def _handle_client_session(
        self,
        reader: PacketReader,
        writer: PatientWriter,
        client_session: Session,
        handler: CarefulConnection,
        server: Server,  # noqa: ARG002
        listener_name: str,
    ) -> None:
        listener: ListenerConfig = self.listeners_config[listener_name]
        if not await self._authenticate(client_session, listener):
            handler.attach(client_session, reader, writer)
            await handler.mqtt_connack_authorize(False)
            raise RefusedError("was not let in: its user is unknown")
        session = await self._claim(client_session, reader, writer, handler)
        try:
            await handler.mqtt_connack_authorize(True)
            handler.write(session.outbox.open())
            await self._client_message_loop(session, handler)
        finally:
            await self._part(session, handler)

    # --- sessions -----------------------------------------------------------------------------------------

    async def _claim(
        self, connect: Session, reader: PacketReader, writer: PatientWriter, handler: CarefulConnection
    ) -> CarefulSession:
        """Find or make the session of a CONNECT, after another connection of it has ended (3.1.4-2)."""
        client_id = connect.client_id
        while (known := self._sessions.get(client_id)) is not None and known[1].is_serving:
            await known[1].stop()
        # From here on nothing waits, so that no third connection comes between.
        if known is not None and connect.clean_session:
            await self._cleanup_session(client_id)
            known = None
        session = CarefulSession(self._limits, self._room) if known is None else known[0]
        session.begin(connect, is_known=known is not None)
        handler.begin(session, reader, writer)
        self._sessions[client_id] = (session, handler)
        return session

    async def _part(self, session: CarefulSession, handler: CarefulConnection) -> None:
        """Publish the will of a connection that is lost, and end the session or keep it (3.1.2.4)."""
        session.outbox.close()
        try:
            await self._handle_disconnect(session, handler, _done(handler.farewell))
            if session.clean_session:
                await self._cleanup_session(session.client_id)
            else:
                await self._forget_the_longest_absent()
        finally:
            handler.end()

    async def _forget_the_longest_absent(self) -> None:
        absent = [client_id for client_id, (_, handler) in self._sessions.items() if not handler.is_serving]
        absent.sort(key=lambda client_id: self._sessions[client_id][0].last_disconnect_time)
        for client_id in absent[: max(0, len(absent) + 1 - self._limits.max_absent_sessions)]:
            _log.warning("forgot a session: %d newer ones are kept", self._limits.max_absent_sessions)
            await self._cleanup_session(client_id)

    async def _cleanup_session(self, client_id: str) -> None:
        session, _ = self._sessions.get(client_id, (None, None))
        await super()._cleanup_session(client_id)
        if session is not None:
            session.outbox.clear()

    # --- packets ------------------------------------------------------------------------------------------

    async def _client_message_loop(self, client_session: CarefulSession, handler: CarefulConnection) -> None:
        session, outbox = client_session, client_session.outbox
        while handler.farewell is None:
            packet = await handler.next_packet()
            match packet:
                case PublishPacket():
                    await self._take(session, handler, packet)
                case PubackPacket():
                    handler.write(outbox.acknowledged(packet.variable_header.packet_id))
                case PubrecPacket():
                    handler.write(outbox.received(packet.packet_id))
                    await handler.drain()
                case PubrelPacket():
                    session.unreleased.discard(packet.packet_id)
                    await handler._send_packet(PubcompPacket.build(packet.packet_id))
                case PubcompPacket():
                    handler.write(outbox.completed(packet.packet_id))
                case SubscribePacket():
                    asked = Subscription(packet.variable_header.packet_id, packet.payload.topics)
                    await self._handle_subscription(session, handler, _done(asked))
                case UnsubscribePacket():
                    given_up = UnSubscription(packet.variable_header.packet_id, packet.payload.topics)
                    await self._handle_unsubscription(session, handler, _done(given_up))
                case PingReqPacket():
                    await handler.handle_pingreq(packet)
                case DisconnectPacket():
                    handler.farewell = packet

    async def _take(self, session: CarefulSession, handler: CarefulConnection, packet: PublishPacket) -> None:
        """Publish a message, once, and acknowledge it (4.3)."""
        packet_id = packet.packet_id
        is_new = packet_id not in session.unreleased
        if packet.qos == 2:
            if is_new and len(session.unreleased) >= self._limits.max_unreleased:
                raise RefusedError(f"left {len(session.unreleased)} messages of QoS 2 unreleased")
            session.unreleased.add(packet_id)
        if packet.qos < 2 or is_new:
            await self._publish(session, packet)
        if packet.qos:
            answer = PubackPacket if packet.qos == 1 else PubrecPacket
            await handler._send_packet(answer.build(packet_id))

    async def _publish(self, session: CarefulSession, packet: PublishPacket) -> None:
        topic = packet.topic_name
        if topic.startswith("$SYS/") or not await self._topic_filtering(session, topic, Action.PUBLISH):
            return
        await self._broadcast_message(session, topic, packet.data, packet.qos)
        if packet.retain_flag:
            await self.retain_message(session, topic, packet.data, packet.qos)

    # --- delivery -----------------------------------------------------------------------------------------

    async def _broadcast_message(
        self,
        session: Session | None,  # noqa: ARG002
        topic: str,
        data: bytes | None,
        force_qos: int | None = None,
    ) -> None:
        """Deliver a message to all who subscribed, at most at `force_qos`: what it was published with."""
        payload = bytes(data or b"")
        subscribers = [
            subscriber
            for topic_filter, subscribers in self._subscriptions.items()
            if self._matches(topic, topic_filter)
            for subscriber in subscribers
        ]
        plain = Message(topic, payload, 0)
        plain_frame: bytes | None = None
        for target, granted in subscribers:
            if not await self._topic_filtering(target, topic, Action.RECEIVE):
                continue
            qos = granted if force_qos is None else min(granted, force_qos)
            if qos:
                self._deliver(target, plain._replace(qos=qos))
            else:
                plain_frame = plain_frame or plain.frame()  # made once for all
                self._deliver(target, plain, plain_frame)

    def _deliver(self, session: CarefulSession, message: Message, frame: bytes | None = None) -> None:
        outbox, handler = session.outbox, self._get_handler(session)
        num_lost = outbox.num_lost
        frames = []
        if message.qos:
            frames = outbox.send(message)
        elif outbox.is_open and handler.writer.num_unsent_bytes <= self._limits.max_unsent_bytes:
            frames = [frame or message.frame()]
        elif outbox.is_open:
            outbox.num_lost += 1
        if frames:
            handler.write(frames)
        if outbox.num_lost > num_lost:
            _log.warning("%d messages so far for one client are lost: it does not keep up, or is away", outbox.num_lost)

    # --- retained messages --------------------------------------------------------------------------------

    async def retain_message(
        self,
        source_session: Session | None,  # noqa: ARG002
        topic_name: str,
        data: bytes | None,
        qos: int | None = None,
    ) -> None:
        """Keep a message for later subscribers; an empty one clears the topic. Beyond the limits the oldest goes."""
        before = self._retained_messages.get(topic_name)
        if before is not None:
            self._num_retained_bytes -= len(topic_name) + len(before.data)
            del self._retained_at_s[topic_name]
        await super().retain_message(None, topic_name, data, qos)  # without the session, which would live on in it
        if not data:
            return
        self._num_retained_bytes += len(topic_name) + len(data)
        self._retained_at_s[topic_name] = asyncio.get_running_loop().time()
        while (
            len(self._retained_at_s) > self._limits.max_retained_messages
            or self._num_retained_bytes > self._limits.max_retained_bytes
        ):
            _log.warning("forgot the oldest of %d retained messages", len(self._retained_at_s))
            await self.retain_message(None, next(iter(self._retained_at_s)), b"")

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: CarefulSession
    ) -> None:
        topic_filter, granted = subscription
        handler: CarefulConnection = self._get_handler(session)
        for topic in [topic for topic in self._retained_messages if self._matches(topic, topic_filter)]:
            await handler.drain()  # what finds no room at QoS 0 is lost
            retained = self._retained_messages.get(topic)
            if retained is not None:
                self._deliver(session, Message(topic, bytes(retained.data), min(granted, retained.qos or 0), True))

    # --- subscriptions ------------------------------------------------------------------------------------

    async def add_subscription(self, subscription: tuple[str, int], session: CarefulSession) -> int:
        """Subscribe to a filter, or give the subscription another QoS (3.8.4-3).

        Returns:
            The QoS that is granted, or 0x80 for a filter that is none, is denied or is one too many.
        """
        topic_filter, _qos = subscription
        is_new = topic_filter not in session.filters
        num_bytes = OBJECT_BYTES + len(topic_filter)
        if is_new and (
            len(session.filters) >= self._limits.max_subscriptions
            or self._room.num_bytes + num_bytes > self._limits.max_queued_bytes_in_all
        ):
            return _REFUSED
        granted: int = await super().add_subscription(subscription, session)
        if granted != _REFUSED:
            if is_new:
                session.filters.add(topic_filter)
                self._room.num_bytes += num_bytes
            subscribers = self._subscriptions[topic_filter]
            subscribers[:] = [(each, granted if each is session else its_qos) for each, its_qos in subscribers]
        return granted

    async def _del_all_subscriptions(self, session: CarefulSession) -> None:
        for topic_filter in list(session.filters):
            self._del_subscription(topic_filter, session)

    def _del_subscription(self, a_filter: str, session: CarefulSession) -> int:
        num_deleted: int = super()._del_subscription(a_filter, session)
        if a_filter in session.filters:
            session.filters.discard(a_filter)
            self._room.num_bytes -= OBJECT_BYTES + len(a_filter)
        if not self._subscriptions.get(a_filter, True):
            del self._subscriptions[a_filter]
        return num_deleted


def _done(result: Any) -> asyncio.Future[Any]:
    """Return a future that has its result: amqtt's methods take one from their own loop."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future
