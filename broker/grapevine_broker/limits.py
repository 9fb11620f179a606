"""What the embedded broker lets anybody make it do, keep or wait for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the embedded broker. All its clients come from one machine, so none is by address."""

    max_connections: int = 1000
    """Connections at a time; another one is closed at once."""
    max_unproven: int = 256
    """Connections at a time that have not sent their CONNECT: another one costs the oldest its place."""
    connect_s: float = 10.0
    """How long a connection may take for its CONNECT, in seconds."""
    packet_s: float = 60.0
    """How long a packet may take from its first byte to its last, in seconds."""
    write_s: float = 60.0
    """How long a client may leave unread what it is sent, while it wants something, in seconds."""
    max_connect_bytes: int = 330_000
    """Size of a CONNECT: five fields of 65,535 bytes is all that MQTT allows."""
    max_packet_bytes: int = 16 * 1024 * 1024
    """Size of any other packet. A client that announces a larger one is closed."""
    max_unsent_bytes: int = 16 * 1024 * 1024
    """What may be on its way to one client: beyond, QoS 0 is lost and QoS 1 and 2 wait in the queue."""
    max_in_flight: int = 20
    """Messages of QoS 1 and 2 that are on their way to one client."""
    max_queued_messages: int = 10_000
    """Messages of QoS 1 and 2 that wait for one client, connected or not; beyond, the oldest is lost."""
    max_queued_bytes: int = 64_000_000
    """What they take together with those in flight, of one client; beyond, the oldest that waits is lost."""
    max_queued_bytes_in_all: int = 256_000_000
    """The same of all clients together, and their subscriptions: beyond, nobody gets another one."""
    max_subscriptions: int = 1000
    """Topic filters of one client; another one is answered with failure (0x80)."""
    max_unreleased: int = 10_000
    """Messages of QoS 2 that one client has sent and not released: who goes beyond is closed."""
    max_absent_sessions: int = 1000
    """Sessions kept for clients that are away; beyond, the one that has been away longest is forgotten."""
    session_expiry_s: float = 7 * 24 * 3600.0
    """How long a session is kept for a client that is away, in seconds."""
    max_retained_messages: int = 50_000
    """Retained messages; beyond, the oldest is forgotten."""
    max_retained_bytes: int = 256_000_000
    """Their topics and payloads; beyond, the oldest is forgotten."""
    retained_max_age_s: float = 7 * 24 * 3600.0
    """Age at which a retained message is forgotten, in seconds."""
