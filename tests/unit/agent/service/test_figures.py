"""What the governor says of itself, as it can be shown."""

from __future__ import annotations

import math

from grapevine_agent.service.figures import Governed, governed_by
from grapevine_agent.service.governing import Snapshot


def told(*, temperature_c: float | None = None, limit: str = "", why: str = "", paused: bool = False) -> Snapshot:
    return Snapshot(
        paused=paused,
        slowed=False,
        limit=limit,
        why=why,
        since=None,
        until=2.0,
        temperature_c=temperature_c,
        battery_percent=None,
        on_battery=None,
        bytes_today=5,
        energy_j_today=None,
        training_s_today=0.0,
    )


def test_what_is_not_finite_was_not_measured() -> None:
    snapshot = told(temperature_c=math.nan, limit="pause", paused=True)
    assert governed_by(snapshot) == Governed(bytes_today=5, limit="pause", until_s=2.0, is_paused=True)
    assert governed_by(told(temperature_c=50.0)).temperature_c == 50.0


def test_words_of_a_governor_are_made_printable() -> None:
    assert governed_by(told(why="hot\x1b[2J")).why == "hot\N{REPLACEMENT CHARACTER}[2J"
