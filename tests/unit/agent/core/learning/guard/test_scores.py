"""Scores: what many updates of a sender say that none of them says alone."""

from __future__ import annotations

import numpy as np

from grapevine_agent.core.learning.guard.scores import LEAST_UPDATES, Scores

HONEST = [f"honest {number}" for number in range(8)]


def refused_of(*, hostile: float, spread: float, num: int = 60) -> tuple[int, int]:
    """How many updates count against honest senders, and against one that is usually so many widths ahead."""
    rng, scores = np.random.default_rng(4), Scores()
    honest = against = 0
    own = dict(zip(HONEST, 1 + spread * np.linspace(-1, 1, len(HONEST)), strict=True))
    for _ in range(num):
        honest += sum(scores.note(sender, mean + rng.normal() / 2) for sender, mean in own.items())
        against += scores.note("eve", hostile + rng.normal() / 2)
    return honest, against


def test_who_is_behind_on_average_is_found_and_nobody_else() -> None:
    honest, against = refused_of(hostile=0.0, spread=0.1)
    assert against > 45
    assert honest <= 4


def test_where_honest_senders_differ_much_nobody_is_turned_away_for_it() -> None:
    honest, against = refused_of(hostile=0.0, spread=0.9)
    assert honest + against <= 12  # of 540


def test_one_update_says_nothing() -> None:
    scores = Scores()
    for sender in HONEST:
        for _ in range(LEAST_UPDATES):
            scores.note(sender, 1.0)
    assert not scores.note("eve", -100.0)


def test_a_score_is_forgiven_after_a_while() -> None:
    scores = Scores()
    for _ in range(20):
        for sender in HONEST:
            scores.note(sender, 1.0)
        is_against = scores.note("ada", -1.0)
    assert is_against
    verdicts = [scores.note("ada", 1.0) for _ in range(60)]
    assert verdicts[0]
    assert not verdicts[-1]


def test_a_crowd_that_goes_backwards_accuses_nobody() -> None:
    scores = Scores()
    for _ in range(20):
        assert not any(scores.note(sender, -1.0) for sender in HONEST)
