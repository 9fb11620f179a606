"""What the transport tells: frozen records, read from its queue one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from grapevine_agent.net.outbox import MAX_UNDER_WAY
from grapevine_agent.net.urls import BrokerUrl


@dataclass(frozen=True, kw_only=True)
class Connected:
    """Connected, and subscribed to every remembered filter but those whose turn comes now. Retained messages follow."""

    url: BrokerUrl
    version: str  # "5" or "3.1.1"
    max_packet_bytes: int  # whole packets: the smaller of our limit and the broker's
    has_learnt_limit: bool = False  # the broker does not say what it takes, and closed connections for less than that
    wanted_packet_bytes: int = 0  # what our owner allows, which a broker may halve; 0: that is not known
    max_in_flight: int = MAX_UNDER_WAY  # unacknowledged messages of QoS 1: the same of these
    shares: bool = False  # the broker has shared subscriptions
    refused: tuple[str, ...] = ()  # filters that the broker refuses us


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """A connection that was reported as `Connected` has ended."""

    url: BrokerUrl
    reason: str


@dataclass(frozen=True, kw_only=True)
class Trying:
    """A broker could not be reached; the next attempt follows, for ever."""

    url: BrokerUrl  # the one that could not be reached
    reason: str
    retry_in_s: float  # when the next attempt begins …
    next_url: BrokerUrl  # … and with whom
    all_refuse: bool = False  # every broker: until somebody mends a login, a URL or a certificate


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A message. `payload` can be anything: nothing has been verified. A large one is a view of what was received."""

    topic: str
    payload: bytes | memoryview
    retained: bool


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A filter was subscribed to in its turn (`in_turn.py`), and what the broker retained for it has come."""

    filter: str
    num_retained: int
    is_refused: bool = False
    is_last: bool = False  # no other filter waits for its turn


Event: TypeAlias = Connected | Disconnected | Trying | Arrived | Listening


@dataclass(frozen=True, kw_only=True)
class Will:
    """What the broker publishes for us when it loses us without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
