"""What is said of senders by how their models do on one's own samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.guard.shadow import (
    A_STEP,
    AT_ONCE,
    ERRORS,
    KNOWN,
    LATELY,
    LEAST,
    LEAST_SAMPLES,
    PATIENCE,
    PAUSE,
    SHARE,
    Shadow,
    Verdict,
)
from grapevine_proto.errors import WireError

MODEL = np.zeros(4, np.float32)
NUM = 100  # held-out samples
HONEST = [f"honest {k}" for k in range(12)]
Figures = tuple[float, float]  # loss, metric
WELL, BADLY = (0.5, 0.85), (2.0, 0.3)


def made(*, higher_is_better: bool = True, num_numbers: int = 0) -> Shadow:
    rng = np.random.default_rng(4)
    return Shadow(task="digits", higher_is_better=higher_is_better, num_numbers=num_numbers, rng=rng)


@pytest.fixture
def shadow() -> Shadow:
    return made()


def answer(asked: Evaluate, figures: Figures, num: int = NUM, error: str = "") -> Evaluated:
    loss, metric = figures
    return Evaluated(
        task="digits", round=asked.round, loss=loss, metric=metric, num_evaluated=num, of=asked, error=error
    )


def hear(shadow: Shadow, sender: str, round_: int) -> bool:
    """Whether its update is merged."""
    try:
        shadow.check(sender, MODEL, MODEL, round_)
    except WireError:
        return False
    shadow.offer(sender, MODEL, MODEL, round_)
    return True


class Days:
    """Rounds that go by, in which everybody sends, in turn."""

    def __init__(self, shadow: Shadow, *, trained: int = NUM * AT_ONCE) -> None:
        self.shadow, self.trained = shadow, trained
        self.turned: Counter[str] = Counter()
        self.merged: Counter[str] = Counter()
        self.measured: Counter[str] = Counter()
        self.round = 0

    def go_on(self, figures: Mapping[str, Figures], num_rounds: int, *, order: Sequence[str] = ()) -> None:
        for _ in range(num_rounds):
            self.round += 1
            self.shadow.trained(self.trained, self.round)
            for sender in order or figures:
                self.merged[sender] += hear(self.shadow, sender, self.round)
            for asked in self.shadow.take_asked(may_ask=True):
                self.measured[asked.sender] += 1
                verdict = self.shadow.measured(answer(asked, figures[asked.sender]))
                self.turned[asked.sender] += bool(verdict.turned)
                for sender in verdict.freed:
                    self.turned[sender] = 0

    @property
    def who(self) -> set[str]:
        return {sender for sender, num in self.turned.items() if num}


def even(loss: float = 0.5) -> dict[str, Figures]:
    """All have the same sort of samples."""
    return {sender: (loss * (1 + k / 50), 0.85 - k / 200) for k, sender in enumerate(HONEST)}


def uneven() -> dict[str, Figures]:
    """Some have never seen what we have."""
    return {sender: (0.1 * 2.5**k, 0.95 - k / 14) for k, sender in enumerate(HONEST)}


def test_who_does_much_worse_than_all_others_is_doubted_and_then_turned_away(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": BADLY}, 20)
    assert days.who == {"eve"}
    assert days.turned["eve"] > 2  # again each time that it is heard
    assert days.merged.pop("eve") <= 8
    assert set(days.merged.values()) == {20}


def test_where_honest_models_differ_as_much_nobody_is_called_bad(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**uneven(), "eve": (9.0, 0.3)}, 20)
    assert days.who == set()
    assert set(days.merged.values()) == {20}


def test_a_larger_loss_with_as_good_a_metric_is_not_held_against_anybody(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "who is sure of itself": (3.0, 0.84)}, 20)
    assert days.who == set()


def test_of_an_error_less_is_better() -> None:
    days = Days(made(higher_is_better=False))
    errors = {sender: (0.1 + k / 1000, 0.3 + k / 1000) for k, sender in enumerate(HONEST)}
    days.go_on({**errors, "eve": (0.9, 0.9)}, 20)
    assert days.who == {"eve"}


def test_losses_next_to_nothing_are_all_the_same(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "late": WELL}, 10)
    days.go_on({**even(1e-8), "late": (1e-5, 0.5)}, 20)
    assert days.who == set()


def test_a_doubted_sender_is_believed_again_after_two_models_that_do_well(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "once": WELL}, 12)
    while hear(shadow, "once", days.round):
        days.go_on({**even(), "once": BADLY}, 1)
        assert days.round < 40
    shadow.take_asked(may_ask=True)
    shadow._asked.clear()
    before, measured = days.merged["once"], days.measured["once"]
    days.go_on({**even(), "once": WELL}, 12)
    assert days.who == set()
    assert days.measured["once"] >= measured + 2
    assert before + 6 <= days.merged["once"] < before + 12


def test_who_sends_a_good_model_after_each_bad_one_is_turned_away_all_the_same(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": WELL}, 8)
    for number in range(20):
        days.go_on({**even(), "eve": WELL if number % 2 else BADLY}, 1)
    assert days.who == {"eve"}


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e38])
def test_a_model_without_a_finite_loss_does_badly(shadow: Shadow, loss: float) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": (loss, math.nan)}, 20)
    assert days.who == {"eve"}


def test_of_a_few_senders_nobody_is_called_bad(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**dict(list(even().items())[: LEAST - 1]), "eve": (9.0, 0.1)}, 30)
    assert days.who == set()


# --- hostile minorities -----------------------------------------------------------------------------


def test_a_minority_that_does_better_than_all_others_makes_nobody_bad(shadow: Shadow) -> None:
    """They send back what they got from us: nobody does better on our samples, or agrees as well."""
    echoes = {f"echo {k}": (0.05, 0.99) for k in range(5)}
    days = Days(shadow)
    everybody = {**even(0.5), **echoes}
    days.go_on(everybody, 40, order=[*echoes, *HONEST, *echoes, *echoes])
    assert days.who == set()
    assert all(days.merged[sender] == 40 for sender in HONEST)


def test_a_minority_without_figures_makes_nobody_bad_and_hides_nobody(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": BADLY, **{f"none {k}": (math.inf, math.nan) for k in range(3)}}, 40)
    assert days.who == {"eve", "none 0", "none 1", "none 2"}


def test_where_many_would_be_bad_it_is_the_test_that_fails(shadow: Shadow) -> None:
    days = Days(shadow)
    half = {f"other {k}": BADLY for k in range(9)}
    days.go_on({**even(), **half}, 40)
    assert days.merged.total() > 0.8 * 40 * (len(HONEST) + len(half))


def test_who_was_turned_away_before_the_test_failed_is_listened_to_again(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "first": BADLY, **{f"other {k}": WELL for k in range(6)}}, 20)
    assert days.who == {"first"}
    days.go_on({**even(), "first": BADLY, **{f"other {k}": BADLY for k in range(6)}}, 40)
    assert days.who == set()


@pytest.mark.parametrize("seed", range(4))
def test_turns_cannot_be_timed(seed: int) -> None:
    """Good and bad models by turns, in step with rounds in which everybody speaks in one order."""
    shadow = made()
    shadow.rng = np.random.default_rng(seed)
    days = Days(shadow, trained=NUM)
    days.go_on({**even(), "eve": WELL}, 20)
    for number in range(150):
        days.go_on({**even(), "eve": WELL if number % 2 else BADLY}, 1)
    assert days.who == {"eve"}


def test_of_updates_that_are_merged_as_they_come_any_may_be_the_one() -> None:
    shadow, asked = made(), Counter[str]()
    for round_ in range(1, 200):
        shadow.trained(1000, round_)
        for number in range(4):  # a good one, to be measured, and then three
            shadow.check("eve", MODEL, MODEL, round_)
            shadow.offer("eve", np.full(4, number, np.float32), MODEL, round_, may_be_another=True)
        for each in shadow.take_asked(may_ask=True):
            asked[str(each.parameters[0])] += 1
            shadow.measured(answer(each, WELL))
    assert 0.4 < asked["0.0"] / asked.total() < 0.6


def test_who_speaks_once_does_not_keep_the_others_from_being_known(shadow: Shadow) -> None:
    days = Days(shadow)
    for number in range(40):
        figures = {**even(), "eve": BADLY, f"once {number}": WELL, f"too {number}": WELL}
        days.go_on(figures, 1, order=list(reversed(figures)))
    assert days.who == {"eve"}


def test_keys_that_come_anew_each_round_take_nobodys_turn(shadow: Shadow) -> None:
    days = Days(shadow)
    figures = {**even(), "eve": BADLY}
    days.go_on(figures, 3)
    for number in range(40):
        new = f"new {number}"
        days.go_on({**figures, new: WELL}, 1, order=[new, *figures])
    assert days.who == {"eve"}
    assert sum(num for sender, num in days.measured.items() if sender.startswith("new")) < days.measured.total() / 2


def test_a_doubted_sender_that_falls_silent_takes_nobodys_turn(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "once": WELL}, 12)
    while hear(shadow, "once", days.round):
        days.go_on({**even(), "once": BADLY}, 1)
    shadow.take_asked(may_ask=True)
    shadow._asked.clear()
    before = Counter(days.measured)
    days.go_on(even(), 30)
    assert min(days.measured[sender] - before[sender] for sender in HONEST) >= 3


def test_little_is_kept_of_many(shadow: Shadow) -> None:
    for number in range(3 * KNOWN):
        hear(shadow, f"key {number}", 1)
    assert len(shadow._senders) == KNOWN


# --- what it costs ----------------------------------------------------------------------------------


def test_measuring_takes_a_share_of_training_at_most_and_everybody_has_a_turn(shadow: Shadow) -> None:
    days, rounds = Days(shadow, trained=160), 80
    days.go_on(even(), rounds)
    spent, most = days.measured.total() * NUM, SHARE * A_STEP * days.trained * rounds
    assert 0.8 * most < spent <= most + NUM
    assert min(days.measured[sender] for sender in HONEST) >= days.measured.total() / len(HONEST) / 2


@pytest.mark.parametrize(("num_numbers", "most"), [(1_000, AT_ONCE), (2_000_000, 2), (30_000_000, 1)])
def test_few_large_models_wait_and_all_have_a_turn(num_numbers: int, most: int) -> None:
    shadow = made(num_numbers=num_numbers)
    days = Days(shadow)
    days.go_on({**even(), "eve": BADLY}, 60)
    assert days.who == {"eve"}
    for sender in HONEST * 2:
        hear(shadow, sender, days.round)
    shadow.trained(10_000, days.round)
    for sender in HONEST * 2:
        hear(shadow, sender, days.round)
    assert 1 <= len(shadow._asked) <= most


def test_without_training_nothing_is_measured_and_nobody_doubted(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": BADLY}, 20)
    assert not hear(shadow, "eve", days.round)
    shadow.rest()
    assert not shadow.is_due
    assert hear(shadow, "eve", days.round)
    assert not shadow.is_due


def test_a_trainer_that_rests_is_not_asked_and_nobody_waits_for_its_answer(shadow: Shadow) -> None:
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    assert shadow.is_due
    assert shadow.take_asked(may_ask=False) == []
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    assert len(shadow.take_asked(may_ask=True)) == 1


@pytest.mark.parametrize("figures", [(None, None, 0), (9.0, 0.0, LEAST_SAMPLES - 1)])
def test_with_too_few_samples_it_is_tried_again_much_later(
    shadow: Shadow, figures: tuple[float | None, float | None, int]
) -> None:
    loss, metric, num = figures
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    (asked,) = shadow.take_asked(may_ask=True)
    found = Evaluated(task="digits", round=1, loss=loss, metric=metric, num_evaluated=num, of=asked)
    assert shadow.measured(found) == Verdict()
    for round_ in range(2, 1 + PAUSE):
        shadow.trained(1000, round_)
        hear(shadow, "ada", round_)
        assert not shadow.is_due
    shadow.trained(1000, 1 + PAUSE)
    hear(shadow, "ada", 1 + PAUSE)
    assert shadow.is_due


def test_errors_say_nothing_of_a_sender_and_after_some_nothing_is_measured_for_a_while(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on(even(), 10)
    for number in range(ERRORS):
        assert not shadow._from_round
        shadow.trained(1000, 11 + number)
        for sender in HONEST:
            hear(shadow, sender, 11 + number)
        asked, *_ = shadow.take_asked(may_ask=True)
        assert shadow.measured(answer(asked, BADLY, error="the trainer died")) == Verdict()
        shadow._asked.clear()
    assert shadow._from_round == 10 + ERRORS + PAUSE
    assert all(hear(shadow, sender, 20) for sender in HONEST)


def test_an_answer_that_never_comes_is_waited_for_some_rounds(shadow: Shadow) -> None:
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    assert len(shadow.take_asked(may_ask=True)) == 1
    shadow.trained(1000, 2)
    hear(shadow, "ben", 2)
    assert shadow.take_asked(may_ask=True) == []  # what a look costs is not known yet
    shadow.trained(1000, 1 + PATIENCE)
    hear(shadow, "ben", 1 + PATIENCE)
    assert [each.sender for each in shadow.take_asked(may_ask=True)] == ["ben"]


def test_who_was_not_heard_for_long_is_not_waited_for(shadow: Shadow) -> None:
    days = Days(shadow)
    gone = {f"gone {k}": WELL for k in range(20)}
    days.go_on({**even(), **gone}, 2)
    days.go_on({**even(), "eve": BADLY}, LATELY + 20)
    assert days.who == {"eve"}


def test_turned_off_nobody_is_doubted_and_nothing_measured(shadow: Shadow) -> None:
    days = Days(shadow)
    days.go_on({**even(), "eve": BADLY}, 20)
    assert not hear(shadow, "eve", days.round)
    shadow.turn(is_on=False)
    assert hear(shadow, "eve", days.round)
    shadow.trained(1000, days.round + 1)
    hear(shadow, "ben", days.round + 1)
    assert not shadow.is_due
