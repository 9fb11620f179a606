"""A finished task comes to rest: when merging moves nothing any more, its members slow down, and wake on news.

    training ─ its rounds are done ▶ merging ─ `QUIET_ROUNDS` rounds that move nothing ▶ at rest
                                        ▲                                                  │
                                        └── a merge moves the model: there is news ────────┘

At rest a member has a round in each heartbeat interval, sends its model to one other member in as long a time, and
evaluates only what has changed, and else now and then for those who watch. A member that trains still, or that comes
late, keeps sending at the task's own pace; what it says moves the others, and that wakes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.traces import Trace, has_moved, trace_of
from grapevine_proto.messages import Vector

QUIET_ROUNDS: Final = 10
MOVES: Final = 1e-5  # of a model's length: what a merge must change it by to be news. Rounding moves it by 1e-7
EVALUATE_MOVES: Final = 1e-3  # of the released model's length: what is worth an evaluation
EVALUATE_ROUNDS: Final = 60  # at rest, for who watches


@dataclass(kw_only=True)
class Rest:
    """See the module's docstring, of one task."""

    heartbeat_s: float
    num_quiet: int = 0  # rounds in a row that moved nothing
    _seen: tuple[Trace, Trace] | None = None  # the model of the last round, once training is over
    _evaluated: Trace | None = None  # the released model that was evaluated last
    _rounds_since: int = 0  # it was evaluated

    @property
    def is_resting(self) -> bool:
        """Whether nothing has happened for so long that the task's own pace is a waste."""
        return self.num_quiet >= QUIET_ROUNDS

    def begin_round(self, model: ModelState, *, trains: bool) -> bool:
        """A round begins, with what was merged until now. Returns whether that was news to a member at rest."""
        if trains:
            self.num_quiet, self._seen = 0, None
            return False
        was_resting = self.is_resting
        moved = self._moved(model)
        self._seen = (trace_of(model.parameters), trace_of(model.buffers))
        self.num_quiet = 0 if moved else self.num_quiet + 1
        return was_resting and moved

    def is_news(self, model: ModelState) -> bool:
        """Whether a merge has moved the model of a member at rest, which then wakes."""
        if not self.is_resting or not self._moved(model):
            return False
        self.num_quiet = 0
        return True

    def _moved(self, model: ModelState) -> bool:
        if self._seen is None:
            return True
        parameters, buffers = self._seen
        return has_moved(parameters, model.parameters, MOVES) or has_moved(buffers, model.buffers, MOVES)

    # --- what follows -----------------------------------------------------------------------------

    def round_interval_s(self, own_s: float) -> float:
        """The time from round to round, where the task's own is `own_s`."""
        return max(own_s, self.heartbeat_s) if self.is_resting else own_s

    @property
    def most_sends_per_s(self) -> float:
        """Sends per second, on average."""
        return 1.0 / self.heartbeat_s if self.is_resting else math.inf

    def few(self, peers: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
        """Those of `peers` that a round's model goes to: all, or at rest one at random."""
        return [peers[int(rng.integers(len(peers)))]] if self.is_resting and len(peers) > 1 else peers

    def evaluates(self, released: Vector) -> bool:
        """Whether the released model of this round is to be evaluated."""
        self._rounds_since += 1
        waits = self.is_resting and self._rounds_since < EVALUATE_ROUNDS
        if waits and self._evaluated is not None and not has_moved(self._evaluated, released, EVALUATE_MOVES):
            return False
        self._evaluated, self._rounds_since = trace_of(released), 0
        return True
