"""Files that are told again at their own speed, and pages that take what they are told, or do not."""

from __future__ import annotations

import asyncio
import copy
import time
from itertools import islice
from pathlib import Path
from typing import Any

from tests.unit.agent.dashboard.browsing import ask, looking, made_file, replayed

from grapevine_agent.dashboard.hub import MOST_WAITING, Hub
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.patches import apply
from grapevine_agent.dashboard.replaying import replay
from grapevine_agent.dashboard.serving import served
from grapevine_agent.dashboard.sources import Sources
from grapevine_lab.bench.made_events import TASK, MadeSwarm


def new_overview() -> Overview:
    return Overview(title="a swarm", source={"kind": "replay", "name": "x", "actions": []})


async def test_a_file_is_told_as_fast_as_its_times_say_or_so_many_times_faster(tmp_path: Path) -> None:
    path, overview = made_file(tmp_path, seconds=6), new_overview()
    began_s = time.monotonic()
    telling = asyncio.create_task(replay(path, overview, 20.0, time.monotonic))
    async with asyncio.timeout(20):
        while not overview.book.traffic.totals["sent"]:
            await asyncio.sleep(0.005)
    early = overview.book.traffic.totals["sent"]
    await telling
    assert time.monotonic() - began_s >= 6 / 20
    assert early < overview.book.traffic.totals["sent"]
    at_once = new_overview()
    await replay(path, at_once, 0.0, time.monotonic)
    assert at_once.book.traffic.totals == overview.book.traffic.totals


async def test_a_line_that_is_broken_ends_the_telling_and_not_the_page(tmp_path: Path) -> None:
    path, said = made_file(tmp_path), list[str]()
    content = path.read_text()
    path.write_text(content + '{"event": \n' + content)
    number = content.count("\n") + 1
    sources = Sources(kind="replay", name="made", file=path)
    async with served(sources, speed=0.0, say=said.append) as (dashboard, _):
        async with asyncio.timeout(20):
            while not said:
                await asyncio.sleep(0.02)
        assert f"line {number}: is no event" in said[0]
        state = (await ask(dashboard, "/api/state")).json
        assert len(state["peers"]) == 8


async def test_what_pages_add_up_is_what_a_new_page_is_given(tmp_path: Path) -> None:
    async with replayed(tmp_path, speed=30.0) as dashboard, looking(dashboard) as events:
        page: dict[str, Any] = {}
        async for kind, told in events:
            if kind == "state":
                page = told
            else:
                apply(page, told)
            if len(page["series"].get(TASK, {"all": []})["all"]) >= 5:
                break
        async with looking(dashboard) as others:
            _, fresh = await anext(others)
        while page["now_ms"] < fresh["now_ms"]:
            apply(page, (await anext(events))[1])
        order = {each["id"]: place for place, each in enumerate(fresh["peers"])}
        page["peers"].sort(key=lambda each: order[each["id"]])
        assert page == fresh


async def test_a_page_that_is_too_slow_begins_again_with_everything() -> None:
    overview = new_overview()
    hub = Hub(overview)
    slow, quick = hub.open(), hub.open()
    assert (await anext(slow)).startswith(b"event: state")
    page = overview.snapshot()
    assert (await anext(quick)).startswith(b"event: state")
    page = copy.deepcopy(page)
    for event in islice(MadeSwarm(2).events(400), MOST_WAITING + 5):
        overview.tell(event, event["at_ms"])
        hub.advance(event["at_ms"])
        assert (await anext(quick)).startswith(b"event: patch")
    assert (await anext(slow)).startswith(b"event: state")
    event["at_ms"] += 5_000
    overview.tell(event, event["at_ms"])
    hub.advance(event["at_ms"])
    assert (await anext(slow)).startswith(b"event: patch")
    hub.close()
    assert [each async for each in slow] == []
    assert hub.num_streams == 1
