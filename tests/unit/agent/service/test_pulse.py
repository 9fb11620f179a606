"""How long the loop stands."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from grapevine_agent.service.pulse import SPANS, Pulse, Stops, WatchedSelector, watch, watched_loop


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


async def test_a_loop_that_stands_is_seen_by_a_timer() -> None:
    stops = Stops()
    watching = asyncio.create_task(watch(stops, every_s=0.001))
    await asyncio.sleep(0.01)
    time.sleep(0.2)  # noqa: ASYNC251 — this is what is to be seen
    await asyncio.sleep(0.01)
    watching.cancel()
    assert stops.longest_s > 0.1


def test_a_loop_that_stands_is_seen_by_its_selector_without_a_timer() -> None:
    stops = Stops()

    async def stand() -> None:
        await asyncio.sleep(0.3)
        assert stops.longest_s < 0.1  # asleep as long as it was asked to be
        time.sleep(0.2)  # noqa: ASYNC251 — this is what is to be seen
        await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=lambda: watched_loop(stops)) as runner:
        runner.run(stand())
    assert 0.19 < stops.longest_s < 0.3


def test_an_idle_loop_is_not_woken_up() -> None:
    stops = Stops()
    loop = watched_loop(stops)
    num_woken, select = 0, WatchedSelector.select

    def counted(self: WatchedSelector, timeout: float | None = None) -> object:
        nonlocal num_woken
        num_woken += 1
        return select(self, timeout)

    async def idle() -> None:
        Pulse(stops)
        await asyncio.sleep(0.5)

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=lambda: loop) as runner:
        patch.setattr(WatchedSelector, "select", counted)
        runner.run(idle())
    assert num_woken < 10


async def test_a_thread_that_keeps_the_interpreter_is_seen_while_it_is_waited_for() -> None:
    pulse = Pulse(every_s=0.005)
    with pulse.beside():
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 — as if a thread did not let go
    assert pulse.stops.longest_s > 0.1


async def test_it_beats_until_the_last_thread_is_done() -> None:
    pulse = Pulse(every_s=0.005)
    with ThreadPoolExecutor(2) as threads:
        for seconds in (0.02, 0.1):
            pulse.until_done(threads.submit(time.sleep, seconds))
        await asyncio.sleep(0.05)
        assert pulse._timer is not None
        assert not pulse._timer.cancelled()
        await asyncio.sleep(0.1)
    assert pulse._timer.cancelled()
