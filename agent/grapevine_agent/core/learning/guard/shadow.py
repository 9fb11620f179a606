"""How a sender's model does on the samples that this device holds out itself, and whether that tells anything of it.

Where a model stands says nothing of what it has learned: one that was trained on wrong labels is within the crowd. On
one's own held-out samples it does badly. But so does an honest one, wherever its sender has never seen what we
have: of digits with four classes each, honest models without ours do as badly as those of label flippers. So a sender
is held against the *others* here, too: what it comes to must be out of all proportion to what they do.

    heard, and sometimes measured ──much worse than the others'──▶ doubted ──so again──▶ quarantined, then doubted again
        ▲                                                             │
        └───────────────────────one that does well────────────────────┘

While a sender is doubted its updates are measured and not merged. Measuring takes `SHARE` of what training takes at
most, and only while there is training; the doubted are measured first, and those whose last was longest ago. Losses are
held against those of the `NEWEST` other senders that were measured, since all of them fall; as logarithms, whose
deviation is small where all have the same sort of samples, and large where they have not, and then hardly anybody is
called bad. It takes `LEAST` senders to tell, and `LEAST_SAMPLES` held-out samples; with fewer nothing is measured for a
while.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Final

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.guard.crowd import AS_DEVIATION, MOST
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

SHARE: Final = 0.25
A_STEP: Final = 3.0  # a sample takes as much longer in training: forwards, backwards, and the step
AT_ONCE: Final = 4  # models that wait to be measured, and one alone of those that take more than a quarter of
HELD_BYTES: Final = 16_000_000
NEWEST: Final = 8
LEAST: Final = 5  # other senders whose models were measured
LEAST_SAMPLES: Final = 10
JUMP: Final = 2.0  # times the others' loss, at least
FEW: Final = 3.0  # of their deviations above it
WORSE: Final = 0.1  # of their metric
PATIENCE: Final = 5  # rounds: a trainer that was stopped never answers
PAUSE: Final = 20  # rounds, where there are too few samples
LATELY: Final = 10  # rounds: who was not heard for longer has no turn
SMALLEST: Final = 1e-6  # loss


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a sender's newest measured model came to."""

    loss: float
    metric: float


@dataclass
class _Turn:
    """When a sender's model was last given to be measured, and when it was last heard."""

    number: int = 0  # of all that were; 0: never
    round: int = 0


@dataclass(kw_only=True)
class Shadow:
    """See the module's docstring, of one task."""

    task: str
    higher_is_better: bool
    is_on: bool = True
    num_parameters: int = 0
    _seen: OrderedDict[str, _Seen] = field(default_factory=OrderedDict)  # the newest last
    _doubted: dict[str, str] = field(default_factory=dict)  # what its last model came to
    _turns: dict[str, _Turn] = field(default_factory=dict)  # of those that were heard lately
    _num_asked: int = 0
    _num_samples: int = 0  # that a model is measured on; 0: nobody knows yet
    _credit: float = 0.0  # samples that may be evaluated
    _asked: dict[str, int] = field(default_factory=dict)  # whose model is being measured, since which round
    _from_round: int = 0
    _to_ask: list[Evaluate] = field(default_factory=list)

    @property
    def at_once(self) -> int:
        """How many models may wait to be measured."""
        return max(1, min(AT_ONCE, HELD_BYTES // max(1, 4 * self.num_parameters)))

    def turn(self, *, is_on: bool) -> None:
        """From now on models are measured, or none is: then nobody is doubted."""
        self.is_on = is_on
        if not is_on:
            self._credit = 0.0
            self._doubted.clear()
            self._to_ask.clear()

    def trained(self, num_samples: int, round_: int) -> None:
        """So many samples went into the training of this round: more models may be measured."""
        self._asked = {sender: since for sender, since in self._asked.items() if round_ < since + PATIENCE}
        self._turns = {sender: turn for sender, turn in self._turns.items() if round_ < turn.round + LATELY}
        if self.is_on and round_ >= self._from_round:
            most = self.at_once * max(1, self._num_samples)
            self._credit = min(most, self._credit + SHARE * A_STEP * num_samples)

    def check(self, sender: str, parameters: Vector, buffers: Vector, round_: int) -> None:
        """A model of a sender, float32 [p] and [b], could be merged: perhaps it is measured.

        Raises `WireError` where its sender is doubted.
        """
        turn = self._turns.setdefault(sender, _Turn())
        turn.round = round_
        if self._has_time(sender) and sender not in self._asked and self._is_due(sender, turn):
            self._credit -= self._num_samples
            self._num_asked += 1
            self._asked[sender], turn.number = round_, self._num_asked
            asked = Evaluate(
                task=self.task, round=round_, parameters=parameters, buffers=buffers, which="shadow", sender=sender
            )
            self._to_ask.append(asked)
        if sender in self._doubted:
            raise WireError("does-badly", f"{sender} is not believed for now: {self._doubted[sender]}")

    @property
    def is_due(self) -> bool:
        """Whether there is something to ask."""
        return bool(self._to_ask)

    def take_asked(self) -> list[Evaluate]:
        """What is to be measured, since this was last asked."""
        asked, self._to_ask = self._to_ask, []
        return asked

    def _has_time(self, sender: str) -> bool:
        """Whether there is time to measure a model of a sender; the last time is kept for who is doubted."""
        at_once, num = (self.at_once, 1) if self._num_samples else (1, 0)
        num += sender not in self._doubted and any(each not in self._asked for each in self._doubted)
        return 0 < self._credit >= num * self._num_samples and len(self._asked) < at_once

    def _is_due(self, sender: str, turn: _Turn) -> bool:
        """Whether it is among those whose turn was longest ago: every second time among half of all.

        Were it always so, the first to speak in each round would take all turns; were it never so, the longest
        silent one would be waited for.
        """
        if sender in self._doubted:
            return True
        num = int(self._credit // self._num_samples) if self._num_samples else 1
        if self._num_asked % 2:
            num = max(num, (len(self._turns) + 1) // 2)
        return sum(each.number < turn.number for each in self._turns.values()) < num

    def measured(self, evaluation: Evaluated) -> str:
        """A model was measured. Returns why its sender is not to be listened to; empty: it is."""
        asked = evaluation.of
        if asked is None:
            return ""
        self._asked.pop(asked.sender, None)
        if not self.is_on or evaluation.error or evaluation.loss is None or evaluation.metric is None:
            return ""
        self._num_samples = evaluation.num_evaluated
        if evaluation.num_evaluated < LEAST_SAMPLES:
            self._from_round, self._credit = asked.round + PAUSE, 0.0
            return ""
        seen = _Seen(loss=_told(evaluation.loss), metric=evaluation.metric)
        known = (each for each in reversed(self._seen) if each != asked.sender and each not in self._doubted)
        others = [self._seen[each] for each in islice(known, NEWEST)]
        self._seen[asked.sender] = seen
        self._seen.move_to_end(asked.sender)
        if len(self._seen) > MOST:
            self._doubted.pop(self._seen.popitem(last=False)[0], None)
        if not self._is_bad(seen, others):
            self._doubted.pop(asked.sender, None)
            return ""
        usual = median(each.loss for each in others)
        said = f"on samples of this device its models have a loss of {seen.loss:.3g}, those of others {usual:.3g}"
        is_again = asked.sender in self._doubted
        self._doubted[asked.sender] = said
        return said if is_again else ""

    def _is_bad(self, seen: _Seen, others: list[_Seen]) -> bool:
        if len(others) < LEAST:
            return False
        losses = [math.log(each.loss) for each in others]
        usual, metric = median(losses), median(each.metric for each in others)
        deviation = AS_DEVIATION * median([abs(loss - usual) for loss in losses])
        worse = metric - seen.metric if self.higher_is_better else seen.metric - metric
        is_worse = not worse <= WORSE * abs(metric)  # NaN is
        return math.log(seen.loss) > usual + max(math.log(JUMP), FEW * deviation) and is_worse


def _told(loss: float) -> float:
    """A loss that has a logarithm; what is no number is as bad as can be."""
    return min(max(loss, SMALLEST), 1e30) if math.isfinite(loss) else 1e30
