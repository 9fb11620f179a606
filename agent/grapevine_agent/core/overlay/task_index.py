"""The members of each task, and those of them who may be alive: asked for at every send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grapevine_agent.core.overlay.peer import Peer


@dataclass(kw_only=True)
class TaskIndex:
    """See the module's docstring. Whoever changes a peer says so."""

    peers: Mapping[str, Peer]
    _by_task: dict[str, set[str]] = field(default_factory=dict)  # of members
    _counted: dict[str, list[str]] = field(default_factory=dict)  # sorted; made when it is asked for

    def add(self, known: Peer) -> None:
        """It is a member, or its announcement is another one."""
        for task in known.announcement.tasks if known.is_member else ():
            self._by_task.setdefault(task, set()).add(known.id)
        self.changed(known)

    def remove(self, known: Peer) -> None:
        """It is forgotten, or its announcement will be another one."""
        for task in known.announcement.tasks if known.is_member else ():
            members = self._by_task[task]
            members.discard(known.id)
            if not members:
                del self._by_task[task]
        self.changed(known)

    def changed(self, known: Peer) -> None:
        """It may count now, or no more."""
        for task in known.announcement.tasks:
            self._counted.pop(task, None)

    def counted(self, task: str) -> list[str]:
        """Members of a task who are online and not silent, sorted."""
        counted = self._counted.get(task)
        if counted is None:
            members = self._by_task.get(task, ())
            counted = self._counted[task] = sorted(peer for peer in members if self.peers[peer].is_counted)
        return counted
