"""How large a message is as an MQTT packet, as a broker counts it and as an agent does before it sends one."""

from __future__ import annotations

from typing import Final

from grapevine_agent.net.connection import packet_bytes
from grapevine_proto.roots import DEFAULT_ROOT

OWN_PACKET_BYTES: Final = 1_000_000  # what an agent sends where nobody says less: `mqtt.max_packet_bytes`
LARGEST_BYTES: Final = 268_435_460  # that MQTT has a length for (1.5.5), and its first five bytes
MOST_BESIDE_BYTES: Final = 70_000  # a topic, and what else is in a packet beside its payload
_ROOT: Final = f"{DEFAULT_ROOT}/"  # which topics in a simulation are without


def packet_of(topic: str, payload: bytes) -> int:
    """An upper bound in bytes, as the agent's transport has it, of a topic below the root."""
    return packet_bytes(_ROOT + topic, payload)


def fits(topic: str, payload: bytes, qos: int, most: int) -> bool:
    """Whether a PUBLISH of MQTT 5 without properties (3.3) takes at most so many bytes."""
    rest = 2 + len(topic.encode()) + (2 if qos else 0) + 1 + len(payload)
    num_length_bytes = 1 + (rest >= 1 << 7) + (rest >= 1 << 14) + (rest >= 1 << 21)
    return 1 + num_length_bytes + rest <= most
