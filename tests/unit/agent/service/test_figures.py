"""What a governor says of itself, as far as it says it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from grapevine_agent.service.figures import Governed, governed_by


def test_without_a_governor_nothing_is_governed() -> None:
    assert governed_by(None) is None


@pytest.mark.parametrize("is_called", [True, False], ids=["a method", "a property"])
def test_what_it_knows_is_taken_and_the_rest_is_not_there(is_called: bool) -> None:
    told = SimpleNamespace(temperature_c=math.nan, bytes_today=5, paused=True, limit="pause", since=1.0, until=None)
    governor = SimpleNamespace(snapshot=(lambda: told) if is_called else told)
    assert governed_by(governor) == Governed(bytes_today=5, limit="pause", since_s=1.0, is_paused=True)


def test_words_of_a_governor_are_made_printable() -> None:
    governor = SimpleNamespace(snapshot=SimpleNamespace(why="hot\x1b[2J", limit=None))
    assert governed_by(governor) == Governed(why="hot\N{REPLACEMENT CHARACTER}[2J")
