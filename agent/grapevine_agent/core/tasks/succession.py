"""Which of the tasks that may be joined come after which: kept up to date, so that no judgement walks the book.

A task is *followed* while somebody whom the owner trusts has spoken of it (or nobody needs to), and *willing* while
nothing of its own is in the way of taking part. For each followed task the chain of versions before it is known here,
and for each task the willing ones after it. What a chain lacks is known as well: when the missing version is heard of,
the chains that end there are made anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.lineage import ancestors


@dataclass
class Succession:
    """See the module's docstring. `entries` is the book's own."""

    entries: Mapping[str, TaskEntry]
    _before: dict[str, tuple[str, ...]] = field(default_factory=dict)  # followed → its ancestors, nearest first
    _after: dict[str, dict[str, None]] = field(default_factory=dict)  # task → the followed ones after it
    _willing: set[str] = field(default_factory=set)
    _willing_after: dict[str, dict[str, None]] = field(default_factory=dict)  # task → the willing ones after it
    _lacks: dict[str, str] = field(default_factory=dict)  # followed → the parent that its chain ends at
    _lacking: dict[str, dict[str, None]] = field(default_factory=dict)  # missing parent → whose chains end there

    def follow(self, task: str) -> None:
        """From now on a task is followed."""
        if task not in self._before:
            self._link(task)

    def follows(self, task: str) -> bool:
        """Whether a task is followed."""
        return task in self._before

    def leave(self, task: str) -> None:
        """A task is followed no more."""
        self.set_willing(task, False)
        self._unlink(task)

    def is_willing(self, task: str) -> bool:
        """Whether nothing of its own was in the way of taking part in a task when it was last judged."""
        return task in self._willing

    def set_willing(self, task: str, willing: bool) -> tuple[str, ...]:
        """Note it of a followed task. Returns the versions before it if that is news: they may have to give way."""
        if willing == (task in self._willing):
            return ()
        if willing:
            self._willing.add(task)
        else:
            self._willing.discard(task)
        for earlier in self._before[task]:
            if willing:
                self._willing_after.setdefault(earlier, {})[task] = None
            else:
                _discard(self._willing_after, earlier, task)
        return self._before[task]

    def has_followers(self, task: str) -> bool:
        """Whether a followed task comes after this one."""
        return task in self._after

    def willing_after(self, task: str) -> Collection[str]:
        """The willing tasks that come after this one."""
        return self._willing_after.get(task, ())

    def _unlink(self, task: str) -> None:
        for earlier in self._before.pop(task, ()):
            _discard(self._after, earlier, task)
            if task in self._willing:
                _discard(self._willing_after, earlier, task)
        if (missing := self._lacks.pop(task, None)) is not None:
            _discard(self._lacking, missing, task)

    def before(self, task: str) -> tuple[str, ...]:
        """The versions before a followed task, nearest first."""
        return self._before.get(task, ())

    def arrived(self, task: str) -> tuple[str, ...]:
        """A task is known now. Returns whom that may concern: chains that ended at it go on."""
        return self._relink(tuple(self._lacking.get(task, ())))

    def gone(self, task: str) -> tuple[str, ...]:
        """A task, which is out of `entries` by now, is known no more. Returns whom that may concern."""
        before = self.before(task)
        self.leave(task)
        return (*before, *self._relink(tuple(self._after.get(task, ()))))

    def _relink(self, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """Make chains anew. Returns whom that concerns, and whom it concerned before."""
        concerned = dict.fromkeys(tasks)
        for task in tasks:
            concerned |= dict.fromkeys(self._before[task])
            self._unlink(task)
            self._link(task)
            concerned |= dict.fromkeys(self._before[task])
        return tuple(concerned)

    def _link(self, task: str) -> None:
        chain = [self.entries[task], *ancestors(self.entries[task], self.entries)]
        self._before[task] = tuple(each.id for each in chain[1:])
        for earlier in self._before[task]:
            self._after.setdefault(earlier, {})[task] = None
            if task in self._willing:
                self._willing_after.setdefault(earlier, {})[task] = None
        missing = chain[-1].brief.parent
        if missing and missing not in self.entries:
            self._lacks[task] = missing
            self._lacking.setdefault(missing, {})[task] = None


def _discard(index: dict[str, dict[str, None]], key: str, value: str) -> None:
    held = index[key]
    held.pop(value, None)
    if not held:
        del index[key]
