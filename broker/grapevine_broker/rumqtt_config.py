"""rumqttd's configuration, as ours has it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from grapevine_broker.limits import Limits

Version: TypeAlias = Literal["3.1.1", "5"]
VERSIONS: Final[tuple[Version, ...]] = ("3.1.1", "5")

SEGMENT_BYTES: Final = 524_288
NUM_SEGMENTS: Final = 17
"""What rumqttd keeps for each topic filter, delivered or not: its last segments, of one message at least. Seventeen
hold 8 MiB, or 16 messages, whichever is more: for a reader that has 100 under way already, and for what several
writers send before the router looks at its readers again. More is lost, the oldest first, although it was acknowledged.
With its own ten of 100 MB each filter would grow to a gigabyte."""

MOST_AT_ONCE: Final = 50_000
"""Messages of QoS 0 that it reads for a client in one go. What is retained beyond that is not given to a newcomer."""


def config_text(host: str, port: int, version: Version, limits: Limits) -> str:
    """Write rumqttd's configuration: one listener, of one version of MQTT.

    Another one, of the other version, would share its messages, and rumqttd ends the connection of every subscriber
    of version 3.1.1 that a message with properties of version 5 comes to.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    table = "v5" if version == "5" else "v4"
    return f"""id = 0

[router]
id = 0
max_connections = {limits.max_connections}
max_outgoing_packet_count = {MOST_AT_ONCE}
max_segment_size = {SEGMENT_BYTES}
max_segment_count = {NUM_SEGMENTS}

[{table}.1]
name = "listener"
listen = "{address}"
next_connection_delay_ms = 0

[{table}.1.connections]
connection_timeout_ms = {round(limits.connect_s * 1000)}
max_payload_size = {limits.max_packet_bytes}
max_inflight_count = 100
"""
