"""A device in Home Assistant: real agents, real brokers, and a client that stands where Home Assistant would."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agents import agent, status
from tests.e2e.conftest import Client, Connect, SharedBroker
from tests.e2e.household import household, village, wait_for
from tests.home_assistant.package import held_against_home_assistant

from grapevine_agent.identity import first_identity
from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.homeassistant.components import Topics
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.overlay.here import until
from grapevine_proto.errors import BrokerError, StoreError


def words(root: str, more: str = "") -> str:
    """`[homeassistant]` on topics of a test's own."""
    return (
        f'[homeassistant]\nenabled = true\nprefix = "{root}-hass"\nstatus = "{root}-hass/status"\n'
        f'root = "{root}-shown"\n{more}'
    )


def topics(service: AgentService) -> Topics:
    assert service.home_assistant is not None
    return service.home_assistant.topics


@dataclass
class House:
    """What has been said below our topics, as a client that came late would have it."""

    client: Client
    said: dict[str, bytes] = field(default_factory=dict)
    num: int = 0
    reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        while True:
            event = await self.client.next(Arrived)
            self.said[event.topic] = bytes(event.payload)
            self.num += 1

    def json(self, topic: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said.get(topic) or b"{}")
        return found

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self.client.transport.publish(topic, payload, retain=retain)


@asynccontextmanager
async def house(connect: Connect, url: str, root: str = "", **more: Any) -> AsyncIterator[House]:
    """Subscribed to all that devices say of themselves."""
    client = await connect(url, **({"subscribe": (f"{root}-hass/#", f"{root}-shown/#")} | more))
    made = House(client)
    made.reading = asyncio.create_task(made.read())
    try:
        yield made
    finally:
        made.reading.cancel()
        await asyncio.wait([made.reading])


async def test_a_device_appears_and_says_when_it_leaves(tmp_path: Path, broker: SharedBroker, connect: Connect) -> None:
    async with house(connect, broker.url, broker.root) as home:
        async with agent(tmp_path, [broker.url], broker.root, extra=words(broker.root), own='name = "kitchen"') as one:
            at = topics(one)
            await until(lambda: home.said.get(at.availability) == b"online")
            assert home.json(at.config)["device"]["name"] == "kitchen"
            await until(lambda: at.state in home.said)
            assert home.json(at.state)["activity"] == "idle"
            shown = (await status(one))["homeassistant"]
            assert (shown["topic"], shown["trouble"]) == (at.config, "")
        await until(lambda: home.said.get(at.availability) == b"offline")
    late = await connect(broker.url, subscribe=(f"{broker.root}-hass/#",))
    assert (await late.arrival(at.config)).retained


async def test_home_assistants_start_brings_it_all_again(
    tmp_path: Path, broker: SharedBroker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_agent.service.homeassistant.assistant.SPREAD_S", 0.1)
    async with (
        house(connect, broker.url, broker.root) as home,
        agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one,
    ):
        at = topics(one)
        await until(lambda: at.state in home.said)
        home.said.clear()
        await home.publish(f"{broker.root}-hass/status", b"offline")
        await home.publish(f"{broker.root}-hass/status", b"online" * 1_000)
        await asyncio.sleep(0.3)
        assert at.config not in home.said
        await home.publish(f"{broker.root}-hass/status", b"online")
        await until(lambda: {at.config, at.availability, at.state} <= set(home.said))


async def test_a_switch_pauses_and_shows_that_it_does(tmp_path: Path, broker: SharedBroker, connect: Connect) -> None:
    async with (
        house(connect, broker.url, broker.root) as home,
        agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one,
    ):
        at = topics(one)
        await until(lambda: {at.config, at.state} <= set(home.said))
        (answer,) = held_against_home_assistant([home.said[at.config]])
        assert answer["taken"]["pause"]["command_topic"] == at.pause
        await home.publish(at.pause, b"ON")
        await until(lambda: home.json(at.state)["paused"] == "ON", within_s=5)
        assert home.json(at.state)["limit"] == "its owner paused it"
        await home.publish(at.pause, b"OFF")
        await until(lambda: home.json(at.state)["paused"] == "OFF", within_s=5)


async def test_what_is_no_command_is_counted_and_changes_nothing(
    tmp_path: Path, broker: SharedBroker, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    first_identity(tmp_path / "state")
    async with house(connect, broker.url, broker.root) as home:
        async with agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one:
            at = topics(one)
        await home.publish(at.pause, b"ON", retain=True)
        async with agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one:
            assert one.home_assistant is not None
            counts = one.home_assistant.counts
            await until(lambda: counts["command-retained"] == 1)
            await home.publish(at.leave("0" * 16), b"PRESS")
            await home.publish(at.pause, b"\xff" * 2_000)
            await until(lambda: counts["command-unknown"] == 2)
            await until(lambda: at.state in home.said)
            assert home.json(at.state)["paused"] == "OFF"
            assert counts["commands"] == 0
    assert "publish it without retain" in caplog.text


async def test_a_command_that_fails_fails_alone(
    tmp_path: Path,
    broker: SharedBroker,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def pause() -> None:
        raise StoreError("the disk is full")

    async with (
        house(connect, broker.url, broker.root) as home,
        agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one,
    ):
        monkeypatch.setattr(one.governor, "pause", pause)
        assert one.home_assistant is not None
        at, counts = topics(one), one.home_assistant.counts
        await until(lambda: at.state in home.said)
        await home.publish(at.pause, b"ON")
        await until(lambda: counts["command-failed"] == 1)
        await home.publish(at.pause, b"OFF")
        await until(lambda: counts["commands"] == 1)
    assert "the disk is full" in caplog.text


async def test_a_device_may_be_shown_without_commands(tmp_path: Path, broker: SharedBroker, connect: Connect) -> None:
    async with (
        house(connect, broker.url, broker.root) as home,
        agent(tmp_path, [broker.url], broker.root, extra=words(broker.root, "commands = false")) as one,
    ):
        assert one.home_assistant is not None
        at = topics(one)
        await until(lambda: at.state in home.said)
        assert "pause" not in home.json(at.config)["components"]
        await home.publish(at.pause, b"ON")
        await home.publish(f"{broker.root}-hass/status", b"online")
        await asyncio.sleep(0.5)
        assert not one.home_assistant.counts.keys() & {"commands", "command-unknown"}
        assert home.json(at.state)["paused"] == "OFF"


async def test_a_broker_that_was_found_is_told_nothing_and_commands_nothing(
    tmp_path: Path, broker: SharedBroker, connect: Connect
) -> None:
    with start_broker("embedded") as anybodys:
        async with (
            house(connect, anybodys.url, broker.root) as stranger,
            house(connect, broker.url, broker.root) as home,
            agent(tmp_path, [broker.url], broker.root, extra=words(broker.root)) as one,
        ):
            at = topics(one)
            url = BrokerUrl.parse(anybodys.url)
            await one.attending.use_found([BrokerUrl(host=url.host, port=url.port, version="3.1.1", is_found=True)])
            await until(lambda: all(each.is_connected for each in one.attachments) and len(list(one.attachments)) == 2)
            await until(lambda: at.state in home.said)
            await stranger.publish(at.pause, b"ON")
            await stranger.publish(f"{broker.root}-hass/status", b"online")
            await asyncio.sleep(3.0)  # longer than a broker of the owner's has to wait
            assert set(stranger.said) == {at.pause, f"{broker.root}-hass/status"}
            assert home.json(at.state)["paused"] == "OFF"


@contextmanager
def guarded(*users: str, home_assistant: str = "hass") -> Iterator[MosquittoBroker]:
    """A Mosquitto that knows these users, with the rules that we give it for them, and for Home Assistant."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd, which comes with Mosquitto's package")
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as folder:
        Path(folder).chmod(0o755)  # Mosquitto, started by root, reads the file as its own user
        passwords = Path(folder) / "passwords"
        passwords.touch()
        for user in users:
            subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, f"of {user}"], check=True)
        passwords.chmod(0o644)
        with MosquittoBroker(password_file=passwords, home_assistant=home_assistant) as running:
            yield running


@pytest.mark.mosquitto
async def test_with_the_brokers_own_rules_home_assistant_alone_commands(tmp_path: Path, connect: Connect) -> None:
    folder = tmp_path / "kitchen"
    peer = first_identity(folder / "state").peer_id
    secret = tmp_path / "secret"
    secret.write_text(f"of {peer}")
    secret.chmod(0o600)
    everything = ("homeassistant/#", "grapevine-homeassistant/#")
    login, shown = f'password_file = "{secret}"', "[homeassistant]\nenabled = true"
    with guarded(peer, "hass", "neighbour") as running:
        neighbour = await connect(running.url, username="neighbour", password="of neighbour", subscribe=everything)
        async with house(connect, running.url, username="hass", password="of hass", subscribe=everything) as home:
            async with agent(folder, [running.url], "grapevine/v1", mqtt=login, extra=shown) as one:
                assert one.home_assistant is not None
                at, counts = topics(one), one.home_assistant.counts
                await until(lambda: {at.config, at.state} <= set(home.said))
                for topic in (at.pause, "homeassistant/status", at.config):
                    with pytest.raises(BrokerError, match="refuses the message"):
                        await neighbour.transport.publish(topic, b"ON")
                await home.publish(at.pause, b"ON")
                await until(lambda: home.json(at.state)["paused"] == "ON", within_s=10)
                assert counts.keys() == {"said", "commands"}
                assert counts["commands"] == 1
                assert one.home_assistant.trouble == ""
            await until(lambda: home.said[at.availability] == b"offline")
        await neighbour.transport.disconnect()
        assert not [each for each in await neighbour.rest() if isinstance(each, Arrived)]


@pytest.mark.mosquitto
async def test_a_broker_whose_rules_leave_home_assistant_out_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = first_identity(tmp_path / "state").peer_id
    secret = tmp_path / "secret"
    secret.write_text(f"of {peer}")
    secret.chmod(0o600)
    login, shown = f'password_file = "{secret}"', "[homeassistant]\nenabled = true"
    with guarded(peer, home_assistant="") as running:
        async with agent(tmp_path, [running.url], "grapevine/v1", mqtt=login, extra=shown) as one:
            assert one.home_assistant is not None
            await until(lambda: "refuses the message" in (one.home_assistant.trouble if one.home_assistant else ""))
            assert "Home Assistant may not see this device" in caplog.text


@pytest.mark.mosquitto
@pytest.mark.timeout(400)
def test_a_task_is_shown_while_it_is_learned_and_left_by_a_button(tmp_path: Path) -> None:
    with start_broker("mosquitto") as running, household(tmp_path, running.url, "home/assistant") as home:
        broker = SharedBroker(url=running.url, root=home.root)
        cast = village(home, num_learners=1, extra=words(broker.root, "every_s = 5"))
        (learner,) = cast.learners
        cast.join()

        async def watch() -> None:
            transport = Transport([BrokerUrl.parse(broker.url)], client_id="hass")
            await transport.subscribe((f"{broker.root}-hass/#", 1), (f"{broker.root}-shown/#", 1))
            client = Client(transport, asyncio.create_task(transport.run()))
            await client.next(Connected)
            there = House(client)
            there.reading = asyncio.create_task(there.read())
            at = Topics(prefix=f"{broker.root}-hass", root=f"{broker.root}-shown", peer=learner.peer)
            key = cast.task[:16]
            await until(lambda: (there.json(at.task(key)).get("metric") or 0) > 10)
            assert 0 < there.json(at.task(key))["baseline"] <= 100
            assert there.json(at.state)["learns"] == "digits"
            before = there.json(at.task(key))["round"]
            await until(lambda: there.json(at.task(key))["round"] > before)
            description = there.said[at.config]
            await there.publish(at.leave(key), b"PRESS")
            await until(lambda: there.said[at.task(key)] == b"" and there.json(at.state)["tasks"] == 0)
            after = there.said[at.config]
            first, then = held_against_home_assistant([description, after])
            assert f"task_{key}_metric" in first["taken"]
            assert not [name for name in then["taken"] if key in name]
            assert json.loads(after)["components"][f"task_{key}_leave"] == {"platform": "button"}
            there.reading.cancel()
            await transport.disconnect()
            await client.task

        asyncio.run(watch())
        assert wait_for(lambda: not learner.task(cast.task)["joined"])
        assert "left digits by Home Assistant" in learner.log()
