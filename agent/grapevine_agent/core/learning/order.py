"""Which of two updates of a sender is the newer one: what comes late, after a newer one, says nothing any more.

Messages of different brokers, and those whose bulk is fetched, overtake each other. An update replaces what was held
of its sender: its window, its base, what waits for the next merge. One that came late would bring back what was
replaced, and a window that was merged and comes again is counted twice.

Newer is what has the higher (session, window, version); within a window a version is sent again whenever the model has
changed, so equals are taken. A peer that has lost its model begins below its old numbers: in a new session, or after
`UNDER_WAY_S` without an update that was taken. Nothing is under way for so long.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from grapevine_proto.errors import WireError
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.sessions import supersedes

UNDER_WAY_S: Final = 300.0
MAX_SENDERS: Final = 256


@dataclass(frozen=True)
class _Newest:
    session: int
    number: tuple[int, int]  # window, version
    at_s: float  # monotonic


@dataclass(kw_only=True)
class Order:
    """The newest update of each sender of a task. See the module's docstring."""

    _newest: OrderedDict[str, _Newest] = field(default_factory=OrderedDict)

    def check(self, sender: str, session: int, update: ModelUpdate, now_s: float, wall_ms: int) -> None:
        """Raise `WireError("old-update")` if a newer one of this sender was taken."""
        newest = self._newest.get(sender)
        if newest is None or now_s - newest.at_s > UNDER_WAY_S:
            return
        if session == newest.session:
            is_old = (update.window, update.version) < newest.number
        else:
            is_old = not supersedes(session, newest.session, wall_ms)
        if is_old:
            number = f"window {update.window}, version {update.version}"
            raise WireError("old-update", f"{number} of {sender}, after {newest.number} in session {newest.session}")

    def took(self, sender: str, session: int, update: ModelUpdate, now_s: float) -> None:
        """An update was taken."""
        self._newest[sender] = _Newest(session, (update.window, update.version), now_s)
        self._newest.move_to_end(sender)
        if len(self._newest) > MAX_SENDERS:
            self._newest.popitem(last=False)
