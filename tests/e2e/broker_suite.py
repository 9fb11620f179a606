"""The words in which `broker_suite_messages` and `broker_suite_sessions` say how a broker behaves.

They are written once, for brokers over sockets and for the one in memory.

A behaviour is a function that is given a broker (an adapter) and a root topic of its own. "Nothing
arrives" is never shown by waiting: `received` returns once a marker that the broker was given after
everything else has come through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from grapevine_lab.simulator.broker import Will


class Heard(NamedTuple):
    """A message as its receiver sees it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool = False
    duplicate: bool = False


class Broker(Protocol):
    """What a behaviour can do. Calls return once the broker has done its part, or skip what it cannot do at all."""

    def connect(
        self,
        client: str,
        *,
        clean_start: bool = True,
        session_expiry_s: int = 0,
        will: Will | None = None,
        acknowledges: bool = True,
    ) -> bool:
        """Return whether a session was resumed."""

    def subscribe(
        self,
        client: str,
        topic_filter: str,
        qos: int = 1,
        *,
        retain_handling: int = 0,
        retain_as_published: bool = False,
        no_local: bool = False,
    ) -> None: ...

    def unsubscribe(self, client: str, topic_filter: str) -> None: ...

    def publish(
        self,
        client: str,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> None: ...

    def disconnect(self, client: str) -> None:
        """Say DISCONNECT."""

    def drop(self, client: str) -> None:
        """Lose the connection, without a word and without having read what was on its way."""

    def acknowledge(self, client: str, count: int) -> None:
        """Acknowledge the oldest `count` of those received by a client that does not by itself."""

    def received(self, client: str, at_least: int = 0) -> list[Heard]:
        """Wait for `at_least` messages; return all since the last call, and be sure that no more are coming."""

    def let_pass(self, seconds: float) -> None:
        """Let that much time pass."""


Behaviour: TypeAlias = Callable[[Broker, str], None]
YEAR_S = 31_536_000


def collector(behaviours: list[Behaviour]) -> Callable[[Behaviour], Behaviour]:
    """A decorator that adds a function to `behaviours`."""

    def behaviour(function: Behaviour) -> Behaviour:
        behaviours.append(function)
        return function

    return behaviour


def payloads(heard: list[Heard]) -> list[bytes]:
    return [message.payload for message in heard]


def texts(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]
