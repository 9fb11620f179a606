"""Our transport and a Mosquitto in a container."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.testbed.image import apt_mirror

from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


async def test_a_message_comes_back_from_a_broker_in_a_container(container_broker_url: str) -> None:
    transport = Transport([BrokerUrl.parse(container_broker_url)], client_id="testbed")
    await transport.subscribe(("test/#", 1))
    task = asyncio.create_task(transport.run())
    payload = os.urandom(100_000)
    async with asyncio.timeout(30):
        async for event in transport.events():
            if isinstance(event, Connected):
                assert event.version == "5"
                assert event.max_packet_bytes == 1_000_000
                await transport.publish("test/model", payload)
            if isinstance(event, Arrived):
                assert event == Arrived(topic="test/model", payload=payload, retained=False)
                break
    await transport.disconnect()
    await task


def test_the_mirror_is_the_one_of_apt_in_either_format(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "third-party.list").write_text("deb https://third.example/apt tools-bookworm main\n")
    assert apt_mirror("bookworm", tmp_path) is None
    (parts / "debian.sources").write_text(
        "Types: deb\n# why\nURIs: http://new.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
        "\nTypes: deb\nURIs: http://security.example\nSuites: bookworm-security\nComponents: main\n"
    )
    assert apt_mirror("bookworm", tmp_path) == "http://new.example/debian"
    (tmp_path / "sources.list").write_text("deb [signed-by=/a.gpg] http://old.example/debian bookworm main contrib\n")
    assert apt_mirror("bookworm", tmp_path) == "http://old.example/debian"
