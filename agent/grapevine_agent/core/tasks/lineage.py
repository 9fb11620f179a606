"""Versions of a task: which task continues which, and what its members bring along.

A manifest names its parent. It continues the parent only if the parent's own publisher says so, with a
higher version; anybody else's "child" is a task like any other, which begins from its initial weights
and replaces nothing. See docs/decisions/0028-revisions.md.

Anybody may publish ten thousand versions of a task of his own. So nothing here walks the book: a task's
ancestors are followed by their names, its descendants by an index of children, and whether something that may
be joined continues a task is kept ready (`Kin`). See docs/decisions/0031-judging-what-changed.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import islice

from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_proto.manifest import ManifestBrief

MAX_GENERATIONS = 100  # a chain of versions that is looked at; honest ones are shorter
MAX_VISITED = 10_000  # tasks that are looked at for the descendants of one
MAX_DESCENDANTS = 100  # that are named

Children = Mapping[str, Mapping[str, None]]  # of each task, known or not: the known tasks that name it as parent


def ancestors(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> Iterator[TaskEntry]:
    """The versions before this one that are known here, nearest first."""
    for _ in range(MAX_GENERATIONS):
        parent = entries.get(entry.brief.parent)
        if parent is None or not continues(entry.brief, parent.brief):
            return
        yield parent
        entry = parent


def descendants(entry: TaskEntry, entries: Mapping[str, TaskEntry], children: Children) -> list[TaskEntry]:
    """The versions after this one that are known here, the newest first: at most `MAX_DESCENDANTS`."""
    found = islice(_after(entry, entries, children), MAX_VISITED)
    return heapq.nlargest(
        MAX_DESCENDANTS, found, key=lambda other: (other.brief.version, other.brief.created_at_ms, other.id)
    )


def _after(entry: TaskEntry, entries: Mapping[str, TaskEntry], children: Children) -> Iterator[TaskEntry]:
    generation = [entry]
    for _ in range(MAX_GENERATIONS):
        following: list[TaskEntry] = []
        for parent in generation:
            for child in (entries[task] for task in children.get(parent.id, ())):
                if continues(child.brief, parent.brief):
                    yield child
                    following.append(child)
        if not following:
            return
        generation = following


def continues(child: ManifestBrief, parent: ManifestBrief) -> bool:
    """Whether `child` is a later version of `parent`, by the publisher whose task it is."""
    return child.publisher == parent.publisher and child.version > parent.version


def donors(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> tuple[str, ...]:
    """The earlier versions whose models fit this one's program as they are, nearest first.

    They fit if parameters and buffers have the same names and shapes, in the same order. A version that begins fresh
    has none, and nobody brings a model past it.
    """
    if entry.brief.fresh:
        return ()
    found = []
    for each in ancestors(entry, entries):
        if each.tensors == entry.tensors:
            found.append(each.id)
        if each.brief.fresh:
            break
    return tuple(found)


def steps_before(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> int:
    """The optimiser steps that a model can have brought along from earlier versions (twice their pace).

    Without it an honest age would look like a lie on the first day of a new version.
    """
    steps, until_ms = 0, entry.brief.created_at_ms
    fitting = set(donors(entry, entries))
    for each in ancestors(entry, entries):
        if each.id in fitting:
            plan = each.head.training
            elapsed_s = max(0, until_ms - each.brief.created_at_ms) / 1000
            steps += int(plan.steps_per_round * (1 + 2 * elapsed_s / plan.round_interval_s))
        until_ms = each.brief.created_at_ms
    return steps
