"""paho's client with what ours needs of it.

That is word of its thread's end, packet ids that nothing under way has, and large payloads that are not copied. paho
copies a payload into its packet, what is left of the packet at each write to the socket, what it has received already
for more of it, and all of that four times more in the end; each copy of a hundred megabytes stops every thread of the
process. So a large payload lies beside its packet here: in parts on the way out, on the way in as a view of what was
received, which lies where it was first put.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from grapevine_agent.net.reaching import connect_to
from grapevine_proto.large_fields import varint
from grapevine_proto.parts import LARGE, PIECE, Parts

_PUBLISH: Final = 0x30
_LONGEST_LENGTH: Final = 4  # bytes of a packet's length, and of its properties' (MQTT 5.0, section 1.5.5)


class Client(mqtt.Client):
    """A paho client whose network thread tells when and why it ended, whatever happened in it."""

    when_over: Callable[[BaseException | None], None] | None = None
    is_under_way: Callable[[int], bool] | None = None
    _leaving: Parts | None = None  # the payload of the message that is being published
    _arriving: memoryview | None = None  # the payload of the packet that is being read

    def _mid_generate(self) -> int:
        """The next packet id that nothing under way has: paho's count comes round after 65,535."""
        while True:
            mid = super()._mid_generate()
            if self.is_under_way is None or not self.is_under_way(mid):
                return mid

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:  # noqa: ARG002
        """Run the network thread: paho's own would swallow a failed first connection, and try again."""
        error: BaseException | None = None
        try:
            return super().loop_forever(timeout, retry_first_connection=False)
        except Exception as failure:  # a broker's bytes can be anything, and paho's parser trusts them
            error = failure
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            if self.when_over is not None:
                self.when_over(error)

    def _create_socket_connection(self) -> socket.socket:
        """Connect, as paho does; of several addresses' errors it would tell the last one."""
        if self._get_proxy():
            return super()._create_socket_connection()
        return connect_to(self._host, self._port, self._connect_timeout)

    # --- large payloads -----------------------------------------------------------------------------

    def publish_in_parts(self, topic: str, payload: Parts, qos: int, retain: bool) -> mqtt.MQTTMessageInfo:
        """Publish from the thread in which everything else is published; the parts must not be modified meanwhile."""
        self._leaving = payload
        try:
            return self.publish(topic, b"", qos, retain)
        finally:
            self._leaving = None

    def _packet_queue(
        self, command: Any, packet: Any, mid: int, qos: int, info: mqtt.MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        """Queue a packet; one without its payload gets that here. paho's writer wants its length, and slices."""
        payload = self._leaving
        if command == _PUBLISH and payload is not None:
            _, begin = _read_length(packet, 1)
            length = len(packet) - begin + len(payload)
            packet = Parts((bytes(packet[:1]) + varint(length) + bytes(packet[begin:]), *payload))
        return super()._packet_queue(command, packet, mid, qos, info)

    def _sock_recv(self, bufsize: int) -> bytes:
        """Read what there is, in pieces. Before the first of a large packet there is made room for all of it."""
        coming: Any = self._in_packet
        is_first = coming["have_remaining"] and coming["to_process"] == coming["remaining_length"]
        if is_first and coming["remaining_length"] >= LARGE:
            coming["packet"] = _Room(coming["remaining_length"])
        return super()._sock_recv(min(bufsize, PIECE))

    def _packet_handle(self) -> MQTTErrorCode:
        arrived: Any = self._in_packet["packet"]
        if not isinstance(arrived, _Room):
            return super()._packet_handle()
        whole, command = arrived.content(), self._in_packet["command"]
        qos = command >> 1 & 3
        begin = len(whole)
        if command & 0xF0 == _PUBLISH and qos <= 1:
            begin = _payload_begin(whole, qos, is_v5=self._protocol == MQTTProtocolVersion.MQTTv5)
            self._arriving = whole[begin:]
        self._in_packet["packet"] = bytearray(whole[:begin])
        try:
            return super()._packet_handle()
        finally:
            self._arriving = None

    def _handle_on_message(self, message: mqtt.MQTTMessage) -> None:
        if self._arriving is not None:
            message.payload = self._arriving  # type: ignore[assignment]
        super()._handle_on_message(message)


class _Room:
    """Where a large packet is put together. The kernel gives the memory as bytes arrive."""

    def __init__(self, num_bytes: int) -> None:
        self._bytes = np.empty(num_bytes, np.uint8)
        self._num_held = 0

    def __iadd__(self, piece: bytes) -> _Room:
        """Append what was read."""
        end = self._num_held + len(piece)
        self._bytes[self._num_held : end] = np.frombuffer(piece, np.uint8)
        self._num_held = end
        return self

    def content(self) -> memoryview:
        """What is held; it is not modified any more."""
        return self._bytes[: self._num_held].data.toreadonly()


def _payload_begin(packet: memoryview, qos: int, *, is_v5: bool) -> int:
    """Where the payload of a PUBLISH begins, after its fixed header (MQTT 5.0, section 3.3); never beyond the end."""
    begin = 2 + int.from_bytes(packet[:2], "big") + (2 if qos else 0)
    if is_v5:
        length, begin = _read_length(packet, begin)
        begin += length
    return min(begin, len(packet))


def _read_length(packet: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """A length of one to four bytes, and where it ends."""
    length = 0
    for index in range(_LONGEST_LENGTH):
        byte = packet[at + index] if at + index < len(packet) else 0
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return length, at + index + 1
    return length, at + _LONGEST_LENGTH
