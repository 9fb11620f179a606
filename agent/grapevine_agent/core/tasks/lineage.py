"""Versions of a task: which task continues which, and what its members bring along.

A manifest names its parent. It continues the parent only if the parent's own publisher says so, with a
higher version; anybody else's "child" is a task like any other, which begins from its initial weights
and replaces nothing. See docs/decisions/0028-revisions.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grapevine_agent.core.tasks.task_book import TaskEntry
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.layout import ModelLayout

MAX_GENERATIONS = 100  # a chain of versions that is looked at; honest ones are shorter


def ancestors(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> Iterator[TaskEntry]:
    """The versions before this one that are known here, nearest first."""
    for _ in range(MAX_GENERATIONS):
        parent = entries.get(entry.manifest.parent)
        if parent is None or not continues(entry.manifest, parent.manifest):
            return
        yield parent
        entry = parent


def descendants(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> list[TaskEntry]:
    """The versions after this one that are known here, the newest first."""
    found = [
        other
        for other in entries.values()
        if other.manifest.parent and any(each.id == entry.id for each in ancestors(other, entries))
    ]
    return sorted(found, key=lambda other: (other.manifest.version, other.manifest.created_at_ms), reverse=True)


def continues(child: TaskManifest, parent: TaskManifest) -> bool:
    """Whether `child` is a later version of `parent`, by the publisher whose task it is."""
    return child.publisher == parent.publisher and child.version > parent.version


def donors(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> tuple[str, ...]:
    """The earlier versions whose models fit this one's program as they are, nearest first."""
    if not entry.manifest.parent:
        return ()
    layout = ModelLayout.of(entry.manifest.program)
    return tuple(each.id for each in ancestors(entry, entries) if ModelLayout.of(each.manifest.program) == layout)


def steps_before(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> int:
    """The optimiser steps that a model can have brought along from earlier versions (twice their pace).

    Without it an honest age would look like a lie on the first day of a new version.
    """
    steps, until_ms = 0, entry.manifest.created_at_ms
    fitting = set(donors(entry, entries))
    for each in ancestors(entry, entries):
        if each.id in fitting:
            plan = each.manifest.training
            elapsed_s = max(0, until_ms - each.manifest.created_at_ms) / 1000
            steps += int(plan.steps_per_round * (1 + 2 * elapsed_s / plan.round_interval_s))
        until_ms = each.manifest.created_at_ms
    return steps
