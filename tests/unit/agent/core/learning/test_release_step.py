"""How far the released model goes: by how many voices are in a merge, and without one's own drift."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.model_state import COLD_START, ModelState
from grapevine_agent.core.learning.release_step import ENOUGH_VOICES, MOST_STRETCH, ReleaseStep, Voices

FOUR = {"me": 0.25, "a": 0.25, "b": 0.25, "c": 0.25}
SERVED = {"me": 1 / 21, "server": 20 / 21}


def step_of(shares: dict[str, float], *, members: int, servers: dict[str, float] | None = None) -> ReleaseStep:
    return step_after(Voices(), shares, members=members, servers=servers)


def step_after(
    voices: Voices, shares: dict[str, float], *, members: int = 20, servers: dict[str, float] | None = None
) -> ReleaseStep:
    voices.merged("me", shares, servers or {})
    voices.own = np.zeros(1, np.float32)
    return voices.take(members)


def test_when_a_server_is_lost_a_merge_of_few_is_a_part_of_a_step() -> None:
    voices = Voices()
    steps = [step_after(voices, SERVED, servers={"server": 20.0}) for _ in range(50)]
    assert {step.part for step in steps} == {1.0}
    assert step_after(voices, FOUR).part == pytest.approx(4 / ENOUGH_VOICES, rel=0.02)
    for _ in range(400):
        late = step_after(voices, FOUR)
    assert late.part == pytest.approx(1, rel=0.1)  # by now that is what is usual
    assert step_after(voices, SERVED, servers={"server": 20.0}).part == 1


def test_where_gossip_is_all_there_is_its_merges_are_whole_steps_and_silence_is_a_small_one() -> None:
    voices = Voices()
    assert {step_after(voices, FOUR).part for _ in range(50)} == {1.0}
    assert voices.take(20).part == pytest.approx(1 / 4, rel=0.02)  # nobody was heard
    assert {Voices().take(1).part for _ in range(5)} == {1.0}  # alone


def test_a_faded_server_counts_for_no_more_voices_than_it_weighs() -> None:
    voices = Voices()
    for _ in range(50):
        step_after(voices, SERVED, servers={"server": 20.0})
    assert step_after(voices, SERVED, servers={"server": 1.0}).part < 0.1


def test_ones_own_share_is_taken_down_to_everybodys() -> None:
    own, others = np.array([8.0], np.float32), np.array([2.0], np.float32)  # three others, all alike
    model = ModelState(
        parameters=(own / 4 + others * 3 / 4).astype(np.float32),
        buffers=own,
        released=own * 0,
        released_buffers=own * 0,
    )
    voices = Voices()
    voices.merged("me", FOUR, {})
    voices.own = own
    step = voices.take(20)
    assert step.beyond == pytest.approx(0.95 / 0.75 - 1)
    model.release(0.95, step)
    alpha = 1 - 1 / (1 + COLD_START)
    assert model.released == pytest.approx(alpha * (own / 20 + others * 19 / 20), rel=1e-5)
    assert model.released_buffers == pytest.approx(alpha * own, rel=1e-5)  # variances stay what they are


def test_what_a_server_has_of_us_counts_as_ours_and_a_fair_share_is_left_as_it_is() -> None:
    through_server = step_of(SERVED, members=20, servers={"server": 20.0})
    assert through_server.beyond == pytest.approx((1 - (1 / 20 - 1 / 21)) / (20 / 21) - 1)
    assert step_of(FOUR, members=4).own is None


def test_a_single_other_model_is_never_all_that_is_released() -> None:
    assert step_of({"me": 0.9, "a": 0.1}, members=1000).beyond == pytest.approx(MOST_STRETCH - 1)


def test_merges_between_two_rounds_count_together_and_the_next_round_begins_anew() -> None:
    voices = Voices()
    for _ in range(1000):
        step_after(voices, SERVED, servers={"server": 20.0})
    voices.merged("me", {"me": 0.5, "a": 0.5}, {})
    voices.merged("me", {"me": 0.5, "b": 0.5}, {})  # 1/4, 1/4 and 1/2 by now
    assert voices.take(20).part == pytest.approx(1 / (1 / 16 + 1 / 16 + 1 / 4) / ENOUGH_VOICES, rel=0.02)
    assert voices.take(20).part == pytest.approx(1 / ENOUGH_VOICES, rel=0.03)
