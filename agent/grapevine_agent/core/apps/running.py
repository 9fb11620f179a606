"""The containers of applications on this device: what may run by the owner's rules, what runs, and what failed.

    placed ─▶ RunContainer ─told─▶ running ─told─▶ failed ─▶ not offered for a while, longer each time ─▶ again
                                     └─ no longer placed, or another version ─▶ EndContainer

What fails here is not offered meanwhile, so that another agent takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.core.apps.parts import Part
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.settings import EngineRules
from grapevine_proto.application import Container

FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 3_600.0
NO_ENGINE: Final = "this agent runs no containers: its owner has not allowed an engine ([engine] enabled = true)"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a container has failed here, how often in a row, and until when it is not tried again (monotonic)."""

    why: str
    num: int
    until_s: float


@dataclass(kw_only=True)
class Containers:
    """See the module's docstring. Components by their words (`Part.word`)."""

    rules: EngineRules | None
    asked: dict[str, Container] = field(default_factory=dict)  # of the shell, and not ended
    troubles: dict[str, Trouble] = field(default_factory=dict)
    _running: set[str] = field(default_factory=set)

    def why_not(self, part: Part, now_s: float) -> Iterator[str]:
        """Why a container may not run here; nothing if it may."""
        wanted, rules = part.component.workload, self.rules
        assert isinstance(wanted, Container)
        if rules is None:
            yield NO_ENGINE
            return
        if wanted.image not in rules.images:
            yield f"its image is not among those that the owner allows ([engine] allow_images): {wanted.image}"
        for port in wanted.ports:
            if port not in rules.ports:
                yield f"its port {port} is not among those that the owner allows ([engine] allow_ports)"
        others = [each for word, each in self.asked.items() if word != part.word]
        memory_mb, cpu = sum(e.memory_mb for e in others), sum(e.cpu_thousandths for e in others)
        if memory_mb + wanted.memory_mb > rules.memory_mb:
            allowed_mb = f"[engine] memory_mb allows {rules.memory_mb}, of which {memory_mb} are taken"
            yield f"needs {wanted.memory_mb} MB, {allowed_mb}"
        if cpu + wanted.cpu_thousandths > rules.cpu_thousandths:
            needed, allowed = wanted.cpu_thousandths / 1e3, rules.cpu_thousandths / 1e3
            yield f"needs {needed:g} cores, [engine] cpus allows {allowed:g}, of which {cpu / 1e3:g} are taken"
        if len(others) >= rules.most:
            yield f"{len(others)} containers run here already ([engine] max_containers)"
        taken = {port for each in others for port in each.ports}.intersection(wanted.ports)
        if taken:
            yield f"its port {min(taken)} is taken by another component here"
        trouble = self.troubles.get(part.word)
        if trouble is not None and now_s < trouble.until_s:
            yield f"failed here, tried again in {trouble.until_s - now_s:.0f} s: {trouble.why}"

    def follow(self, parts: Collection[Part], now_s: float) -> list[Effect]:
        """Have what is to run run, and end the rest."""
        known = {part.word for part in parts}
        self.troubles = {word: trouble for word, trouble in self.troubles.items() if word in known}
        wanted = {
            part.word: part for part in parts if part.is_active and isinstance(part.component.workload, Container)
        }
        effects: list[Effect] = []
        for word, container in list(self.asked.items()):
            if word not in wanted or wanted[word].component.workload != container:
                del self.asked[word]
                self._running.discard(word)
                effects.append(fx.EndContainer(key=word))
        for word, part in sorted(wanted.items()):
            work = part.component.workload
            if word not in self.asked and isinstance(work, Container):
                if any(self.why_not(part, now_s)):
                    continue  # another has just taken the room
                self.asked[word] = work
                effects.append(fx.RunContainer(key=word, application=part.entry.id, container=work))
        return effects

    def told(self, word: str, *, is_running: bool, why: str, now_s: float) -> None:
        """The shell says how a container is doing; `why` it does not run."""
        if word not in self.asked:
            return
        if is_running:
            self._running.add(word)
            if word in self.troubles and now_s > self.troubles[word].until_s + LONGEST_PAUSE_S:
                del self.troubles[word]  # it has run for long
            return
        self._running.discard(word)
        num = self.troubles[word].num + 1 if word in self.troubles else 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(num - 1, 10), LONGEST_PAUSE_S)
        self.troubles[word] = Trouble(why=why[:500], num=num, until_s=now_s + pause_s)

    def is_running(self, word: str) -> bool:
        """Whether the shell says that it runs."""
        return word in self._running
