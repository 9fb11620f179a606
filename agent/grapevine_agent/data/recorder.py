"""Live MQTT topics, recorded while the agent runs.

    message ─▶ hear: limits, JSON, paths ─▶ a slot's readings ─(slot over)▶ rows ─(every 30 s)▶ Recordings

Each topic has a grid of slots, `every_s` long. A slot's row takes, of each column, the last reading (or their
mean) in the slot, or the one before it for as long as `hold_s`: sensors often speak only when something changes.
A row is written once every column has a reading, so rows have no gaps; when a topic was silent for `hold_s`, or
the agent did not run, the next row begins a new run.

Messages have the time at which they come. Retained ones are ignored: nobody knows how old they are. Whatever
else is wrong with one is counted under a reason and changes nothing. `Recorder` is pure: time comes in as an
argument, rows go out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from paho.mqtt.client import topic_matches_sub

from grapevine_agent.data import json_paths
from grapevine_agent.data.recordings import MERGED, Row
from grapevine_agent.data.source import DataSource, RecordingPlan

FLUSH_S = 30.0  # between two writes: an SD card wears out by the write
MAX_PAYLOAD = 65_536
MAX_TOPICS = 256  # of one source
MAX_PER_SLOT = 10_000  # readings of one source in a slot; a flood is not averaged
_MAX_BACKLOG_SLOTS = 1_000  # rows that are held on to at once, after a machine slept
_OLDEST_CLOCK_S = 1_704_067_200  # 2024: a board without a clock battery starts in 1970, until it has asked for the time


@dataclass
class _Column:
    last: float = math.nan
    at_s: float = -math.inf
    total: float = 0.0
    count: int = 0


@dataclass
class _Topic:
    """One topic's open slot, and what it held before."""

    columns: list[_Column]
    slot: int
    label: str | None = None
    heard_s: float = -math.inf
    run: int | None = None
    written: int | None = None  # the last slot that became a row


@dataclass
class _Recording:
    source: DataSource
    plan: RecordingPlan
    paths: list[json_paths.JsonPath]
    target: json_paths.JsonPath | None
    topics: dict[str, _Topic] = field(default_factory=dict)
    num_in_slot: int = 0
    slot: int = 0


class Recorder:
    """See the module's docstring.

    Args:
        sources: Those with a recording plan are recorded.
        latest: Of each source, the newest slot and run of each topic on disk.
    """

    def __init__(
        self, sources: Sequence[DataSource], latest: dict[str, dict[str, tuple[int, int]]] | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()  # messages, by what became of them
        self._latest = latest or {}
        self._recordings = [
            _Recording(
                source=source,
                plan=source.recording,
                paths=[json_paths.parse_path(path) for _, path in source.columns],
                target=json_paths.parse_path(source.target[0]) if source.target else None,
            )
            for source in sources
            if source.recording is not None
        ]

    @property
    def sources(self) -> list[DataSource]:
        """What is recorded."""
        return [recording.source for recording in self._recordings]

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        return list(dict.fromkeys(recording.plan.topic for recording in self._recordings))

    def takes(self, topic: str) -> bool:
        """Whether a message on this topic is for us."""
        return any(topic_matches_sub(recording.plan.topic, topic) for recording in self._recordings)

    def hear(self, topic: str, payload: bytes | memoryview, now_s: float, *, retained: bool) -> list[Row]:
        """Take a message that came at `now_s` (Unix time); rows of slots that are over. Never raises."""
        reason = "retained" if retained else "large" if len(payload) > MAX_PAYLOAD else ""
        reason = reason or ("clock" if now_s < _OLDEST_CLOCK_S else "")
        if reason:
            self.counts[reason] += 1
            return []
        rows: list[Row] = []
        for recording in self._recordings:
            if topic_matches_sub(recording.plan.topic, topic):
                rows += self._take(recording, topic, bytes(payload), now_s)
        return rows

    def tick(self, now_s: float) -> list[Row]:
        """Rows of slots that are over by now."""
        rows: list[Row] = []
        if now_s < _OLDEST_CLOCK_S:
            return rows
        for recording in self._recordings:
            for name, topic in recording.topics.items():
                rows += _advance(recording, name, topic, _slot(now_s, recording.plan))
        return rows

    def _take(self, recording: _Recording, name: str, payload: bytes, now_s: float) -> list[Row]:
        slot = _slot(now_s, recording.plan)
        if slot != recording.slot:
            recording.slot, recording.num_in_slot = slot, 0
        recording.num_in_slot += 1
        if recording.num_in_slot > MAX_PER_SLOT:
            self.counts["flood"] += 1
            return []
        try:
            message = json_paths.parse_payload(payload)
        except ValueError:
            self.counts["no JSON"] += 1
            return []
        found = [json_paths.number(json_paths.find(message, path)) for path in recording.paths]
        label = json_paths.label(json_paths.find(message, recording.target)) if recording.target is not None else None
        if all(value is None for value in found) and label is None:
            self.counts["no reading"] += 1
            return []
        name = MERGED if recording.plan.devices == "merged" else name
        topic = self._topic(recording, name, slot)
        if topic is None:
            self.counts["too many topics"] += 1
            return []
        rows = _advance(recording, name, topic, slot)
        for column, value in zip(topic.columns, found, strict=True):
            if value is not None:
                column.last, column.at_s = value, now_s
                column.total, column.count = column.total + value, column.count + 1
        topic.label = label or topic.label
        topic.heard_s = now_s
        self.counts["recorded"] += 1
        return rows

    def _topic(self, recording: _Recording, name: str, slot: int) -> _Topic | None:
        topic = recording.topics.get(name)
        if topic is None and len(recording.topics) < MAX_TOPICS:
            topic = recording.topics[name] = _Topic(columns=[_Column() for _ in recording.paths], slot=slot)
            latest = self._latest.get(recording.source.name, {}).get(name)
            if latest is not None:
                topic.written, topic.run = latest
        return topic


def _advance(recording: _Recording, name: str, topic: _Topic, slot: int) -> list[Row]:
    """Close the open slot and those after it, up to `slot`, which is the open one then."""
    plan = recording.plan
    rows: list[Row] = []
    if slot < topic.slot:  # the clock was put back: what was written since is written over
        topic.slot, topic.run, topic.written = slot, None, None
        for column in topic.columns:
            column.at_s = min(column.at_s, slot)
        topic.heard_s = min(topic.heard_s, slot)
    first = max(topic.slot, slot - plan.every_s * _MAX_BACKLOG_SLOTS)
    for each in range(first, slot, plan.every_s):
        row = _close(recording, name, topic, each)
        if row is not None:
            rows.append(row)
        for column in topic.columns:
            column.total, column.count = 0.0, 0
        if each - topic.heard_s > plan.hold_s:
            break
    topic.slot = slot
    return rows


def _close(recording: _Recording, name: str, topic: _Topic, slot: int) -> Row | None:
    plan, end_s = recording.plan, slot + recording.plan.every_s
    numbers = []
    for column in topic.columns:
        if end_s - column.at_s > max(plan.hold_s, plan.every_s):
            return None
        numbers.append(column.total / column.count if plan.resample == "mean" and column.count else column.last)
    if recording.target is not None and topic.label is None:
        return None
    if topic.run is None or topic.written is None or slot - topic.written != plan.every_s:
        topic.run = slot
    topic.written = slot
    return Row(
        source=recording.source.name, topic=name, slot=slot, run=topic.run, numbers=tuple(numbers), label=topic.label
    )


def _slot(now_s: float, plan: RecordingPlan) -> int:
    return int(now_s // plan.every_s) * plan.every_s
