"""Who has our model already: a peer gets it once, until it changes.

A Poisson clock says when to send and draws whom with replacement (Algorithm 1 of the scale-robust paper); between two
changes of the model it would therefore often draw somebody who has it, and a model that comes again says nothing new.
So targets are drawn among those who lack it, and where nobody does nothing is sent.

A peer *has* a model that was sent to it in its present session, and over our present connection: with another one
either may have lost it. And after `AGAIN_HEARTBEATS` it goes again all the same, since nobody says that an update was
read: half an hour, so that members of a finished task are quiet.

Sleep, its own or the receiver's, takes nothing from a peer: what it had is counted from the session in which its life
began (`Peer.life`). Only what was sent just before may have come too late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.rest import MOVES
from grapevine_agent.core.learning.traces import Trace, has_moved, trace_of

AGAIN_HEARTBEATS: Final = 360
DOUBT_HEARTBEATS: Final = 3  # what was sent so shortly before a sleep may still have been on its way
MAX_REMEMBERED: Final = 5_000  # receivers: as many as an agent knows peers


@dataclass(frozen=True, slots=True)
class _Sending:
    number: int  # of the model
    session: int  # of the receiver, in which its life began
    at_s: float  # monotonic


@dataclass(kw_only=True)
class Told:
    """See the module's docstring, of one task."""

    heartbeat_s: float
    counts_windows: bool  # an update tells what was learned in its window, and not only the model
    _number: int = 0  # counts the models that are told apart
    _model: tuple[Trace, Trace, int, int] | None = None  # parameters, buffers, version, window of the newest of them
    _sent: dict[str, _Sending] = field(default_factory=dict)  # receiver → what it got last

    def sent(self, model: ModelState, receiver: str, session: int, now_s: float) -> None:
        """The model goes to a receiver, whose session this is."""
        self._sent.pop(receiver, None)
        self._sent[receiver] = _Sending(self._number_of(model), session, now_s)
        if len(self._sent) > MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]  # whom we sent to longest ago

    def lacking(self, model: ModelState, peers: Iterable[tuple[str, int]], now_s: float) -> list[str]:
        """Those of some peers, each with its session, who do not have the model, in their order."""
        number, since_s, sent = self._number_of(model), now_s - AGAIN_HEARTBEATS * self.heartbeat_s, self._sent
        found = []
        for peer, session in peers:
            last = sent.get(peer)
            if last is None or last.number != number or last.session != session or last.at_s < since_s:
                found.append(peer)
        return found

    def not_sent(self, receiver: str) -> None:
        """What went to a receiver has not left."""
        self._sent.pop(receiver, None)

    def doubt(self, now_s: float, receiver: str = "") -> None:
        """A receiver falls asleep, or we do, and what is under way to it may be lost; "": to whomever."""
        since_s = now_s - DOUBT_HEARTBEATS * self.heartbeat_s
        for peer in [receiver] if receiver else list(self._sent):
            if peer in self._sent and self._sent[peer].at_s > since_s:
                del self._sent[peer]

    def forget(self) -> None:
        """What was under way may be lost."""
        self._sent.clear()

    def _number_of(self, model: ModelState) -> int:
        """The model's number: a new one if it was trained, opened a window, or merges have moved it."""
        if self._model is None or self._has_changed(*self._model, model):
            self._number += 1
            self._model = (trace_of(model.parameters), trace_of(model.buffers), model.version, model.window)
        return self._number

    def _has_changed(self, parameters: Trace, buffers: Trace, version: int, window: int, model: ModelState) -> bool:
        return (
            version != model.version
            or (self.counts_windows and window != model.window)
            or has_moved(parameters, model.parameters, MOVES)
            or has_moved(buffers, model.buffers, MOVES)
        )
