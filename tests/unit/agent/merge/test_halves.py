"""Sums over large vectors in two halves at once: the same numbers, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from grapevine_agent.merge.halves import BLOCK, LARGE, by_halves, two_at_once
from grapevine_agent.merge.server.running import add_to_scaled, fold
from grapevine_agent.merge.voices import weighted_sum
from grapevine_agent.service.beside import run_both


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, LARGE + BLOCK // 2 + 3])
def test_two_halves_give_what_one_pass_gives_to_the_bit(size: int) -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(size, dtype=np.float32) for _ in range(3)]
    shares = [0.5, 0.2, 0.3]
    whole = weighted_sum(vectors, shares)
    folded, scaled = vectors[0].copy(), vectors[0].copy()
    fold(folded, vectors[1], 0.3, 0.7)
    add_to_scaled(scaled, vectors[1], 0.7)
    with two_at_once(run_both):
        assert weighted_sum(vectors, shares).tobytes() == whole.tobytes()
        again = vectors[0].copy()
        fold(again, vectors[1], 0.3, 0.7)
        assert again.tobytes() == folded.tobytes()
        again = vectors[0].copy()
        add_to_scaled(again, vectors[1], 0.7)
        assert again.tobytes() == scaled.tobytes()


def test_halves_cover_all_and_are_asked_for_where_a_shell_can_do_two_things_and_it_is_worth_it() -> None:
    done: list[tuple[int, int]] = []

    def note(start: int, stop: int) -> None:
        done.append((start, stop))

    def both(one: Callable[[], None], other: Callable[[], None]) -> None:
        other()
        one()

    by_halves(LARGE, note)
    with two_at_once(both):
        by_halves(LARGE - 1, note)
        by_halves(3 * LARGE + 5, note)
    by_halves(LARGE, note)
    middle = done[3][1]
    assert done == [(0, LARGE), (0, LARGE - 1), (middle, 3 * LARGE + 5), (0, middle), (0, LARGE)]
    assert middle % BLOCK == 0


def test_what_either_half_raises_is_raised_when_both_have_ended() -> None:
    ended: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError("half")

    with pytest.raises(ZeroDivisionError):
        run_both(lambda: ended.append("one"), fail)
    with pytest.raises(ZeroDivisionError):
        run_both(fail, lambda: ended.append("other"))
    assert "one" in ended
