"""What goes between peers: who sent to whom lately, how much a second, and how much in all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from grapevine_agent.dashboard.patches import MOST_RATES
from grapevine_agent.dashboard.words import rounded

LATELY_S: Final = 10
MOST_LINKS: Final = 400  # that are shown
MOST_KEPT: Final = 2_000  # of one second
MOST_SPEED: Final = 60  # at which seconds are counted one by one

Link = tuple[str, str, str]  # sender, receiver, task


@dataclass
class Second:
    """What was sent in one second."""

    number: int
    num: int = 0
    num_bytes: int = 0
    links: dict[Link, list[int]] = field(default_factory=dict)  # num, bytes, time of the last


class Traffic:
    """Seconds of the source's own time, `speed` of which pass in one of the page's; of very many several together."""

    def __init__(self, speed: float = 1.0) -> None:
        self.totals = {"sent": 0, "received": 0, "merged": 0, "bytes": 0}
        self.joules: float | None = None  # of training; None: nobody has said
        self.rates: deque[list[Any]] = deque(maxlen=MOST_RATES)
        self._width = max(1, round(speed / MOST_SPEED))  # seconds that are counted together
        self._lately = max(LATELY_S, round(LATELY_S * speed / self._width))
        self._seconds: deque[Second] = deque()
        self._untold: list[list[Any]] = []

    def sent(self, link: Link, num_bytes: int, at_ms: int) -> None:
        """Count one message."""
        second = self._second_of(at_ms)
        second.num += 1
        second.num_bytes += num_bytes
        counts = second.links.get(link)
        if counts is None:
            if len(second.links) >= MOST_KEPT:
                return
            second.links[link] = counts = [0, 0, 0]
        counts[0] += 1
        counts[1] += num_bytes
        counts[2] = max(counts[2], at_ms)

    def advance(self, now_ms: int) -> None:
        """Close the seconds that are over, and forget what is not of late."""
        current = now_ms // (1000 * self._width)
        if not self._seconds:
            self._seconds.append(Second(current))
        while (last := self._seconds[-1]).number < current:
            self._tell_rate(last)
            if current - last.number > self._lately:  # a gap: all in between were silent
                self._seconds.clear()
                self._seconds.append(Second(current))
            else:
                self._seconds.append(Second(last.number + 1))
        while len(self._seconds) > self._lately:
            self._seconds.popleft()

    def links(self, shown_as: Callable[[str], str]) -> list[dict[str, Any]]:
        """Who sent to whom lately, those with the most messages; ends by the ids that they are shown as ("": not)."""
        summed: dict[Link, list[int]] = {}
        for second in self._seconds:
            for (sender, receiver, task), (num, num_bytes, last_ms) in second.links.items():
                ends = shown_as(sender), shown_as(receiver), task
                if not ends[0] or not ends[1] or ends[0] == ends[1]:
                    continue
                counts = summed.setdefault(ends, [0, 0, 0])
                counts[0] += num
                counts[1] += num_bytes
                counts[2] = max(counts[2], last_ms)
        most = sorted(summed.items(), key=lambda item: (-item[1][0], item[0]))[:MOST_LINKS]
        return [
            {"from": sender, "to": receiver, "task": task, "num": num, "bytes": num_bytes, "last_ms": last_ms}
            for (sender, receiver, task), (num, num_bytes, last_ms) in most
        ]

    def shift(self, step_ms: int) -> None:
        """The clock was set by so much: what was counted was counted by another."""
        step = round(step_ms / 1000 / self._width)
        for second in self._seconds:
            second.number += step
            for counts in second.links.values():
                counts[2] += step_ms
        for rate in self.rates:  # the same lists as those that are not told yet
            rate[0] += step * self._width * 1000

    def new_rates(self) -> list[list[Any]]:
        """The seconds that were closed since this was asked last."""
        untold, self._untold = self._untold, []
        return untold

    def _tell_rate(self, second: Second) -> None:
        num, num_bytes = rounded(second.num / self._width), rounded(second.num_bytes / self._width)
        rate = [second.number * self._width * 1000, num, num_bytes]
        self.rates.append(rate)
        self._untold = [*self._untold, rate][-MOST_RATES:]

    def _second_of(self, at_ms: int) -> Second:
        number = at_ms // (1000 * self._width)
        if not self._seconds:
            self._seconds.append(Second(number))
        if number > self._seconds[-1].number:
            self.advance(at_ms)
        ahead = self._seconds[-1].number - number
        return self._seconds[max(0, len(self._seconds) - 1 - ahead)]  # what is older counts with the oldest
