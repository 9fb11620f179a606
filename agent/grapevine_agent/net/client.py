"""paho's client with what ours needs of it.

That is word of its thread's end, packet ids that nothing under way has, and large payloads that are not copied. paho
copies a payload into its packet, what is left of the packet at each write to the socket, and what it received four
times more; each copy of a hundred megabytes stops every thread of the process. So a large payload lies beside its
packet here, on the way out in parts and on the way in as a view of what was received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from grapevine_proto.large_fields import varint
from grapevine_proto.parts import LARGE, Parts

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

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        qos = self._in_packet["command"] >> 1 & 3
        if len(packet) < LARGE or qos > 1:
            return super()._handle_publish()
        begin = _payload_begin(packet, qos, is_v5=self._protocol == MQTTProtocolVersion.MQTTv5)
        self._arriving = memoryview(packet)[begin:].toreadonly()
        self._in_packet["packet"] = packet[:begin]
        try:
            return super()._handle_publish()
        finally:
            self._arriving = None

    def _handle_on_message(self, message: mqtt.MQTTMessage) -> None:
        if self._arriving is not None:
            message.payload = self._arriving  # type: ignore[assignment]
        super()._handle_on_message(message)


def _payload_begin(packet: bytearray, qos: int, *, is_v5: bool) -> int:
    """Where the payload of a PUBLISH begins, after its fixed header (MQTT 5.0, section 3.3); never beyond the end."""
    begin = 2 + int.from_bytes(packet[:2], "big") + (2 if qos else 0)
    if is_v5:
        length, begin = _read_length(packet, begin)
        begin += length
    return min(begin, len(packet))


def _read_length(packet: bytes | bytearray, at: int) -> tuple[int, int]:
    """A length of one to four bytes, and where it ends."""
    length = 0
    for index in range(_LONGEST_LENGTH):
        byte = packet[at + index] if at + index < len(packet) else 0
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return length, at + index + 1
    return length, at + _LONGEST_LENGTH
