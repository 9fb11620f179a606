"""How a sender's model does on the samples that this device holds out itself, and whether that tells anything of it.

Where a model stands says nothing of what it has learned: one that was trained on wrong labels is within the crowd. On
one's own held-out samples it does badly. But so does an honest one, wherever its sender has never seen what we
have: of digits with four classes each, honest models without ours do as badly as those of label flippers. So a sender
is held against the *others* here, too: what it comes to must be out of all proportion to what they do.

    heard, and sometimes measured ──bad──▶ doubted ──bad again, of its last `MARKS`──▶ quarantined, then doubted again
        ▲                                     │
        └─────`GOOD` good ones in a row───────┘

*Bad* is a loss more than `JUMP` times the median of the newest one of every other sender, more than `FEW` of their
deviations above it, and a metric that is worse, too. Losses are compared as logarithms: their deviation is small where
all have the same sort of samples, and large where they have not, and then hardly anybody is bad. All count that were
heard in the last `LATELY` rounds, the doubted and the quarantined too, and most of those heard more than once must have
been measured: so what a minority's models come to moves neither median nor deviation far, however often they speak.
And where more than one in `MOST_BAD` would be bad, it is the test that fails: nobody is, and nobody was.

While a sender is doubted its updates are measured and not merged. Whose turn it is, nobody can know: it is drawn, among
those who had none for long, and a newcomer's comes last. What is measured is what is merged, or a good model before
each bad one would do. Measuring takes `SHARE` of what training takes at most, and ends with it. It takes `LEAST` other
senders to tell, and `LEAST_SAMPLES` held-out samples; with fewer nothing is measured for a while. With a hundred
senders and more it takes hundreds of rounds until most have been measured.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.guard.crowd import AS_DEVIATION
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

SHARE: Final = 0.25
A_STEP: Final = 3.0  # a sample takes as much longer in training: forwards, backwards, and the step
AT_ONCE: Final = 4  # models that wait to be measured, and one alone of those that take more than a quarter of
HELD_BYTES: Final = 16_000_000
LEAST: Final = 7  # other senders whose models were measured, and
MEASURED: Final = 2 / 3  # of those who were heard lately, more than `SELDOM` times
SELDOM: Final = 2
LEAST_SAMPLES: Final = 10
JUMP: Final = 2.0
FEW: Final = 3.0
WORSE: Final = 0.1  # of the others' metric
MARKS: Final = 4
GOOD: Final = 2
MOST_BAD: Final = 3
KNOWN: Final = 256  # senders
PATIENCE: Final = 5  # rounds: a trainer that was stopped never answers
PAUSE: Final = 20  # rounds, where there are too few samples, or `ERRORS` in a row
ERRORS: Final = 3
LATELY: Final = 40  # rounds: who was not heard for longer does not count
IN_TURN: Final = 10  # rounds: who was not heard for longer has no turn
A_COIN: Final = 0.5  # of the updates of whose turn it is are measured, where each is merged as it comes
AT_ITS_SIDE: Final = 2  # rounds: so long a doubted sender's turn waits for it to speak
NOTHING: Final = 1e-3  # of the largest usual loss: below it one is as good as another, and
LEAST_LOSS: Final = 1e-4  # below this


def most_waiting(num_numbers: int) -> int:
    """How many models of so many numbers may wait to be measured."""
    return max(1, min(AT_ONCE, HELD_BYTES // max(1, 4 * num_numbers)))


@dataclass
class _Sender:
    """What is known of one that was heard."""

    number: int  # of the measurement that was its last turn, or after which it came
    round: int = 0  # when it was last heard
    times: int = 0  # that it was heard
    loss: float = math.nan  # of its newest measured model; NaN: none was
    metric: float = math.nan
    is_bad: deque[bool] = field(default_factory=lambda: deque(maxlen=MARKS))  # its last ones
    said: str = ""
    is_turned: bool = False  # it was not listened to for what its models came to

    @property
    def is_measured(self) -> bool:
        return not math.isnan(self.loss)

    @property
    def is_doubted(self) -> bool:
        return any(list(self.is_bad)[-GOOD:])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of a sender, or of the test itself."""

    is_doubted: bool = False
    turned: str = ""  # why it is not to be listened to; empty: it is
    freed: list[str] = field(default_factory=list)  # who were not listened to, and are to be


@dataclass(kw_only=True)
class Shadow:
    """See the module's docstring, of one task."""

    task: str
    higher_is_better: bool
    rng: np.random.Generator  # secret
    is_on: bool = True
    num_numbers: int = 0  # of a model
    _senders: OrderedDict[str, _Sender] = field(default_factory=OrderedDict)  # the last heard last
    _num_asked: int = 0
    _kind: int = 0  # of the next turn: see `_is_due`
    _num_errors: int = 0  # in a row
    _num_samples: int = 0  # that a model is measured on; 0: nobody knows yet
    _credit: float = 0.0  # samples that may be evaluated
    _asked: dict[str, int] = field(default_factory=dict)  # whose model is being measured, since which round
    _from_round: int = 0
    _largest: float = 0.0  # usual loss
    _to_ask: list[Evaluate] = field(default_factory=list)

    @property
    def at_once(self) -> int:
        """How many models may wait to be measured."""
        return most_waiting(self.num_numbers)

    def turn(self, *, is_on: bool) -> None:
        """From now on models are measured, or none is: then nobody is doubted."""
        self.is_on = is_on
        if not is_on:
            self.rest()

    def rest(self) -> None:
        """There is no training any more: nothing is measured, and nobody doubted whom no measurement could clear."""
        self._credit = 0.0
        self._to_ask.clear()
        for sender in self._senders.values():
            sender.is_bad.clear()

    def trained(self, num_samples: int, round_: int) -> None:
        """So many samples went into the training of this round: more models may be measured."""
        self._asked = {sender: since for sender, since in self._asked.items() if round_ < since + PATIENCE}
        if self.is_on and round_ >= self._from_round:
            most = (self.at_once + 1) * max(1, self._num_samples)
            self._credit = min(most, self._credit + SHARE * A_STEP * num_samples)

    def check(self, sender: str, parameters: Vector, buffers: Vector, round_: int) -> None:
        """A model of a sender, float32 [p] and [b], has come, and may be merged.

        Raises `WireError` where its sender is doubted; then perhaps it is measured.
        """
        if not self.is_on:
            return
        known = self._senders.setdefault(sender, _Sender(number=self._num_asked))
        known.round, known.times = round_, known.times + 1
        self._senders.move_to_end(sender)
        if len(self._senders) > KNOWN:
            self._forget_one()
        if known.is_doubted:
            self.offer(sender, parameters, buffers, round_)
            raise WireError("does-badly", f"{sender} is not believed for now: {known.said}")

    def offer(
        self, sender: str, parameters: Vector, buffers: Vector, round_: int, *, may_be_another: bool = False
    ) -> None:
        """This model of a sender is merged: perhaps it is measured. `may_be_another`: so may the next be at once."""
        known = self._senders.get(sender)
        if not self.is_on or known is None or sender in self._asked or not self._is_due(known, round_):
            return
        if may_be_another and self.rng.random() >= A_COIN:
            return
        self._credit -= self._num_samples
        self._num_asked += 1
        self._kind = int(self.rng.integers(3))
        self._asked[sender], known.number = round_, self._num_asked
        self._to_ask.append(
            Evaluate(
                task=self.task, round=round_, parameters=parameters, buffers=buffers, which="shadow", sender=sender
            )
        )

    def _forget_one(self) -> None:
        """Of those that were never measured the one that was not heard for longest; of all, where there is none."""
        new = next((sender for sender, each in self._senders.items() if not each.is_measured), "")
        del self._senders[new or next(iter(self._senders))]

    @property
    def is_due(self) -> bool:
        """Whether there is something to ask."""
        return bool(self._to_ask)

    def take_asked(self, *, may_ask: bool) -> list[Evaluate]:
        """What is to be measured, since this was last asked; nothing where the trainer is to have its rest."""
        asked, self._to_ask = self._to_ask, []
        if may_ask:
            return asked
        for each in asked:
            self._asked.pop(each.sender, None)
        self.rest()
        return []

    def _is_due(self, known: _Sender, round_: int) -> bool:
        """Whether there is time for this sender's model, and it is its turn.

        A turn is for whose last was longest ago, for any of half of all, or for the doubted, as is drawn. Were it
        always the second, the first to speak in each round would take all; were it never, the longest silent one would
        be waited for; and many doubted ones would leave no time for others.
        """
        at_once = self.at_once if self._num_samples else 1
        if self._credit <= 0 or self._credit < self._num_samples or len(self._asked) >= at_once:
            return False
        lately = [each for each in self._senders.values() if round_ < each.round + IN_TURN]
        if self._kind == 2 and any(each.is_doubted and round_ < each.round + AT_ITS_SIDE for each in lately):
            return known.is_doubted
        num = min(at_once - len(self._asked), int(self._credit // self._num_samples) if self._num_samples else 1)
        if self._kind == 1:
            num = max(num, (len(lately) + 1) // 2)
        return sum(each.number < known.number for each in lately) < num

    def measured(self, evaluation: Evaluated) -> Verdict:
        """A model was measured: what follows from it."""
        asked = evaluation.of
        known = self._senders.get(asked.sender) if asked is not None else None
        if asked is not None:
            self._asked.pop(asked.sender, None)
        if not self.is_on or asked is None or known is None or self._tells_nothing(evaluation, asked.round):
            return Verdict()
        assert evaluation.loss is not None
        assert evaluation.metric is not None
        loss = evaluation.loss if math.isfinite(evaluation.loss) else math.inf
        worst = -math.inf if self.higher_is_better else math.inf  # a median of what is no number is none
        known.loss = min(max(loss, 0.0), 1e30)
        known.metric = evaluation.metric if math.isfinite(evaluation.metric) else worst
        lately = [each for each in self._senders.values() if asked.round < each.round + LATELY]
        others = [each for each in lately if each is not known and each.is_measured]
        often = sum(each.times > SELDOM for each in lately if each is not known)
        is_known = len(others) >= max(LEAST, MEASURED * often)
        known.is_bad.append(is_known and self._is_bad(known, others))
        if not known.is_bad[-1]:
            return Verdict(is_doubted=known.is_doubted)
        if MOST_BAD * sum(self._is_bad(each, others) for each in (*others, known)) > len(others) + 1:
            return Verdict(freed=self._free_all())
        usual = median(each.loss for each in others)
        known.said = (
            f"on samples of this device its models have a loss of {known.loss:.3g}, those of others {usual:.3g}"
        )
        if sum(known.is_bad) < GOOD:
            return Verdict(is_doubted=True)
        known.is_turned = True
        return Verdict(is_doubted=True, turned=known.said)

    def _free_all(self) -> list[str]:
        """It is the test that fails. Returns those that it has turned away."""
        freed = [sender for sender, each in self._senders.items() if each.is_turned]
        for each in self._senders.values():
            each.is_bad.clear()
            each.is_turned = False
        return freed

    def _tells_nothing(self, evaluation: Evaluated, round_: int) -> bool:
        """Whether an answer says nothing of a model: then there will be fewer questions."""
        self._num_errors = self._num_errors + 1 if evaluation.error else 0
        if evaluation.error:
            if self._num_errors >= ERRORS:
                self._from_round, self._credit, self._num_errors = round_ + PAUSE, 0.0, 0
            return True
        if evaluation.num_evaluated < LEAST_SAMPLES or evaluation.loss is None or evaluation.metric is None:
            self._from_round, self._credit = round_ + PAUSE, 0.0
            return True
        self._num_samples = evaluation.num_evaluated
        return False

    def _is_bad(self, known: _Sender, others: list[_Sender]) -> bool:
        self._largest = max(self._largest, median(each.loss for each in others))
        least = max(NOTHING * self._largest, LEAST_LOSS)
        losses = [math.log(max(each.loss, least)) for each in others]
        usual, metric = median(losses), median(each.metric for each in others)
        deviation = AS_DEVIATION * median([abs(loss - usual) for loss in losses])
        worse = metric - known.metric if self.higher_is_better else known.metric - metric
        is_worse = not worse <= WORSE * abs(metric)  # NaN is
        far = max(math.log(JUMP), FEW * deviation)
        return math.log(max(known.loss, least)) > usual + far and is_worse
