"""Which tasks are to be judged: those that something has changed for, and those that time alone changes.

    something was said ▶ mark ─▶ the queue ─▶ take ▶ judged
    time               ▶ due  ─▶ a heap ────▶ ripen ─▶ the queue

Nothing is in here twice, and the queue is taken in the order in which it was marked.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Docket:
    """See the module's docstring. Times are unix milliseconds."""

    _marked: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _due: dict[str, int] = field(default_factory=dict)
    _heap: list[tuple[int, str]] = field(default_factory=list)  # entries may be out of date

    def __len__(self) -> int:
        """How many tasks wait to be judged."""
        return len(self._marked)

    def __contains__(self, task: str) -> bool:
        """Whether a task waits to be judged."""
        return task in self._marked

    def mark(self, task: str) -> None:
        """A task is to be judged soon. It keeps its place if it waits already."""
        self._marked[task] = None

    def mark_each(self, tasks: Iterable[str]) -> None:
        """The same for many tasks, each of them once."""
        self._marked.update(dict.fromkeys(tasks))

    def take(self) -> str:
        """The task that is to be judged next."""
        return self._marked.popitem(last=False)[0]

    def judged(self, task: str, changes_at_ms: int) -> None:
        """A task was judged, and time alone changes that at `changes_at_ms`; 0: never."""
        self._marked.pop(task, None)
        if not changes_at_ms:
            self._due.pop(task, None)
        elif self._due.get(task) != changes_at_ms:
            self._due[task] = changes_at_ms
            heapq.heappush(self._heap, (changes_at_ms, task))
            if len(self._heap) > 2 * len(self._due) + 64:
                self._heap = [(at_ms, each) for each, at_ms in self._due.items()]
                heapq.heapify(self._heap)

    def drop(self, task: str) -> None:
        """A task is not judged any more."""
        self._marked.pop(task, None)
        self._due.pop(task, None)

    def due_ms(self, task: str) -> float:
        """When time alone changes what is made of a task."""
        return self._due.get(task, math.inf)

    def next_ms(self) -> float:
        """When time alone changes what is made of any task."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def ripen(self, wall_ms: int, at_most: int) -> None:
        """Mark the tasks that time has changed, `at_most` so many."""
        for _ in range(at_most):
            if self.next_ms() > wall_ms:
                return
            at_ms, task = heapq.heappop(self._heap)
            if self._due[task] == at_ms:
                del self._due[task]
            self.mark(task)
