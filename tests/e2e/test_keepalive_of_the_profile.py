"""What an agent tells a broker of its line: the owner's keepalive, or else its profile's, or else the usual."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.identity import first_identity
from grapevine_agent.service.assembly import assembled

OWN = 'name = "mine"\ncores = 1\nmemory_mb = 400\n'


async def connect_packet(config: Path) -> bytes:
    """The first packet that the agent of this configuration sends to a broker that answers nothing."""
    first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.readuntil(b"MQTT") + await reader.readexactly(4)
        if not first.done():
            first.set_result(packet)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with assembled(load_config(config, {"GRAPEVINE_MQTT_BROKERS": f"mqtt://127.0.0.1:{port}"})) as service:
            running = asyncio.create_task(service.run())
            try:
                return await asyncio.wait_for(first, 30)
            finally:
                service.stop()
                await running


@pytest.mark.parametrize(
    ("profile", "mqtt", "keepalive_s"),
    [
        ("raspberry-pi-zero-2-w", "", 60),  # it has Wi-Fi alone
        ("raspberry-pi-zero-2-w", "keepalive_s = 17\n", 17),  # the owner's word
        ("mine.toml", "", 30),  # a profile that says nothing of its network
    ],
)
async def test_the_keepalive_is_the_owners_or_else_the_profiles(
    tmp_path: Path, profile: str, mqtt: str, keepalive_s: int
) -> None:
    first_identity(tmp_path / "state")
    (tmp_path / "mine.toml").write_text(OWN)
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nstate_dir = "state"\nprofile = "{profile}"\n[mqtt]\n{mqtt}')
    packet = await connect_packet(config)
    # MQTT 5, 3.1.2: the protocol's name, its level, the flags, and then two bytes of keepalive.
    found = re.search(rb"MQTT(.)(.)(..)$", packet, re.DOTALL)
    assert found is not None
    assert int.from_bytes(found[3], "big") == keepalive_s
