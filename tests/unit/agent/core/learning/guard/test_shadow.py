"""What is said of senders by how their models do on one's own samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.guard.shadow import AT_ONCE, LEAST, LEAST_SAMPLES, PATIENCE, PAUSE, SHARE, Shadow
from grapevine_proto.errors import WireError

MODEL = np.zeros(4, np.float32)
NUM = 100  # held-out samples
HONEST = [f"honest {k}" for k in range(9)]
Figures = tuple[float, float]  # loss, metric


@pytest.fixture
def shadow() -> Shadow:
    return Shadow(task="digits", higher_is_better=True)


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
    return True


def go_on(
    shadow: Shadow, figures: Mapping[str, Figures], rounds: range, *, trained: int = NUM * AT_ONCE
) -> tuple[list[str], dict[str, int]]:
    """In each round everybody sends, in turn; who is said to be bad, and how often whose model was merged."""
    said: list[str] = []
    merged = dict.fromkeys(figures, 0)
    for round_ in rounds:
        shadow.trained(trained, round_)
        for sender in figures:
            merged[sender] += hear(shadow, sender, round_)
        asked = shadow.take_asked()
        said += [each.sender for each in asked if shadow.measured(answer(each, figures[each.sender]))]
    return said, merged


def even(loss: float = 0.5) -> dict[str, Figures]:
    """All have the same sort of samples."""
    return {sender: (loss * (1 + k / 50), 0.85 - k / 200) for k, sender in enumerate(HONEST)}


def uneven() -> dict[str, Figures]:
    """Some have never seen what we have."""
    return {sender: (0.1 * 3**k, 0.95 - k / 10) for k, sender in enumerate(HONEST)}


def test_who_does_much_worse_than_all_others_is_doubted_and_then_turned_away(shadow: Shadow) -> None:
    said, merged = go_on(shadow, {**even(), "eve": (2.0, 0.3)}, range(20))
    assert set(said) == {"eve"}
    assert len(said) > 3  # again each time that it is heard
    assert merged.pop("eve") <= 5
    assert set(merged.values()) == {20}


def test_where_honest_models_differ_as_much_nobody_is_called_bad(shadow: Shadow) -> None:
    said, merged = go_on(shadow, {**uneven(), "eve": (9.0, 0.3)}, range(20))
    assert said == []
    assert set(merged.values()) == {20}


def test_a_larger_loss_with_as_good_a_metric_is_not_held_against_anybody(shadow: Shadow) -> None:
    assert go_on(shadow, {**even(), "who is sure of itself": (3.0, 0.84)}, range(20))[0] == []


def test_of_an_error_less_is_better() -> None:
    shadow = Shadow(task="power", higher_is_better=False)
    errors = {sender: (0.1 + k / 1000, 0.3 + k / 1000) for k, sender in enumerate(HONEST)}
    assert set(go_on(shadow, {**errors, "eve": (0.9, 0.9)}, range(20))[0]) == {"eve"}


def test_a_doubted_sender_whose_next_model_does_well_is_believed_again(shadow: Shadow) -> None:
    go_on(shadow, {**even(), "once": (0.5, 0.85)}, range(8))
    round_ = 8
    while hear(shadow, "once", round_):
        go_on(shadow, {**even(), "once": (2.0, 0.3)}, range(round_, round_ + 1))
        round_ += 1
        assert round_ < 20
    shadow.take_asked()
    shadow._asked.clear()
    said, merged = go_on(shadow, {**even(), "once": (0.5, 0.85)}, range(round_ + 1, round_ + 10))
    assert said == []
    assert 4 <= merged["once"] < 9  # not while it was measured


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e38])
def test_a_model_without_a_finite_loss_does_badly(shadow: Shadow, loss: float) -> None:
    assert set(go_on(shadow, {**even(), "eve": (loss, math.nan)}, range(20))[0]) == {"eve"}


def test_of_a_few_senders_nobody_is_called_bad(shadow: Shadow) -> None:
    few = dict(list(even().items())[: LEAST - 1])
    assert go_on(shadow, {**few, "eve": (9.0, 0.1)}, range(30))[0] == []


def test_measuring_takes_a_share_of_training_at_most_and_everybody_has_a_turn(shadow: Shadow) -> None:
    measured: list[str] = []
    rounds, trained = 60, 160
    for round_ in range(rounds):
        shadow.trained(trained, round_)
        for sender in HONEST:
            hear(shadow, sender, round_)
        asked = shadow.take_asked()
        assert len(asked) <= AT_ONCE
        measured += [each.sender for each in asked]
        for each in asked:
            shadow.measured(answer(each, even()[each.sender]))
    assert 0.8 * SHARE * 3 * trained * rounds < len(measured) * NUM <= SHARE * 3 * trained * rounds + NUM
    counts = [measured.count(sender) for sender in HONEST]
    assert min(counts) >= len(measured) / len(HONEST) / 2


@pytest.mark.parametrize(("num_parameters", "most"), [(1_000, AT_ONCE), (2_000_000, 2), (30_000_000, 1)])
def test_few_large_models_wait(num_parameters: int, most: int) -> None:
    shadow = Shadow(task="digits", higher_is_better=True, num_parameters=num_parameters)
    go_on(shadow, even(), range(3))
    for round_ in range(3, 12):
        shadow.trained(10_000, round_)
        for sender in HONEST:
            hear(shadow, sender, round_)
    assert len(shadow._asked) == most


def test_without_training_nothing_is_measured(shadow: Shadow) -> None:
    assert go_on(shadow, even(), range(5), trained=0) == ([], dict.fromkeys(HONEST, 5))
    hear(shadow, "ada", 6)
    assert not shadow.is_due


def test_with_too_few_samples_it_is_tried_again_much_later(shadow: Shadow) -> None:
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    (asked,) = shadow.take_asked()
    assert shadow.measured(answer(asked, (9.0, 0.0), num=LEAST_SAMPLES - 1)) == ""
    for round_ in range(2, 1 + PAUSE):
        shadow.trained(1000, round_)
        hear(shadow, "ada", round_)
        assert not shadow.is_due
    shadow.trained(1000, 1 + PAUSE)
    hear(shadow, "ada", 1 + PAUSE)
    assert shadow.is_due


def test_an_answer_that_never_comes_is_waited_for_some_rounds(shadow: Shadow) -> None:
    shadow.trained(1000, 1)
    hear(shadow, "ada", 1)
    assert len(shadow.take_asked()) == 1
    shadow.trained(1000, 2)
    hear(shadow, "ben", 2)
    assert shadow.take_asked() == []  # what a look costs is not known yet
    shadow.trained(1000, 1 + PATIENCE)
    hear(shadow, "ben", 1 + PATIENCE)
    assert [each.sender for each in shadow.take_asked()] == ["ben"]


@pytest.mark.parametrize("error", ["the trainer died", ""])
def test_what_could_not_be_measured_says_nothing_of_its_sender(shadow: Shadow, error: str) -> None:
    go_on(shadow, even(), range(8))
    shadow.trained(1000, 9)
    hear(shadow, "eve", 9)
    (asked,) = [each for each in shadow.take_asked() if each.sender == "eve"]
    none = Evaluated(task="digits", round=9, of=asked, error=error)
    assert shadow.measured(none) == ""
    assert hear(shadow, "eve", 9)


def test_turned_off_nobody_is_doubted_and_nothing_measured(shadow: Shadow) -> None:
    go_on(shadow, {**even(), "eve": (2.0, 0.3)}, range(12))
    assert not hear(shadow, "eve", 12)
    shadow.turn(is_on=False)
    assert hear(shadow, "eve", 12)
    shadow.trained(1000, 13)
    hear(shadow, "ben", 13)
    assert not shadow.is_due
