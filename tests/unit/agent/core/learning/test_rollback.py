"""Back to the best model where the newest one has become much worse, and only then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.best import BestModel, Held
from grapevine_agent.core.learning.rollback import PAUSE, TIMES, Rollback


def evaluated(
    round_: int, loss: float | None, num: int = 20, *, which: Any = "released", error: str = ""
) -> fx.Evaluated:
    asked = fx.Evaluate(
        task="t",
        round=round_,
        parameters=np.full(3, round_, np.float32),
        buffers=np.empty(0, np.float32),
        age=10 * round_,
        steps=10 * round_,
        version=round_,
        which=which,
    )
    metric = None if loss is None else 1 / (1 + loss)
    return fx.Evaluated(task="t", round=round_, loss=loss, metric=metric, num_evaluated=num, of=asked, error=error)


class Member:
    """A member's best model and its rollback, with evaluations that are told in turn."""

    def __init__(self) -> None:
        self.best = BestModel(task="t", higher_is_better=True)
        self.rollback = Rollback(best=self.best)
        self.round = 0

    def hears(self, loss: float | None, *, now: float | None = None, num: int = 20, error: str = "") -> Held | None:
        """The released model has this loss; asked for it again, the best one has the loss `now`, as before if None."""
        self.round += 1
        evaluation = evaluated(self.round, loss, num, error=error)
        asked = [] if error else self.best.judge(evaluation, dict)
        asked = asked or self.rollback.look(evaluation)
        for again in asked:
            assert self.best.held is not None
            assert again.which == "best"
            measured = evaluated(again.round, self.best.held.loss if now is None else now, num, which="best")
            self.best.judge(measured, dict)
            return self.rollback.measured_again(measured)
        return None


@pytest.fixture
def member() -> Member:
    member = Member()
    for loss in (1.0, 0.8, 0.6, 0.5, 0.4, 0.35, 0.3):
        assert member.hears(loss) is None
    return member


def test_a_model_that_has_become_much_worse_gives_way_to_the_best(member: Member) -> None:
    assert member.hears(2.0) is None
    back = member.hears(2.0)
    assert back is not None
    assert back.asked.round == 7


def test_one_bad_evaluation_is_not_enough(member: Member) -> None:
    for loss in (2.0, 0.3) * 8:
        assert member.hears(loss) is None


def test_a_model_that_is_a_little_worse_stays(member: Member) -> None:
    assert [member.hears(0.55) for _ in range(20)] == [None] * 20


def test_where_the_samples_have_changed_the_best_is_as_bad_and_nothing_is_rolled_back(member: Member) -> None:
    assert [member.hears(2.0, now=1.9) for _ in range(20)] == [None] * 20


def test_where_the_number_of_samples_has_changed_the_usual_is_learned_anew(member: Member) -> None:
    assert [member.hears(2.0, now=2.0, num=40) for _ in range(20)] == [None] * 20


def test_after_a_return_the_next_one_waits(member: Member) -> None:
    returns = [member.round for _ in range(80) if member.hears(0.3 if member.round % 30 < 12 else 3.0) is not None]
    assert len(returns) > 1
    assert min(np.diff(returns)) >= PAUSE


@pytest.mark.parametrize("num_before", range(TIMES + 2))
def test_at_the_beginning_there_is_no_usual(num_before: int) -> None:
    member = Member()
    for _ in range(num_before):
        member.hears(0.5)
    assert [member.hears(5.0) for _ in range(TIMES)] == [None] * TIMES


def test_what_was_not_measured_says_nothing(member: Member) -> None:
    assert [member.hears(None) for _ in range(5)] == [None] * 5
    assert [member.hears(3.0, error="no samples") for _ in range(5)] == [None] * 5


def test_a_measurement_that_never_comes_does_not_end_it_for_good(member: Member) -> None:
    """A trainer that was stopped meanwhile does not answer."""
    asked = []
    for round_ in range(20, 40):
        evaluation = evaluated(round_, 3.0)
        member.best.judge(evaluation, dict)
        asked += member.rollback.look(evaluation)
    assert len(asked) > 1
