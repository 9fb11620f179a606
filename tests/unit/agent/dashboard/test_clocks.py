"""Clocks that are set, and silences that are long: the page goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grapevine_agent.core.moment import Moment
from grapevine_agent.dashboard.clocks import Steps, by_todays_clock
from grapevine_agent.dashboard.curves import OF_A_PEER, Curve
from grapevine_agent.dashboard.hub import Hub
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.replaying import replay
from grapevine_agent.dashboard.traffic import LATELY_S, MOST_SPEED, Traffic

NOW_MS = 1_800_000_000_000
YEARS_MS = 57 * 365 * 86_400_000


def measured(at_ms: int, metric: float = 0.5, peer: str = "a") -> dict[str, Any]:
    told = {"event": "measured", "task": "t", "label": "l", "metric_name": "accuracy", "metric": metric}
    return told | {"peer": peer, "at_ms": at_ms, "staleness": 1.0, "level": "info", "text": "x"}


def clock_set(at_ms: int, step_ms: int, peer: str = "a") -> dict[str, Any]:
    return {"event": "clock-set", "peer": peer, "at_ms": at_ms, "step_s": step_ms / 1000, "level": "info", "text": "y"}


def new_overview(speed: float = 1.0) -> Overview:
    return Overview(title="a swarm", source={"kind": "replay", "name": "x", "actions": []}, speed=speed)


def test_a_long_silence_leaves_out_nothing_of_what_follows() -> None:
    curve = Curve(OF_A_PEER)
    for number in range(100):
        curve.add([number * 5_000, 0.1])
    taken = sum(curve.add([YEARS_MS + number * 5_000, 0.5]) for number in range(1_000))
    assert taken > 300
    assert len(curve.points) <= OF_A_PEER
    assert curve.points[-1][0] > YEARS_MS + 900 * 5_000


async def test_a_page_goes_on_when_the_clock_of_its_machine_was_set_back_or_forward() -> None:
    overview = new_overview()
    hub = Hub(overview)
    now_ms = NOW_MS
    stream = hub.open()
    for step_ms in (0, -3_600_000, YEARS_MS):
        if step_ms:
            now_ms += step_ms
            hub.clock_set(step_ms)
            async with asyncio.timeout(10):
                while not (event := await anext(stream)).startswith(b"event: state"):
                    pass
            assert json.loads(event.partition(b"data: ")[2])["now_ms"] == now_ms
        else:
            await anext(stream)
        for _ in range(60):
            now_ms += 1_000
            overview.tell(measured(now_ms) | {"event": "sent", "receiver": "b", "num_bytes": 9}, now_ms)
            overview.tell(measured(now_ms), now_ms)
            hub.advance(now_ms)
    told = hub.snapshot()
    for curve in (*told["series"]["t"]["peers"].values(), *(told["series"]["t"][key] for key in ("all", "staleness"))):
        assert len(curve) > 170
        assert now_ms - 200_000 < curve[0][0] < curve[-1][0] <= now_ms
    assert told["now_ms"] == now_ms
    assert all(now_ms - 200_000 < at_ms <= now_ms for at_ms, *_ in told["rates"])
    assert now_ms - 5_000 < told["links"][0]["last_ms"] <= now_ms
    assert told["links"][0]["num"] <= LATELY_S
    assert [each["at_ms"] for each in told["log"]] == sorted(each["at_ms"] for each in told["log"])


def test_a_clock_that_is_kept_right_was_not_set_and_a_suspended_machine_only_slept() -> None:
    moments = iter(
        [
            Moment(monotonic_s=10, wall_ms=NOW_MS),
            Moment(monotonic_s=20, wall_ms=NOW_MS + 10_400),
            Moment(monotonic_s=21, wall_ms=NOW_MS + 3_611_400, suspended_s=3_600),
            Moment(monotonic_s=22, wall_ms=NOW_MS, suspended_s=3_600),
        ]
    )
    steps = Steps(lambda: next(moments))
    assert [steps.since() for _ in range(3)] == [0, 0, -3_612_400]


def test_what_an_agent_told_before_its_clock_was_set_is_shown_by_todays_clock() -> None:
    early = [measured(number * 1_000) for number in range(5)]
    told = by_todays_clock([*early, clock_set(YEARS_MS + 5_000, YEARS_MS), measured(YEARS_MS + 6_000)], "a")
    assert [each["at_ms"] for each in told] == [YEARS_MS + number * 1_000 for number in range(7)]
    assert by_todays_clock(early, "a") == early


def timed(path: Path, lines: list[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


async def test_a_file_in_which_a_clock_was_set_is_told_in_the_order_and_pace_in_which_it_happened(
    tmp_path: Path,
) -> None:
    def lines() -> Iterator[Mapping[str, Any]]:
        yield from (measured(number * 1_000) for number in range(5))
        yield clock_set(YEARS_MS + 5_000, YEARS_MS)
        yield from (measured(YEARS_MS + number * 1_000) for number in range(6, 10))
        yield clock_set(YEARS_MS - 86_390_000, -86_400_000)
        yield from (measured(YEARS_MS - 86_400_000 + number * 1_000) for number in range(11, 20))
        yield clock_set(20_000, 9_000_000, peer="simulated")  # its times are not by that clock
        yield measured(21_000, peer="simulated")

    overview, began_s = new_overview(100.0), time.monotonic()
    async with asyncio.timeout(20):
        await replay(timed(tmp_path / "x", list(lines())), overview, 100.0, time.monotonic)
    assert time.monotonic() - began_s >= 0.19
    overview.patch()
    series = overview.snapshot()["series"]["t"]
    assert [at_ms for at_ms, _ in series["peers"]["a"]] == [n * 1_000 for n in range(20) if n not in (5, 10)]
    assert len(series["all"]) >= 15


async def test_a_long_silence_in_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = timed(tmp_path / "x", [measured(0), measured(8_000_000_000_000_000), measured(1_000)])
    overview, clock_s = new_overview(), 0.0

    def clock() -> float:
        nonlocal clock_s
        clock_s += 1.0  # a second each time that it is looked at
        return clock_s

    async with asyncio.timeout(20):
        await replay(path, overview, 1.0, clock)
    assert clock_s < 60


def test_however_fast_a_file_is_told_what_is_counted_of_late_stays_small() -> None:
    for speed in (1.0, MOST_SPEED, 3_600.0, 100_000.0):
        traffic = Traffic(speed)
        lately_ms = round(10_000 * speed)
        for at_ms in (NOW_MS, NOW_MS + lately_ms // 2, NOW_MS + lately_ms - 5_000):
            traffic.sent(("a", "b", "t"), 1_000, at_ms)
        traffic.advance(NOW_MS + lately_ms - 1_000)
        assert traffic.links(lambda each: each)[0]["num"] == 3
        assert len(traffic._seconds) <= 10 * MOST_SPEED + 1
        traffic.advance(NOW_MS + 3 * lately_ms)
        assert traffic.links(lambda each: each) == []
