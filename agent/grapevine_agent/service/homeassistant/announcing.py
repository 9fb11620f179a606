"""When which of a device's words go to one broker. Pure: figures and time come in, messages go out.

    connected ──SETTLE_S, or what is retained of us came──▶ description, availability, states: all of it
    Home Assistant has started                           ─▶ all of it, once in AGAIN_S
    a fact changed (a task came or went, paused, why)    ─▶ at once: description if it differs, and the states
    a number changed                                     ─▶ every `every_s`, the messages that differ
    nothing changed                                      ─▶ the states, every `refresh_s`: what is silent for three of
                                                            these is taken for gone (`expire_after`)
    goodbye                                              ─▶ offline

All of it is retained, so that a Home Assistant which starts later has it. Facts are looked at every few seconds, and
what they bring is rare; numbers are what costs bytes.

A description of ours that the broker retains may name tasks that were left while we were not there. They are named as
gone, as are those that go while we are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.service.figures import Figures
from grapevine_agent.service.homeassistant import components as parts
from grapevine_agent.service.homeassistant.components import Platform, Shape, Topics

SETTLE_S: Final = 2.0  # for what the broker retains of us
AGAIN_S: Final = 30.0  # between two answers to Home Assistant's start: anybody can play that
MOST_GONE: Final = 100  # components; the oldest are forgotten first


@dataclass(frozen=True, kw_only=True)
class Say:
    """One message, retained."""

    topic: str
    payload: bytes
    qos: int = 0


@dataclass(kw_only=True)
class Announcer:
    """See the module's docstring: what one broker was told. Times are monotonic seconds."""

    topics: Topics
    shape: Shape
    version: str
    every_s: float
    refresh_s: float
    gone: dict[str, Platform] = field(default_factory=dict)
    _there: dict[str, Platform] = field(default_factory=dict)
    _said: dict[str, bytes] = field(default_factory=dict)
    _facts: tuple[object, ...] = ()
    _numbers_s: float = -math.inf  # when states were said
    _all_s: float = -math.inf  # and all of them, changed or not
    begins_s: float = math.inf  # nothing is said before
    _again_s: float = -math.inf  # when it was last said all over

    def connected(self, now_s: float) -> None:
        """This broker has us: it may have forgotten everything."""
        self._forget()
        self.begins_s = now_s + SETTLE_S

    def lost(self) -> None:
        """It has us no more."""
        self.begins_s = math.inf

    def retained(self, payload: bytes | memoryview, now_s: float) -> bool:
        """What this broker retained of our description. Whether something is to be said sooner for it."""
        is_waiting = now_s < self.begins_s < math.inf
        self._go(parts.named_before(payload))
        if is_waiting:
            self.begins_s = now_s
        return is_waiting

    def started(self, now_s: float, delay_s: float) -> bool:
        """Home Assistant has started: say it all, a little later, so that not all devices do at once.

        Whether it is said for this: not if it was said a moment ago.
        """
        if now_s < self._again_s + AGAIN_S or self.begins_s == math.inf:
            return False
        self._again_s = now_s
        self._forget()
        self.begins_s = max(self.begins_s, now_s + delay_s)
        return True

    def due(self, figures: Figures, now_s: float) -> list[Say]:
        """What is to be said now, in this order; it is taken as said."""
        if now_s < self.begins_s:
            return []
        self.shape = self.shape.with_governed(figures.governed)
        said = [*self._description(figures), *self._states(figures, now_s)]
        self._said |= {each.topic: each.payload for each in said}
        return said

    def goodbye(self) -> list[Say]:
        """What is said before we leave."""
        return [Say(topic=self.topics.availability, payload=parts.OFFLINE.encode(), qos=1)] if self._said else []

    def _forget(self) -> None:
        self._said.clear()
        self._numbers_s = self._all_s = -math.inf

    def _description(self, figures: Figures) -> list[Say]:
        there = parts.components(figures, self.topics, self.shape)
        self._go({name: platform for name, platform in self._there.items() if name not in there})
        self._there = {name: component["platform"] for name, component in there.items()}
        self.gone = {name: platform for name, platform in self.gone.items() if name not in there}
        config = parts.config(figures, self.topics, there, self.gone, self.version)
        online = parts.ONLINE.encode()
        said = [(self.topics.config, config), (self.topics.availability, online)]
        return [Say(topic=topic, payload=payload, qos=1) for topic, payload in self._news(said)]

    def _go(self, names: dict[str, Platform]) -> None:
        self.gone |= names
        for name in list(self.gone)[:-MOST_GONE]:
            del self.gone[name]

    def _states(self, figures: Figures, now_s: float) -> list[Say]:
        facts = parts.facts(figures)
        states = {self.topics.state: parts.state(figures)}
        states |= {self.topics.task(task.key): parts.task_state(task) for task in figures.tasks}
        over = [(topic, b"") for topic in self._topics_of_gone() if topic not in states]
        cleared = [Say(topic=topic, payload=payload) for topic, payload in self._news(over)]
        if now_s >= self._all_s + self.refresh_s:
            self._all_s = self._numbers_s = now_s
            said = list(states.items())
        elif facts != self._facts or now_s >= self._numbers_s + self.every_s:
            said = self._news(states.items())
            if said:
                self._numbers_s = now_s
        else:
            said = []
        self._facts = facts
        return [*cleared, *(Say(topic=topic, payload=payload) for topic, payload in said)]

    def _topics_of_gone(self) -> dict[str, None]:
        """Where the states of tasks stood that are not there any more: nothing is retained for them."""
        return {self.topics.task(name.split("_")[1]): None for name in self.gone if name.startswith("task_")}

    def _news(self, said: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        return [(topic, payload) for topic, payload in said if self._said.get(topic) != payload]
