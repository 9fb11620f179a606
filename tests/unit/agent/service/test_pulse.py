"""How long the loop stands."""

from __future__ import annotations

import asyncio
import time

import pytest

from grapevine_agent.service.pulse import SPANS, Stops, watch


def test_the_longest_of_the_last_spans_is_told_and_older_ones_are_not() -> None:
    stops = Stops(span_s=60.0)
    stops.saw(0.4, 0.0)
    stops.saw(0.1, 30.0)
    stops.saw(0.2, 60.0)
    assert stops.lately_s(61.0) == 0.4
    assert stops.lately_s(60.0 * SPANS - 1) == 0.4
    assert stops.lately_s(60.0 * SPANS) == 0.2
    assert stops.lately_s(60.0 * (SPANS + 1)) == 0.0
    assert stops.longest_s == 0.4


def test_what_was_seen_long_ago_does_not_pile_up() -> None:
    stops = Stops(span_s=1.0)
    for second in range(1_000):
        stops.saw(0.001 * second, float(second))
    assert len(stops._spans) == SPANS
    assert stops.lately_s(999.5) == pytest.approx(0.999)


async def test_a_loop_that_stands_is_seen() -> None:
    stops = Stops()
    watching = asyncio.create_task(watch(stops, every_s=0.001))
    await asyncio.sleep(0.01)
    time.sleep(0.2)  # noqa: ASYNC251 — this is what is to be seen
    await asyncio.sleep(0.01)
    watching.cancel()
    assert stops.longest_s > 0.1
