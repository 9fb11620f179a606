"""The shell that shows a device in Home Assistant: what wakes it, and how often at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.agent.service.shown import FIGURES, PEER

from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_agent.service.attachment import Attachments
from grapevine_agent.service.figures import Figures
from grapevine_agent.service.governing import Governing
from grapevine_agent.service.homeassistant import announcing, assistant
from grapevine_agent.service.homeassistant.assistant import HomeAssistant


class Governor:
    def __init__(self) -> None:
        self.done: list[str] = []

    async def pause(self) -> None:
        self.done.append("pause")

    async def resume(self, *, keeps_single: bool) -> None:
        self.done.append("resume all" if keeps_single else "resume each")


class House:
    """A device, and the one broker that it has."""

    def __init__(self) -> None:
        self.num_looks = 0
        self.said: list[str] = []
        self.governor = Governor()
        self.shown = HomeAssistant(
            config=HomeAssistantConfig(enabled=True),
            peer=PEER,
            version="1",
            sleep=None,
            look=self._look,
            leave=self._leave,
            governor=cast(Governing, self.governor),
        )

    async def _look(self) -> Figures:
        self.num_looks += 1
        return FIGURES

    async def _leave(self, task: str) -> None:
        raise AssertionError(task)

    async def _publish(self, topic: str, *_words: Any, **_more: Any) -> None:
        self.said.append(topic)

    @asynccontextmanager
    async def shows(self) -> AsyncIterator[HomeAssistant]:
        """While it is connected, and everything has been said once."""

        class Brokers(list[Any]):
            async def subscribe(self, *_filters: tuple[str, int]) -> None:
                pass

        transport = SimpleNamespace(publish=self._publish)
        broker = SimpleNamespace(is_connected=True, is_found=False, number=0, transport=transport)
        self.shown.connected(0)
        running = asyncio.create_task(self.shown.run(cast(Attachments, Brokers([broker]))))
        try:
            while self.shown.topics.state not in self.said:
                await asyncio.sleep(0.01)
            yield self.shown
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at once when something wakes it; else only after the ten seconds that no test here takes."""
    monkeypatch.setattr(assistant, "LEAST_S", 0.0)
    monkeypatch.setattr(announcing, "SETTLE_S", 0.0)


@pytest.mark.usefixtures("quick")
async def test_what_is_refused_costs_no_look() -> None:
    house = House()
    async with house.shows() as shown:
        before = house.num_looks
        for _ in range(50):
            await shown.hear(0, f"{shown.topics.commands}/junk", b"x", retained=False)
            await shown.hear(0, shown.topics.pause, b"ON", retained=True)
            await shown.hear(0, shown.topics.leave("0" * 16), b"PRESS", retained=False)
            await shown.hear(0, shown.topics.config, b"{}", retained=False)
            await shown.hear(0, shown.topics.config, b"{}", retained=True)
            await shown.hear(0, "homeassistant/status", b"offline", retained=False)
            await asyncio.sleep(0.002)
        obeying = shown.counts["command-unknown"] - 50  # keys of no task, before these came too often
        assert 0 < obeying < 10
        assert house.num_looks - before == obeying, "which task is meant is looked up, and nothing else"


@pytest.mark.usefixtures("quick")
async def test_a_command_and_home_assistants_start_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant, "SPREAD_S", 0.0)
    house = House()
    async with house.shows() as shown:
        before = house.num_looks
        await shown.hear(0, shown.topics.pause, b"ON", retained=False)
        await asyncio.sleep(0.05)
        assert house.num_looks == before + 1
        house.said.clear()
        for _ in range(20):
            await shown.hear(0, "homeassistant/status", b"online", retained=False)
            await asyncio.sleep(0.01)
        assert house.said.count(shown.topics.config) == 1
        assert house.num_looks == before + 2, "only the first of them"


async def test_a_look_follows_a_look_after_a_second_at_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "SETTLE_S", 0.0)
    house = House()
    async with house.shows() as shown:
        before = house.num_looks
        for _ in range(20):
            shown.connected(0)
            await asyncio.sleep(0.02)
        assert house.num_looks == before
        await asyncio.sleep(1.0)
        assert house.num_looks == before + 1


async def test_the_switch_ends_the_pause_that_it_stands_for_and_no_other() -> None:
    house = House()
    for word in (b"ON", b"OFF"):
        await house.shown.hear(0, house.shown.topics.pause, word, retained=False)
    assert house.governor.done == ["pause", "resume all"]
