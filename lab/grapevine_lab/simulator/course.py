"""The course of a long run: what goes wrong and what owners say, done to a simulated world at its time.

`timeline` says what there is to do; here it is done, through the few things that a world can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import DAY_MS
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.post import Post
from grapevine_lab.simulator.timeline import PLACES, Happening, Word
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_tasks.built import finish_manifest

ASK_AGAIN_S = 600.0  # an owner whose device is off, or has not heard of the task, comes back
RECONNECTS_S = (0.5, 30.0)  # after a broker is back, as the transport's growing pauses spread it


class Stage(Protocol):
    """What a course asks of a world."""

    rng: np.random.Generator
    clock: VirtualClock[ev.Event]
    post: Post
    devices: list[Device]

    def boot(self, device: Device) -> None: ...  # noqa: D102

    def switch_off(self, device: Device, *, silent: bool = False) -> None: ...  # noqa: D102

    def connect(self, device: Device) -> None: ...  # noqa: D102

    def look_at_clock(self, device: Device) -> None: ...  # noqa: D102

    def do(self, device: Device, effects: Iterable[fx.Effect]) -> None: ...  # noqa: D102


@dataclass(kw_only=True)
class Course:
    """See the module's docstring. `tasks` has the ids of what was published, by the scenario's names."""

    happenings: tuple[Happening, ...] = ()
    words: tuple[Word, ...] = ()
    draft: TaskManifest | None = None  # of every task that is published
    weights: bytes = b""
    valid_days: float = 7.0  # of an approval
    tasks: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def plan(self, clock: VirtualClock[ev.Event]) -> None:
        """Put everything on the clock."""
        for number, happening in enumerate(self.happenings):
            if happening.fault.kind != "comes":
                clock.at(happening.at_s, ev.Begin(number))
        for number, word in enumerate(self.words):
            clock.at(word.at_s, ev.Say(number))

    # --- faults -----------------------------------------------------------------------------------

    def begin(self, number: int, stage: Stage) -> None:
        """Let an entry of the timeline happen."""
        happening, now_s = self.happenings[number], stage.clock.now_s
        fault, until_s = happening.fault, now_s + happening.for_s
        if fault.kind in PLACES:
            if fault.kind == "broker":
                stage.post.crash(fault.broker, empties=fault.empties)
            else:
                stage.post.cut_off(fault.site)
            stage.clock.at(until_s, ev.End(number))
            return
        device = stage.devices[happening.node]
        if device.is_gone:
            return
        match fault.kind:
            case "off":
                device.off_until_s = max(device.off_until_s, until_s)
                stage.switch_off(device, silent=fault.silent)
                stage.clock.at(until_s, ev.End(number))
            case "offline":
                device.offline_until_s = max(device.offline_until_s, until_s)
                stage.post.disconnect(device, silent=fault.silent)
                stage.clock.at(until_s, ev.End(number))
            case "clock":
                device.wall.set(now_s, ahead_s=happening.ahead_s)
                stage.look_at_clock(device)
                if happening.for_s:
                    stage.clock.at(until_s, ev.Right(happening.node))
            case "drift":
                device.wall.set(now_s, ppm=fault.ppm)
            case "leaves":
                if device.core is not None and not fault.silent:
                    stage.do(device, device.core.goodbye())
                stage.switch_off(device, silent=True)  # with a goodbye there is no will either
                device.is_gone = True

    def end(self, number: int, stage: Stage) -> None:
        """An entry of the timeline is over."""
        happening, now_s = self.happenings[number], stage.clock.now_s
        fault = happening.fault
        if fault.kind in PLACES:
            if fault.kind == "broker":
                stage.post.restart(fault.broker)
            else:
                stage.post.mend(fault.site)
            for device in stage.devices:
                if device.running:
                    stage.clock.at(now_s + float(stage.rng.uniform(*RECONNECTS_S)), ev.Retry(device.index))
            return
        device = stage.devices[happening.node]
        if device.is_gone:
            return
        if fault.kind == "off" and now_s >= device.off_until_s:
            if happening.ahead_s:
                device.wall.set(now_s, ahead_s=happening.ahead_s)
                stage.clock.at(now_s + fault.wrong_for_s, ev.Right(device.index))
            stage.boot(device)
        elif fault.kind == "offline" and device.running:
            stage.connect(device)

    # --- words ------------------------------------------------------------------------------------

    def say(self, number: int, stage: Stage) -> None:
        """Let an owner say something, as soon as the device is there and knows what is spoken of."""
        word = self.words[number]
        device = stage.devices[word.node]
        core, task = device.core, self.tasks.get(word.task, "")
        waits_for = word.continues if word.kind == "publish" else word.task
        known = core is not None and (not waits_for or self.tasks.get(waits_for, "") in core.book.entries)
        if core is None or not known:
            stage.clock.at(stage.clock.now_s + ASK_AGAIN_S, ev.Say(number))
            return
        now = device.wall.moment(stage.clock.moment())
        until_ms = now.wall_ms + int(self.valid_days * DAY_MS)
        match word.kind:
            case "publish":
                manifest = self._manifest(word, device.peer, now.wall_ms)
                task, effects = core.publish_task(encode_manifest(manifest), self.weights, manifest.expires_at_ms)
                self.tasks[word.task], self.versions[word.task] = task, manifest.version
            case "approve" | "reject":
                effects = core.review(
                    task, approved=word.kind == "approve", reason="the scenario's", valid_until_ms=until_ms
                )
            case "revoke":
                effects = core.revoke(task, reason="the scenario's", now=now)
            case "retract":
                effects = core.retract(task, "the scenario's")
        stage.do(device, effects)

    def _manifest(self, word: Word, publisher: str, now_ms: int) -> TaskManifest:
        assert self.draft is not None
        draft = replace(self.draft, name=word.task, training=replace(self.draft.training, num_rounds=word.num_rounds))
        if word.continues:
            draft = replace(draft, version=self.versions[word.continues] + 1, parent=self.tasks[word.continues])
        return finish_manifest(draft, publisher=publisher, now_ms=now_ms)
