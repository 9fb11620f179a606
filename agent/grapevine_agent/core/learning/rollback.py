"""Back to the best model, where the released one has become much worse by this device's own held-out samples.

What no check of single updates has found shows in the end: the released model, which moves slowly, loses what it knew.

    evaluation ──its loss `JUMP` times the usual and its metric worse than the best's, `TIMES` in a row──▶
        the best model is measured again, on the samples that are there now ──still so much better──▶ back to it

The samples may have changed instead, and then the best model is as bad as the newest: so it is measured again before
it is believed. After a return the next one is `PAUSE` rounds away at the earliest; what was there before is forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.best import BestModel, Held

JUMP: Final = 2.0  # × the usual loss
WORSE: Final = 0.05  # of the best metric
TIMES: Final = 2
USUAL: Final = 10  # evaluations that the usual loss is the median of
LEAST: Final = 5  # of them, before there is one
PAUSE: Final = 20  # rounds
PATIENCE: Final = 5  # rounds, for the best model to be measured: a busy trainer or one that was stopped may never do it


@dataclass(kw_only=True)
class Rollback:
    """See the module's docstring, of one task."""

    best: BestModel
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))
    _num: int = 0  # evaluations of other samples than these do not compare
    _times: int = 0
    _suspect: Evaluated | None = None  # while the best model is measured again
    _from_round: int = 0

    def look(self, evaluation: Evaluated) -> list[Evaluate]:
        """The released model was evaluated. Returns the best one where it is to be measured again."""
        asked, loss = evaluation.of, evaluation.loss
        if asked is None or evaluation.error or loss is None or not evaluation.num_evaluated:
            return []
        if evaluation.num_evaluated != self._num:
            self._losses.clear()
            self._num, self._times = evaluation.num_evaluated, 0
        if not self._is_jump(evaluation):
            self._losses.append(loss)
            self._times = 0
            return []
        self._times += 1
        held = self.best.held
        if self._times < TIMES or held is None or asked.round < self._from_round or self._is_awaited(asked.round):
            return []
        self._suspect = evaluation
        return [self.best.ask_again(held)]

    def _is_awaited(self, round_: int) -> bool:
        asked = self._suspect.of if self._suspect is not None else None
        return asked is not None and round_ < asked.round + PATIENCE

    def measured_again(self, evaluation: Evaluated) -> Held | None:
        """The best model was measured again. Returns it if this member is to go back to it."""
        suspect, self._suspect = self._suspect, None
        held = self.best.held
        if suspect is None or held is None or evaluation.error or suspect.loss is None or suspect.of is None:
            return None
        if not self._is_worse(suspect) or suspect.loss <= JUMP * held.loss:
            return None
        self._losses.clear()
        self._times, self._from_round = 0, suspect.of.round + PAUSE
        return held

    def _is_jump(self, evaluation: Evaluated) -> bool:
        assert evaluation.loss is not None
        is_jump = len(self._losses) >= LEAST and not evaluation.loss <= JUMP * median(self._losses)
        return is_jump and self._is_worse(evaluation)

    def _is_worse(self, evaluation: Evaluated) -> bool:
        held, metric = self.best.held, evaluation.metric
        return held is not None and metric is not None and self.best.is_better(held.metric, metric, WORSE)
