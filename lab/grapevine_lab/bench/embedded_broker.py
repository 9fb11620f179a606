"""`embedded_broker`: what a message costs the brokers that we can start.

One writer and one reader on loopback, MQTT 3.1.1, QoS 1 both ways (`plain_mqtt.py`): small messages one by one and
with 20 under way, and such as carry the model of the digits. The brokers run all the time and are given their messages
in turns. Counted are the CPU time of the broker's process (all its threads, its kernel's part included), messages a
second by the clock, and its memory afterwards (RSS, shared libraries included).

That many messages a second take both ends as well: on two cores the writer and the reader have one of them.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import psutil

from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import ENGINES, RunningBroker, start_broker
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.plain_mqtt import Traffic
from grapevine_proto import distribution

NAME: Final = "embedded_broker"
NUM_WARM_UP: Final = 200
NUM_REPETITIONS: Final = 7
CPU_TARGET = Target(limit=0.2, at_most=True)  # of the embedded broker's
SPEED_TARGET = Target(limit=2.0, at_most=False)
RSS_TARGET = Target(limit=60.0, at_most=True)  # MB of 10^6 bytes
OURS, BEFORE, OTHER = "rumqtt", "embedded", "mosquitto"
SMALL_BYTES: Final = 200  # a heartbeat
LARGE_BYTES: Final = 221_552  # 55,338 parameters of the digits, and what is said of them
_NEEDED: Final = {"amqtt": "broker", "iotcore": "rumqtt"}


@dataclass(frozen=True, kw_only=True)
class _Case:
    spoken: str
    num_bytes: int
    window: int  # messages under way
    num_messages: int  # in a turn
    has_targets: bool = False


CASES: Final = (
    _Case(spoken="200 B one by one", num_bytes=SMALL_BYTES, window=1, num_messages=2_000, has_targets=True),
    _Case(spoken="200 B", num_bytes=SMALL_BYTES, window=20, num_messages=10_000, has_targets=True),
    _Case(spoken="221 kB", num_bytes=LARGE_BYTES, window=20, num_messages=800),
)


def missing() -> str:
    """Why the three cannot be compared here; empty if they can."""
    for package, extra in _NEEDED.items():
        if importlib.util.find_spec(package) is None:
            return f"needs {package}: {distribution.to_add_extra(extra)}"
    return why_no_mosquitto()


@dataclass
class _Found:
    """Of one engine in one case: each list has an entry for a turn."""

    cpu_s: list[float] = field(default_factory=list)  # a message
    a_second: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)  # bytes


def run(say: Callable[[str], None]) -> Sequence[Figure]:
    """Measure all three; about three minutes."""
    figures: list[Figure] = []
    with ExitStack() as stack:
        brokers: dict[str, RunningBroker] = {engine: stack.enter_context(start_broker(engine)) for engine in ENGINES}
        for case in CASES:
            say(f"{case.spoken}: {case.num_messages:,} messages over each, {NUM_REPETITIONS} times")
            figures += _figures(case, _by_turns(case, brokers))
    return figures


def _by_turns(case: _Case, brokers: Mapping[str, RunningBroker]) -> dict[str, _Found]:
    found = {engine: _Found() for engine in brokers}
    with ExitStack() as stack:
        ways = {
            engine: stack.enter_context(Traffic(BrokerUrl.parse(broker.url).port, case.num_bytes, case.window))
            for engine, broker in brokers.items()
        }
        for way in ways.values():
            way.carry(NUM_WARM_UP)
        for _ in range(NUM_REPETITIONS):
            for engine, way in ways.items():
                _measure(found[engine], psutil.Process(brokers[engine].pid), way, case.num_messages)
    return found


def _measure(found: _Found, process: psutil.Process, way: Traffic, num_messages: int) -> None:
    before, began_s = process.cpu_times(), time.monotonic()
    way.carry(num_messages)
    taken_s, after = time.monotonic() - began_s, process.cpu_times()
    found.cpu_s.append((after.user + after.system - before.user - before.system) / num_messages)
    found.a_second.append(num_messages / taken_s)
    found.rss.append(float(process.memory_info().rss))


def _figures(case: _Case, found: dict[str, _Found]) -> list[Figure]:
    spoken = case.spoken
    figures: list[Figure] = []
    for engine in ENGINES:
        one = found[engine]
        figures += [
            figure(NAME, f"{spoken}: {engine}, CPU a message", one.cpu_s, unit="µs", scale=1e6),
            figure(NAME, f"{spoken}: {engine}, messages", one.a_second, unit="/s"),
            figure(
                NAME,
                f"{spoken}: {engine}, RSS",
                one.rss,
                unit="MB",
                scale=1e-6,
                target=RSS_TARGET if engine == OURS else None,
            ),
        ]
    ours = found[OURS]
    for other in (BEFORE, OTHER):
        one, has_target = found[other], other == BEFORE and case.has_targets
        cpu = [mine / its for mine, its in zip(ours.cpu_s, one.cpu_s, strict=True)]
        speed = [mine / its for mine, its in zip(ours.a_second, one.a_second, strict=True)]
        figures += [
            figure(NAME, f"{spoken}: CPU, {OURS} / {other}", cpu, target=CPU_TARGET if has_target else None),
            figure(NAME, f"{spoken}: messages, {OURS} / {other}", speed, target=SPEED_TARGET if has_target else None),
        ]
    return figures
