"""Which members were of use: whose update of which task was used, and when last."""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.overlay.allowance import Allowance
from grapevine_agent.core.overlay.peer import Peer

REMEMBER_HEARTBEATS = 360  # who was not heard for so long is a stranger again; an update is "lately" for so long


@dataclass(kw_only=True)
class Usefulness:
    """See the module's docstring. Newcomers are taken in at a bounded rate. Times are monotonic seconds."""

    heartbeat_s: float
    _updates: dict[str, dict[str, float]] = field(default_factory=dict)  # task → member → when one was used last
    _num_useful: int = 0

    def __post_init__(self) -> None:
        self._newcomers = Allowance(interval_s=self.heartbeat_s)

    def may_prove(self, known: Peer, now_s: float, *, is_named: bool) -> bool:
        """Whether there is room for it among those who were of use."""
        if not known.updated_s:
            if not is_named and not self._newcomers.take(now_s, self._num_useful):
                return False
            self._num_useful += 1
        return True

    def proved(self, known: Peer, task: str, now_s: float) -> None:
        """An update of it was used."""
        known.updated_s[task] = self._updates.setdefault(task, {})[known.id] = now_s

    def forget(self, known: Peer) -> None:
        """It is of no use any more, for any task."""
        for task in known.updated_s:
            del self._updates[task][known.id]
        self._num_useful -= bool(known.updated_s)
        known.updated_s.clear()

    def forget_before(self, known: Peer, since_s: float) -> None:
        """The same, if it was of none since then."""
        if known.updated_s and max(known.updated_s.values()) < since_s:
            self.forget(known)

    def lately(self, task: str, since_s: float) -> set[str]:
        """Whose updates of a task were used since then."""
        return {peer for peer, at_s in self._updates.get(task, {}).items() if at_s >= since_s}
