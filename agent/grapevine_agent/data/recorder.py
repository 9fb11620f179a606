"""Live MQTT topics, recorded while the agent runs.

    message ─▶ hear: limits ─▶ readings ─▶ a slot of its series ─(slot over)▶ rows ─(every 30 s)▶ Recordings

Each series has a grid of slots, `every_s` long. A slot's row takes, of each column, the last reading (or their
mean) in the slot, or the one before it for as long as `hold_s`: sensors often speak only when something changes.
A row is written once every column has a reading, so rows have no gaps; when a column was silent for `hold_s`, its
sensor says that it has no reading any more, or the agent did not run, the next row begins a new run.

What a series is, `series_of` says:

    one topic for all columns      its name; or all topics are one series (`devices = "merged"`)
    topics of the columns' own     the levels that stand for `+`, joined with slashes: home/+/temperature and
                                   home/+/humidity make one series of each room; without a `+` there is one

Messages have the time at which they come. Retained ones are ignored: nobody knows how old they are. Whatever
else is wrong with one is counted under a reason and changes nothing. `Recorder` is pure: time comes in as an
argument, rows go out. Why there are none, `silence.py` says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from paho.mqtt.client import topic_matches_sub

from grapevine_agent.data.readings import Gone, Reader, Reading, Useless, parse, readers
from grapevine_agent.data.recordings import MERGED, Row
from grapevine_agent.data.source import DataSource, RecordingPlan

FLUSH_S = 30.0  # between two writes: an SD card wears out by the write
MAX_PAYLOAD = 65_536
MAX_TOPICS = 256  # series of one source
MAX_PER_SLOT = 10_000  # readings of one source in a slot; a flood is not averaged
_MAX_BACKLOG_SLOTS = 1_000  # rows that are held on to at once, after a machine slept
_OLDEST_CLOCK_S = 1_704_067_200  # 2024: a board without a clock battery starts in 1970, until it has asked for the time
_NEVER: Final = -math.inf
NO_JSON: Final = Useless("no JSON")
TOO_LARGE: Final = Useless(f"longer than {MAX_PAYLOAD:,} bytes")


@dataclass
class Tally:
    """What became of the messages that a column could have been in."""

    num: int = 0  # that were looked at
    num_read: int = 0
    num_retained: int = 0
    num_early: int = 0  # before the clock was set
    topic: str = ""  # of the last without a reading
    why: str = ""  # it had none
    is_gone: bool = False  # the last said that there is no reading

    def add(self, topic: str, found: Reading | Gone | Useless) -> None:
        """One more."""
        self.num += 1
        if isinstance(found, Reading):
            self.num_read += 1
            self.is_gone = False
            return
        self.topic = topic
        self.why = found.said if isinstance(found, Gone) else found.why
        self.is_gone = isinstance(found, Gone)


@dataclass
class Column:
    """A column of one series."""

    last: float | str = math.nan  # of the target a text
    at_s: float = _NEVER  # of the last reading; never, too, once the sensor said that it has none
    total: float = 0.0
    count: int = 0  # of readings in the slot
    heard: Tally = field(default_factory=Tally)  # of this series

    def take(self, value: float | str, now_s: float) -> None:
        """A reading has come."""
        self.last, self.at_s = value, now_s
        if isinstance(value, float):
            self.total, self.count = self.total + value, self.count + 1

    def lose(self) -> None:
        """The sensor has none any more."""
        self.at_s, self.total, self.count = _NEVER, 0.0, 0


@dataclass
class Series:
    """One series' open slot, and what it held before. The target, if there is one, is the last column."""

    columns: list[Column]
    slot: int
    heard_s: float = _NEVER
    run: int | None = None
    written: int | None = None  # the last slot that became a row


@dataclass
class SourceRecording:
    """What is recorded of one source."""

    source: DataSource
    plan: RecordingPlan
    readers: list[Reader]
    filters: list[str]  # of each reader
    tallies: list[Tally]  # of each reader, over all series
    series: dict[str, Series] = field(default_factory=dict)
    num_in_slot: int = 0
    slot: int = 0
    num_rows: int = 0  # since the agent started

    @staticmethod
    def of(source: DataSource) -> SourceRecording:
        """Nothing yet of a source that has a plan."""
        plan = source.recording
        assert plan is not None
        found = readers(source)
        return SourceRecording(
            source=source,
            plan=plan,
            readers=found,
            filters=[reader.plan.topic or plan.topic for reader in found],
            tallies=[Tally() for _ in found],
        )

    def places(self, topic: str) -> list[int]:
        """The readers that a message on this topic is for."""
        matches = {each: topic_matches_sub(each, topic) for each in set(self.filters)}
        return [place for place, each in enumerate(self.filters) if matches[each]]


class Recorder:
    """See the module's docstring.

    Args:
        sources: Those with a recording plan are recorded.
        latest: Of each source, the newest slot and run of each series on disk.
    """

    def __init__(
        self, sources: Sequence[DataSource], latest: dict[str, dict[str, tuple[int, int]]] | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()  # messages, by what became of them
        self._latest = latest or {}
        self.recordings = [SourceRecording.of(source) for source in sources if source.recording is not None]
        filters = [each for recording in self.recordings for each in recording.filters]
        self.filters: Final = list(dict.fromkeys(filters))  # what to subscribe to

    @property
    def sources(self) -> list[DataSource]:
        """What is recorded."""
        return [recording.source for recording in self.recordings]

    def takes(self, topic: str) -> bool:
        """Whether a message on this topic is for us."""
        return any(topic_matches_sub(each, topic) for each in self.filters)

    def hear(self, topic: str, payload: bytes | memoryview, now_s: float, *, retained: bool) -> list[Row]:
        """Take a message that came at `now_s` (Unix time); rows of slots that are over. Never raises."""
        reason = "retained" if retained else "large" if len(payload) > MAX_PAYLOAD else ""
        reason = reason or ("clock" if now_s < _OLDEST_CLOCK_S else "")
        if reason:
            self.counts[reason] += 1
        rows: list[Row] = []
        for recording in self.recordings:
            if not (places := recording.places(topic)):
                continue
            if reason:
                _count_ignored(recording, places, topic, reason)
            else:
                rows += self._take(recording, places, topic, bytes(payload), now_s)
        return rows

    def tick(self, now_s: float) -> list[Row]:
        """Rows of slots that are over by now."""
        rows: list[Row] = []
        if now_s < _OLDEST_CLOCK_S:
            return rows
        for recording in self.recordings:
            for name, series in recording.series.items():
                rows += _advance(recording, name, series, _slot(now_s, recording.plan))
        return rows

    def _take(
        self, recording: SourceRecording, places: list[int], topic: str, payload: bytes, now_s: float
    ) -> list[Row]:
        slot = _slot(now_s, recording.plan)
        if slot != recording.slot:
            recording.slot, recording.num_in_slot = slot, 0
        recording.num_in_slot += 1
        if recording.num_in_slot > MAX_PER_SLOT:
            self.counts["flood"] += 1
            return []
        found = _read(recording, places, payload)
        for place, each in found.items():
            recording.tallies[place].add(topic, each)
        outcome = _outcome(list(found.values()))
        name = series_of(recording, places[0], topic)
        series = self._series(recording, name, slot, makes=outcome == "recorded")
        if series is None:
            self.counts["too many topics" if outcome == "recorded" else outcome] += 1
            return []
        self.counts[outcome] += 1
        rows = _advance(recording, name, series, slot)
        for place, each in found.items():
            column = series.columns[place]
            column.heard.add(topic, each)
            if isinstance(each, Reading):
                column.take(each.value, now_s)
            elif isinstance(each, Gone):
                column.lose()
        if outcome in ("recorded", "gone"):
            series.heard_s = now_s
        return rows

    def _series(self, recording: SourceRecording, name: str, slot: int, *, makes: bool) -> Series | None:
        """The series of this name; `makes` one that is not there yet, while there is room."""
        series = recording.series.get(name)
        if series is None and makes and len(recording.series) < MAX_TOPICS:
            series = recording.series[name] = Series(columns=[Column() for _ in recording.readers], slot=slot)
            latest = self._latest.get(recording.source.name, {}).get(name)
            if latest is not None:
                series.written, series.run = latest
        return series


def series_of(recording: SourceRecording, place: int, topic: str) -> str:
    """The name of the series that a reader's message on `topic` belongs to."""
    plan = recording.plan
    if plan.devices == "merged":
        return MERGED
    if not has_own_topics(plan):
        return topic
    levels = zip(recording.filters[place].split("/"), topic.split("/"), strict=False)
    return "/".join(level for wanted, level in levels if wanted == "+")


def has_own_topics(plan: RecordingPlan) -> bool:
    """Whether a column or the target has a topic of its own."""
    return any(each.topic for each in (*plan.columns, *([plan.target] if plan.target is not None else [])))


def _read(recording: SourceRecording, places: list[int], payload: bytes) -> dict[int, Reading | Gone | Useless]:
    """What a payload says of each of these readers' columns."""
    try:
        message, is_json = parse(payload)
    except ValueError:
        return dict.fromkeys(places, NO_JSON)
    found = {place: recording.readers[place].read(message) for place in places}
    if is_json:
        return found
    # A bare text is a whole reading, or takes all readings back; nothing lies at a path inside of it.
    return {
        place: NO_JSON if recording.readers[place].path and isinstance(each, Useless) else each
        for place, each in found.items()
    }


def _outcome(found: list[Reading | Gone | Useless]) -> str:
    """Under which word a message is counted."""
    if any(isinstance(each, Reading) for each in found):
        return "recorded"
    if any(isinstance(each, Gone) for each in found):
        return "gone"
    return "no JSON" if all(each is NO_JSON for each in found) else "no reading"


def _count_ignored(recording: SourceRecording, places: list[int], topic: str, reason: str) -> None:
    for place in places:
        tally = recording.tallies[place]
        if reason == "retained":
            tally.num_retained += 1
        elif reason == "clock":
            tally.num_early += 1
        else:
            tally.add(topic, TOO_LARGE)


def _advance(recording: SourceRecording, name: str, series: Series, slot: int) -> list[Row]:
    """Close the open slot and those after it, up to `slot`, which is the open one then."""
    plan = recording.plan
    rows: list[Row] = []
    if slot < series.slot:  # the clock was put back: what was written since is written over
        series.slot, series.run, series.written = slot, None, None
        for column in series.columns:
            column.at_s = min(column.at_s, slot)
        series.heard_s = min(series.heard_s, slot)
    first = max(series.slot, slot - plan.every_s * _MAX_BACKLOG_SLOTS)
    for each in range(first, slot, plan.every_s):
        row = _close(recording, name, series, each)
        if row is not None:
            rows.append(row)
        for column in series.columns:
            column.total, column.count = 0.0, 0
        if each - series.heard_s > plan.hold_s:
            break
    series.slot = slot
    recording.num_rows += len(rows)
    return rows


def _close(recording: SourceRecording, name: str, series: Series, slot: int) -> Row | None:
    plan = recording.plan
    if not all(is_held(column, plan, slot + plan.every_s) for column in series.columns):
        return None
    numbers: list[float] = []
    label: str | None = None
    for column in series.columns:
        if isinstance(column.last, str):
            label = column.last
        else:
            has_mean = plan.resample == "mean" and column.count
            numbers.append(column.total / column.count if has_mean else column.last)
    if series.run is None or series.written is None or slot - series.written != plan.every_s:
        series.run = slot
    series.written = slot
    return Row(source=recording.source.name, topic=name, slot=slot, run=series.run, numbers=tuple(numbers), label=label)


def is_held(column: Column, plan: RecordingPlan, now_s: float) -> bool:
    """Whether a column's last reading still counts."""
    return now_s - column.at_s <= max(plan.hold_s, plan.every_s)


def _slot(now_s: float, plan: RecordingPlan) -> int:
    return int(now_s // plan.every_s) * plan.every_s
