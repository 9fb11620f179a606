"""`clip`: one update moves nobody further than updates usually do."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.agent.merge.by_hand import merge, voice

from grapevine_agent.merge.clip import Clip


def practised(local_size: int = 1) -> Clip:
    """A clip of twice the usual distance, which is 1."""
    clip = Clip(2.0)
    for _ in range(3):
        clip.apply(voice("i", [0] * local_size), voice("k", [1] + [0] * (local_size - 1)))
    return clip


def test_an_update_that_is_much_too_far_away_is_clipped_to_the_usual_distance() -> None:
    clip, local = Clip(2.0), voice("i", [0, 0])
    for distance in (1.0, 1.0, 1.0):
        assert clip.apply(local, voice("k", [distance, 0])).parameters.tolist() == [distance, 0]
    assert clip.apply(local, voice("k", [0, 100])).parameters.tolist() == [0, 2]
    assert clip.apply(local, voice("k", [1.5, 0])).parameters.tolist() == [1.5, 0]


def test_equal_models_teach_the_clip_nothing() -> None:
    clip, local = Clip(2.0), voice("i", [0])
    for _ in range(10):
        clip.apply(local, voice("k", [0]))
    assert clip.apply(local, voice("k", [7])).parameters.tolist() == [7]


def test_a_clip_of_zero_is_off() -> None:
    clip, local = Clip(0.0), voice("i", [0])
    for _ in range(5):
        clip.apply(local, voice("k", [1]))
    assert clip.apply(local, voice("k", [1e6])).parameters.tolist() == [1e6]


def test_the_delta_of_a_clipped_update_ends_where_its_parameters_do() -> None:
    update = voice("k", [100], base=[1], age=3)
    clipped = practised().apply(voice("i", [0]), update)
    assert clipped.base is update.base
    assert (clipped.parameters.tolist(), clipped.age) == ([2], 3)
    assert update.parameters.tolist() == [100]


def test_a_base_far_away_does_not_hide_behind_a_delta_that_leads_back() -> None:
    local = voice("i", [0], base=[0])
    for parameters in (0.0, 1.0):
        clipped = practised().apply(local, voice("k", [parameters], base=[-1e6]))
        assert clipped.base is not None
        assert clipped.base.tolist() == [-2]
        assert clipped.parameters.tolist() == [parameters]
        assert abs(merge("delta-sum", local, clipped).parameters[0]) <= 3


def test_an_update_as_far_away_as_numbers_go_is_clipped_like_any_other() -> None:
    local = voice("i", [-3e38, 0])
    clipped = practised(2).apply(local, voice("k", [3e38, 3e38]))
    assert np.isfinite(clipped.parameters).all()
    assert clipped.parameters.tolist() == [pytest.approx(-3e38), pytest.approx(2 / 5**0.5)]


def test_members_that_agree_can_still_be_told_something_new() -> None:
    """They differ by rounding alone, which is no measure of how far apart models usually are."""
    clip, local = Clip(2.0), voice("i", [1, 2])
    for distance in (0.125, 0.125, 0.125, *[2.0**-22] * 40):
        clip.apply(local, voice("k", [1, 2 + distance]))
    assert clip.apply(local, voice("k", [1, 12])).parameters.tolist() == [1, 2.25]
