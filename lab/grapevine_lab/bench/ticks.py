"""`task_ticks`: how long an agent's core works in one tick while it knows 10,000 tasks, in the worst of many shapes.

The core runs in this process on a virtual clock: each shape is heard, then sixty seconds pass, tick by tick as the core
asks for them. What could come at once in that time comes at once: all verdicts run out, all records expire. The
longest tick of each shape counts, and of these the longest. Counted is CPU time, so that a busy machine does not
count, and without the garbage collector: what that does depends on what else the process has made.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_lab.bench import floods
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.budgets import Budget
from grapevine_proto.codec import Received
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import TaskTopic

NAME = "task_ticks"
TARGET = Target(limit=20.0, at_most=True)  # ms
NUM_TASKS = 10_000
PER_AUTHOR = 90
PASSES_S = 60.0
SOON_MS = floods.CREATED_MS + 30_000  # what runs out does so half-way
LATER_MS = floods.CREATED_MS + 86_400_000
ME, ADA, BEN, ENGINEER = ("m" * 20, "a" * 20, "b" * 20, "e" * 20)
POLICY = ReviewPolicy(approvals=2, trusted=frozenset((ADA, BEN)))
SETTINGS = CoreSettings(peer=ME, review=POLICY, consent="ask")
EVERYTHING = 2**50


def missing() -> str:
    """Nothing that this needs can be missing."""
    return ""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about two minutes."""
    found: dict[str, float] = {}
    for name, flood in FLOODS.items():
        found[name] = _longest_tick_s(flood())
        say(f"{name}: {found[name] * 1000:.2f} ms")
    worst = max(found, key=lambda name: found[name])
    milliseconds = 1e3
    return [
        figure(
            NAME,
            f"longest tick of a minute, {NUM_TASKS:,} tasks known, worst of {len(FLOODS)} shapes: {worst}",
            [found[worst]],
            unit="ms",
            target=TARGET,
            scale=milliseconds,
        ),
        *(figure(NAME, name, [seconds], unit="ms", scale=milliseconds) for name, seconds in found.items()),
    ]


@dataclass
class Flood:
    """What is heard before time passes, and by whom."""

    records: list[Received]
    settings: CoreSettings = SETTINGS


def peer(number: int) -> str:
    """A stranger's id."""
    return f"p{number:019d}"


def _tasks(shape: str, *, by: str | None = None, expires_at_ms: int = 0) -> list[Received]:
    made = floods.manifests(shape, NUM_TASKS, lambda number: by or peer(number // PER_AUTHOR))
    return [floods.published(author, task, encoded, expires_at_ms=expires_at_ms) for author, task, encoded in made]


def _approved(published: list[Received], until_ms: int = LATER_MS) -> list[Received]:
    return [
        each
        for received in published
        for each in (received, *(floods.reviewed(who, _task_of(received), until_ms=until_ms) for who in (ADA, BEN)))
    ]


def _task_of(received: Received) -> str:
    assert isinstance(received.topic, TaskTopic)
    return received.topic.task


def _unknown_reviewed() -> list[Received]:
    return [floods.reviewed(peer(number // PER_AUTHOR), f"{number:064d}") for number in range(NUM_TASKS)]


def _one_reviewed() -> list[Received]:
    (published,) = _approved(_tasks("alone")[:1])[:1]
    task = _task_of(published)
    return [
        *_approved([published]),
        *(floods.reviewed(peer(number), task, approved=False) for number in range(NUM_TASKS)),
    ]


OPEN = replace(SETTINGS, consent="auto", match_data=lambda _task, _head: "no data", review=POLICY)
FLOODS: dict[str, Callable[[], Flood]] = {
    **{f"strangers' {shape}": lambda shape=shape: Flood(_tasks(shape)) for shape in floods.SHAPES},  # type: ignore[misc]
    "one publisher's star": lambda: Flood(_tasks("star", by=ENGINEER)),
    "an approved task's 10,000 unapproved children": lambda: Flood(
        [*_approved((tasks := _tasks("star", by=ENGINEER))[:1]), *tasks[1:]]
    ),
    "an approved chain": lambda: Flood(_approved(_tasks("chain", by=ENGINEER))),
    "an approved star": lambda: Flood(_approved(_tasks("star", by=ENGINEER))),
    "approved tasks without data here": lambda: Flood(_approved(_tasks("alone")), OPEN),
    "all verdicts run out at once": lambda: Flood(_approved(_tasks("tree", by=ENGINEER), SOON_MS)),
    "all records expire at once": lambda: Flood(_tasks("chain", expires_at_ms=SOON_MS)),
    "reviews of unknown tasks": lambda: Flood(_unknown_reviewed()),
    "reviews of one task by strangers": lambda: Flood(_one_reviewed()),
}


def _longest_tick_s(flood: Flood) -> float:
    """Hear it, let a minute pass, and return the longest tick."""
    room = Budget(most_bytes=EVERYTHING, author_bytes=EVERYTHING)
    records = RecordBook(capacity=10 * NUM_TASKS, tasks_budget=room)
    core = AgentCore(settings=flood.settings, rng=np.random.default_rng(0), records=records)
    now_s, longest_s = 0.0, 0.0

    def moment() -> Moment:
        return Moment(monotonic_s=now_s, wall_ms=floods.CREATED_MS + int(now_s * 1000))

    core.start([], {}, moment())
    for received in flood.records:
        records._num_task_records.clear()  # the shape matters here, not who made it
        core.receive(received, moment())
    gc.collect()
    gc.disable()
    try:
        while (due_s := max(now_s, core.deadline_s())) <= PASSES_S:
            now_s = due_s + 1e-3
            began_s = time.thread_time()
            core.tick(moment())
            core.deadline_s()
            longest_s = max(longest_s, time.thread_time() - began_s)
    finally:
        gc.enable()
    return longest_s
