"""What somebody who sees everything notes of a long run: the figures that its invariants are made of.

`did` and `took` are told what devices do as it happens; `look` goes round at intervals. Nothing here changes
anything in the world, and nothing is drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.rest import QUIET_ROUNDS
from grapevine_lab.simulator.clock import EPOCH_MS
from grapevine_lab.simulator.device import SEQUENCE_BYTES, Device
from grapevine_lab.simulator.life_plan import LifePlan
from grapevine_lab.simulator.population import Population
from grapevine_lab.simulator.sizes import WHOLE, Extent, sizes_of, whole_bytes
from grapevine_lab.simulator.standing import DAY_S, Standing, Standings
from grapevine_proto.manifest_codec import decode_manifest_head
from grapevine_proto.messages import Message, ModelUpdate, Review, TaskPublication
from grapevine_proto.topics import InboxTopic, TaskTopic

SIZES_EVERY_S = 86_400.0
WHOLE_EVERY_S = 5 * 86_400.0
RIGHT_WITHIN_S = 60.0  # a clock that is off by less is right, for what is asked here
CLOCK_SLACK_S = 86_400.0  # the core believes honest clocks to differ by less
RESTS_AFTER_ROUNDS = QUIET_ROUNDS + 2  # of a task that everybody has finished: the first two may still move something
BELIEVED_SHARE = 0.75  # of what an honest sender claims: the pace limit trims a little off the fastest, always
MOST_NOTES = 20


@dataclass(kw_only=True)
class Day:
    """Sums over one virtual day, all devices together."""

    sends: int = 0  # of updates
    ghosts: int = 0  # of these, to devices that are not there
    rest_sends: int = 0  # of these, of finished tasks by devices that are to be at rest with them
    rest_days: float = 0.0  # of such devices, each task for itself
    saves: int = 0  # of models
    same_saves: int = 0  # that the disk holds already
    taken: int = 0  # updates
    disbelieved: int = 0  # of these, of whose sender's experience a quarter or more was not believed
    pairs: int = 0  # of members who should know each other, over all looks
    strangers: int = 0  # of these, pairs that do not
    device_days: float = 0.0


@dataclass(kw_only=True)
class Ledger:
    """See the module's docstring. Times are right seconds since the run began."""

    plan: LifePlan
    population: Population
    standings: Standings
    extent: Extent  # but for what comes only in the course of the run
    days: dict[int, Day] = field(default_factory=dict)
    sizes: list[tuple[int, str, int, int, float]] = field(default_factory=list)  # day, name, most, allowed, mean
    unapproved: int = 0
    unapproved_notes: list[str] = field(default_factory=list)
    longest_unknown_s: float = 0.0  # after both could have known, in settled times
    longest_unknown: str = ""
    longest_unannounced_s: float = 0.0
    longest_unannounced: str = ""
    longest_gone_s: float = 0.0  # that somebody was when an update was sent to it
    longest_gone: str = ""
    longest_unjoined_s: float = 0.0
    longest_unjoined: str = ""
    written: Counter[int] = field(default_factory=Counter)  # bytes by device, in settled times
    settled_on_s: Counter[int] = field(default_factory=Counter)  # seconds switched on, likewise
    newest_s: float = 0.0  # when something new came last: a device, a task
    _came: set[int] = field(default_factory=set)
    _right_since_s: dict[int, float] = field(default_factory=dict)
    _finished_since_s: dict[str, float] = field(default_factory=dict)
    _sizes_at_s: float = SIZES_EVERY_S
    _whole_at_s: float = WHOLE_EVERY_S
    _looked_s: float = 0.0

    def day(self, now_s: float) -> Day:
        """The sums of the day."""
        return self.days.setdefault(int(now_s // DAY_S), Day())

    # --- as it happens ----------------------------------------------------------------------------

    def did(self, device: Device, effect: fx.Effect, now_s: float) -> None:
        """A device did something."""
        match effect:
            case fx.Publish(body=ModelUpdate() as update, topic=InboxTopic(receiver=receiver)):
                self._sent(device, update.task, receiver, now_s)
            case fx.Publish(body=TaskPublication() | Review() as body, topic=TaskTopic(task=task)):
                self._said(device, task, body, now_s)
            case fx.Train(task=task):
                self._trains(device, task, now_s)
            case fx.SaveBest(vectors=vectors):
                self._wrote(device, sum(vector.nbytes for vector in vectors.values()), now_s)
            case fx.SaveModel(task=task, vectors=vectors):
                self._wrote(device, sum(vector.nbytes for vector in vectors.values()), now_s)
                self.day(now_s).saves += 1
            case fx.SaveRecord(received=received):
                self._wrote(device, len(received.envelope), now_s)
            case fx.ForgetRecord() | fx.ForgetSequence():
                self._wrote(device, SEQUENCE_BYTES, now_s)
            case fx.SaveBlob(content=content):
                self._wrote(device, len(content), now_s)

    def saves(self, held: fx.SavedModel | None, effect: fx.SaveModel, now_s: float) -> None:
        """A model is about to be saved over what the disk holds."""
        if held is not None and dict(held.counters) == dict(effect.counters):
            same = all(held.vectors[name] is vector for name, vector in effect.vectors.items())
            self.day(now_s).same_saves += same

    def took(self, device: Device, message: Message, now_s: float) -> None:
        """A device took an update. Everybody here is honest, so a claim that is not believed is a fault."""
        if not isinstance(message.body, ModelUpdate):
            return
        learner = device.learner(message.body.task)
        if learner is None:
            return
        believed = learner.merging.claims.experiences.get(message.sender, message.body.experience)
        day = self.day(now_s)
        day.taken += 1
        day.disbelieved += believed < BELIEVED_SHARE * message.body.experience

    def _wrote(self, device: Device, num_bytes: int, now_s: float) -> None:
        if now_s >= self.plan.settled_s:
            self.written[device.index] += num_bytes

    def _sent(self, device: Device, task: str, receiver: str, now_s: float) -> None:
        day, index = self.day(now_s), self.population.index_of(receiver)
        day.sends += 1
        if index < 0 or not self.population.devices[index].online:
            day.ghosts += 1
            gone_s = now_s - self.population.devices[index].offline_since_s if index >= 0 else math.inf
            if device.online and gone_s > self.longest_gone_s and now_s >= self.plan.settled_s:
                self.longest_gone_s = gone_s
                self.longest_gone = f"day {now_s / DAY_S:.1f}: node {device.index} to node {index}"
        day.rest_sends += now_s > self._rests_at_s(task, device.learner(task))

    def _said(self, device: Device, task: str, body: TaskPublication | Review, now_s: float) -> None:
        if isinstance(body, TaskPublication) and not body.retracted and task not in self.standings.tasks:
            head = decode_manifest_head(body.manifest)
            standing = Standing(
                publisher=device.peer,
                name=head.name,
                published_s=now_s,
                parent=head.parent,
                num_rounds=head.training.num_rounds,
            )
            self.standings.published(task, standing, now_s)
            self.newest_s = now_s
        created_at_ms = EPOCH_MS + int(1000 * (now_s + device.wall.wrong_by_s(now_s)))
        self.standings.said(device.peer, task, body, created_at_ms, now_s)

    def _trains(self, device: Device, task: str, now_s: float) -> None:
        """It may go on for as long as it cannot know better: see docs/simulator.md."""
        self.standings.refresh(now_s)
        standing = self.standings.tasks.get(task)
        if standing is not None and standing.is_approved:
            return
        if standing is not None:
            told_s = max(standing.since_s, device.online_since_s) if device.online else math.inf
            knows_s = min(told_s + self.plan.stops_within_s, standing.lapses_s + CLOCK_SLACK_S)
            if now_s <= knows_s:
                return
        self.unapproved += 1
        if len(self.unapproved_notes) < MOST_NOTES:
            name = standing.name if standing is not None else task
            wrong_s = device.wall.wrong_by_s(now_s)
            self.unapproved_notes.append(
                f"day {now_s / DAY_S:.2f}: node {device.index} trains {name!r}; its clock is {wrong_s:+.0f} s"
            )

    # --- looking round ----------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """See how it stands."""
        self.standings.refresh(now_s)
        approved = self.standings.approved()
        there = [device for device in self.population.devices if device.running]
        self._note_clocks(now_s)
        since_s = now_s - self._looked_s
        day = self.day(now_s)
        for device in there:
            day.device_days += since_s / DAY_S
            if device.index not in self._came:
                self._came.add(device.index)
                self.newest_s = now_s
            if now_s > self.plan.settled_s:
                self.settled_on_s[device.index] += int(since_s)
        for task, standing in approved.items():
            members = self._members(task, standing, there, now_s)
            self._who_knows_whom(task, standing, members, now_s)
        self._note_finished(now_s)
        for task in self._finished_since_s:
            resting = [each for _, each in self.population.learners(task) if now_s > self._rests_at_s(task, each)]
            day.rest_days += len(resting) * since_s / DAY_S
        self._looked_s = now_s
        if now_s >= self._sizes_at_s:
            self._sizes_at_s += SIZES_EVERY_S
            self._measure(there, now_s)

    def _note_clocks(self, now_s: float) -> None:
        for device in self.population.devices:
            if abs(device.wall.wrong_by_s(now_s)) > RIGHT_WITHIN_S:
                self._right_since_s[device.index] = now_s

    def _ready_s(self, device: Device) -> float:
        """Since when a device is there, connected, and of the right time."""
        return max(device.online_since_s, self._right_since_s.get(device.index, 0.0))

    def _members(
        self, task: str, standing: Standing, there: list[Device], now_s: float
    ) -> list[tuple[Device, Learning]]:
        """Who takes part; notes who should and does not."""
        members: list[tuple[Device, Learning]] = []
        for device in there:
            learner = device.learner(task)
            if learner is not None:
                members.append((device, learner))
                continue
            if not device.online or self._right_since_s.get(device.index) == now_s:
                continue
            waits_s = now_s - max(self._ready_s(device), standing.since_s)
            if waits_s > self.longest_unjoined_s and now_s >= self.plan.settled_s:
                self.longest_unjoined_s = waits_s
                self.longest_unjoined = f"day {now_s / DAY_S:.1f}: node {device.index} and {standing.name!r}"
        return members

    def _who_knows_whom(
        self, task: str, standing: Standing, members: list[tuple[Device, Learning]], now_s: float
    ) -> None:
        day, settled = self.day(now_s), now_s >= self.plan.settled_s
        online = [(device, learner) for device, learner in members if device.online]
        for device, learner in online:
            if self._right_since_s.get(device.index) == now_s:
                continue
            known = set(learner.members.of_task(task, now_s))
            for other, others in online:
                if other is device:
                    continue
                day.pairs += 1
                day.strangers += other.peer not in known
                about = learner.members.peers.get(other.peer)
                is_announced = about is not None and about.is_announced
                if not settled or (is_announced and other.peer in known):
                    continue
                begun_s = max(learner.started.monotonic_s, others.started.monotonic_s, standing.since_s)
                waits_s = now_s - max(self._ready_s(device), self._ready_s(other), begun_s)
                text = f"day {now_s / DAY_S:.1f}: node {device.index} of node {other.index}, in {standing.name!r}"
                if other.peer not in known and waits_s > self.longest_unknown_s:
                    self.longest_unknown_s, self.longest_unknown = waits_s, text
                if not is_announced and waits_s > self.longest_unannounced_s:
                    self.longest_unannounced_s, self.longest_unannounced = waits_s, text

    def _note_finished(self, now_s: float) -> None:
        """Tasks whose every member that is there has done its rounds."""
        for task, standing in self.standings.tasks.items():
            learners = [learner for _, learner in self.population.learners(task)]
            done = standing.num_rounds and all(each.model.version >= standing.num_rounds for each in learners)
            if not learners or not done:
                self._finished_since_s.pop(task, None)
            else:
                self._finished_since_s.setdefault(task, now_s)

    def _rests_at_s(self, task: str, learner: Learning | None) -> float:
        """When a device is to be at rest with a task: rounds after it has begun, and after all have finished."""
        finished_s = self._finished_since_s.get(task, math.inf)
        if learner is None:
            return math.inf
        quiet_s = RESTS_AFTER_ROUNDS * learner.manifest.training.round_interval_s
        return max(finished_s, learner.started.monotonic_s) + quiet_s

    def _measure(self, there: list[Device], now_s: float) -> None:
        day = int(now_s // DAY_S)
        allowed: Mapping[str, int] = replace(
            self.extent, num_devices=len(self._came), num_tasks=len(self.standings.tasks)
        ).most()
        found = [sizes_of(device) for device in there]
        for name, most in allowed.items():
            of_each = [sizes[name] for sizes in found]
            self.sizes.append((day, name, max(of_each, default=0), most, sum(of_each) / max(1, len(of_each))))
        if now_s >= self._whole_at_s:
            self._whole_at_s += WHOLE_EVERY_S
            wholes = [whole_bytes(device) for device in there]
            self.sizes.append((day, WHOLE, max(wholes, default=0), 0, sum(wholes) / max(1, len(wholes))))
