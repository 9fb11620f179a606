"""Brokers that are found by mDNS, and one that agents elect where there is none. All of it on the loopback network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.agents import agent, agents, status

from grapevine_agent.config.agent_toml import Connect, load_config
from grapevine_agent.core.overlay.election import rank_of
from grapevine_agent.net.discovery import Discovery
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.shell import AgentService
from grapevine_broker import RunningBroker, start_broker
from grapevine_broker.probe import claim_port
from grapevine_lab.overlay.here import until
from grapevine_proto.errors import BrokerError, ConfigError

pytest.importorskip("zeroconf")

HERE = "127.0.0.1"
DISCOVER = f'discover = true\ndiscover_on = "{HERE}"'


@pytest.fixture(scope="module", autouse=True)
def multicast() -> None:
    """Skip where the loopback network carries no mDNS."""
    if why := asyncio.run(_why_no_multicast()):
        pytest.skip(why)


async def _why_no_multicast() -> str:
    heard = asyncio.Event()
    here, there = Discovery(address=HERE, changed=heard.set), Discovery(address=HERE, changed=lambda: None)
    try:
        await here.open()
        await there.open()
        await there.announce("grapevine-probe", addresses=(HERE,), port=1, text={"root": "probe"})
        async with asyncio.timeout(5.0):
            await heard.wait()
    except (BrokerError, TimeoutError) as error:
        return f"multicast does not work on the loopback network: {error!r}"
    finally:
        await here.close()
        await there.close()
    return ""


@asynccontextmanager
async def announced(broker: RunningBroker, *, root: str = "", name: str = "hub") -> AsyncIterator[None]:
    """Say that a broker is there, as its owner would with avahi."""
    discovery = Discovery(address=HERE, changed=lambda: None)
    await discovery.open()
    try:
        text = {"root": root} if root else {}
        port = int(broker.url.rpartition(":")[2].partition("?")[0])
        await discovery.announce(f"{name}-{port}", addresses=(HERE,), port=port, text=text)
        yield
    finally:
        await discovery.close()


def silent() -> str:
    """Where no broker is."""
    return f"mqtt://{HERE}:{claim_port(HERE, 0)}"


def sees(service: AgentService, other: AgentService) -> bool:
    peer = service.core.members.peers.get(other.identity.peer_id)
    return peer is not None and peer.online


def found(service: AgentService) -> list[str]:
    assert service.discovering is not None
    return service.discovering.status()["found"]  # type: ignore[no-any-return]


@pytest.mark.mosquitto
async def test_a_broker_of_our_root_is_found_beside_the_owners_and_left_when_it_goes(tmp_path: Path) -> None:
    root = "found1"
    with start_broker("mosquitto") as own, start_broker("mosquitto") as other, start_broker("mosquitto") as strange:
        async with agents(
            agent(tmp_path / "a", [own.url], root, mqtt=DISCOVER),
            agent(tmp_path / "b", [other.url], root),
            announced(strange, root="another"),
            announced(strange),
        ) as (ada, bob, *_):
            async with announced(other, root=root):
                await until(lambda: sees(ada, bob) and sees(bob, ada))
                shown = await status(ada)
                assert [(each["found"], each["connected"]) for each in shown["brokers"]] == [
                    (False, True),
                    (True, True),
                ]
                assert shown["brokers"][1]["url"] == other.url
                assert found(ada) == [other.url]
            await until(lambda: len(list(ada.attachments)) == 1)  # withdrawn
            await until(lambda: not sees(ada, bob) and not sees(bob, ada))


@pytest.mark.mosquitto
async def test_what_the_owner_configured_is_not_found_once_more(tmp_path: Path) -> None:
    root = "found2"
    with start_broker("mosquitto") as own, start_broker("mosquitto") as other:
        async with (
            announced(own, root=root),
            announced(other, root=root),
            agent(tmp_path / "a", [own.url.replace(HERE, "localhost")], root, mqtt=DISCOVER) as ada,
        ):
            await until(lambda: found(ada) == [other.url])
            await until(lambda: all(each.is_connected for each in ada.attachments))
            assert len(list(ada.attachments)) == 2


@pytest.mark.mosquitto
async def test_with_one_connection_a_found_broker_is_tried_behind_the_others(tmp_path: Path) -> None:
    root = "found3"
    with start_broker("mosquitto") as other:
        async with (
            agent(tmp_path / "a", [silent()], root, mqtt=DISCOVER, connect="first", met=False) as ada,
            announced(other, root=root),
        ):
            await until(lambda: ada.attachments[0].is_connected)
            assert (await status(ada))["brokers"][0]["found"]


@pytest.mark.mosquitto
@pytest.mark.parametrize("connect", ["all", "first"])
async def test_a_found_broker_hears_nothing_of_sensors_and_brings_none(tmp_path: Path, connect: Connect) -> None:
    root = f"found5-{connect}"
    source = '[[data]]\nkind = "climate"\nsource = "mqtt"\ntopic = "home/+"\nevery_s = 1'
    sensor, stranger = f'{source}\n[data.columns]\ntemperature = "$"', "x" * 20
    with start_broker("mosquitto") as other:
        client = Transport([BrokerUrl.parse(other.url)], client_id="stranger")
        running = asyncio.create_task(client.run())
        async with (
            agent(tmp_path / "a", [silent()], root, mqtt=DISCOVER, extra=sensor, connect=connect, met=False) as ada,
            announced(other, root=root),
        ):
            await until(lambda: bool(ada.attending.met()))
            await until(lambda: client.connected_to is not None)
            for _ in range(3):
                await client.publish("home/kitchen", b"21.5")
                await client.publish(
                    f"{root}/inbox/{ada.identity.peer_id}/{stranger}", b"junk"
                )  # which comes behind it
                await asyncio.sleep(0.1)
            await until(lambda: sum(ada.rejected.values()) >= 3)
            assert ada.recording is not None
            assert sum(ada.recording.counts().values()) == 0
        await client.disconnect()
        await running


async def test_a_found_broker_is_sent_no_secret(tmp_path: Path) -> None:
    root, connects = "found4", asyncio.Queue[bytes]()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"MQTT" in (said := await reader.read(4096)):  # and is not only asked what it speaks
            connects.put_nowait(said)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    (tmp_path / "password").write_text("open-sesame")
    (tmp_path / "password").chmod(0o600)
    login = f'username = "ada"\npassword_file = "{tmp_path / "password"}"'
    for connect in ("first", "all"):
        server = await asyncio.start_server(take, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        discovery = Discovery(address=HERE, changed=lambda: None)
        await discovery.open()
        await discovery.announce(f"thief-{port}", addresses=(HERE,), port=port, text={"root": root})
        folder = tmp_path / connect
        async with agent(folder, [silent()], root, mqtt=f"{DISCOVER}\n{login}", connect=connect, met=False) as ada:
            sent = await asyncio.wait_for(connects.get(), 30.0)
            assert f"{ada.identity.peer_id}-".encode() in sent  # a client id of its own, and of this address
            assert b"open-sesame" not in sent
            assert sent[sent.index(b"MQTT") + 5] & 0b1100_0000 == 0  # no user name, no password
        await discovery.close()
        server.close()
        await server.wait_closed()


# --- an elected broker ----------------------------------------------------------------------------

HOST = f"{DISCOVER}\nhost_broker = true\nhost_after_s = 1.0"


def standing(service: AgentService) -> str:
    assert service.discovering is not None
    return str(service.discovering.status()["standing"])


def one_hosts(services: list[AgentService]) -> bool:
    return sorted(map(standing, services)) == ["hosting", *["waiting"] * (len(services) - 1)]


def all_meet(services: list[AgentService]) -> bool:
    return all(sees(one, other) for one in services for other in services if one is not other)


def ranked(services: list[AgentService]) -> list[AgentService]:
    return sorted(services, key=lambda each: rank_of(each.root, each.identity.peer_id))


@pytest.mark.parametrize("connect", ["all", "first"])
async def test_where_every_broker_is_silent_one_is_elected_and_the_next_when_its_host_goes(
    tmp_path: Path, connect: Connect
) -> None:
    root, nowhere = f"elected-{connect}", silent()
    async with AsyncExitStack() as stack:
        each = [
            await stack.enter_async_context(
                agent(tmp_path / name, [nowhere], root, mqtt=HOST, connect=connect, met=False)
            )
            for name in "abc"
        ]
        await until(lambda: one_hosts(each) and all_meet(each))
        host = next(one for one in each if standing(one) == "hosting")
        host.stop()
        others = [one for one in each if one is not host]
        await until(lambda: one_hosts(others) and all_meet(others))


async def test_a_hosted_broker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    root, nowhere = "killed", silent()
    async with agents(
        agent(tmp_path / "a", [nowhere], root, mqtt=HOST, met=False),
        agent(tmp_path / "b", [nowhere], root, mqtt=HOST, met=False),
    ) as both:
        await until(lambda: one_hosts(both) and all_meet(both))
        host = next(one for one in both if standing(one) == "hosting")
        assert host.discovering is not None
        assert host.discovering.hosting is not None
        assert host.discovering.hosting._broker is not None
        os.kill(host.discovering.hosting._broker.pid, signal.SIGKILL)
        await until(lambda: not any(each.attending.met() for each in both))
        await until(lambda: one_hosts(both) and all_meet(both))


@pytest.mark.parametrize("connect", ["all", "first"])
async def test_of_two_that_host_the_one_of_higher_rank_remains(tmp_path: Path, connect: Connect) -> None:
    root, nowhere = f"ranked-{connect}", silent()
    async with agents(
        agent(tmp_path / "a", [nowhere], root, mqtt=HOST, connect=connect, met=False),
        agent(tmp_path / "b", [nowhere], root, mqtt=HOST, connect=connect, met=False),
    ) as both:
        low, high = ranked(both)
        await until(lambda: one_hosts(both))
        for one in both:  # as if neither had heard of the other in time
            assert one.discovering is not None
            assert one.discovering.hosting is not None
            if standing(one) == "waiting":
                one.discovering.hosting.election.standing = "hosting"
                await one.discovering.hosting._begin()
        await until(lambda: standing(high) == "hosting" and standing(low) == "waiting" and all_meet(both))


@pytest.mark.mosquitto
@pytest.mark.parametrize("connect", ["all", "first"])
async def test_an_elected_broker_ends_when_the_owners_is_back(tmp_path: Path, connect: Connect) -> None:
    root = f"back-{connect}"
    with start_broker("mosquitto") as own:
        async with agents(
            agent(tmp_path / "a", [own.url], root, mqtt=HOST, connect=connect),
            agent(tmp_path / "b", [own.url], root, mqtt=HOST, connect=connect),
        ) as both:
            await until(lambda: all_meet(both))
            assert [standing(each) for each in both] == ["waiting", "waiting"]
            own.kill()
            await until(lambda: one_hosts(both) and all_meet(both))
            own.start()
            await until(
                lambda: (
                    all(own.url in [str(url) for url in each.attending.met()] for each in both)
                    and [standing(each) for each in both] == ["waiting", "waiting"]
                    and all_meet(both)
                )
            )
            await until(lambda: not any(map(found, both)))


async def test_a_device_that_is_too_small_hosts_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    file = folder / "agent.toml"
    file.write_text(
        f'[agent]\nstate_dir = "{folder / "state"}"\nprofile = "small-board-512mb"\n'
        "[mqtt]\ndiscover = true\nhost_broker = true\n"
    )
    too_small = pytest.raises(ConfigError, match="small-board-512mb' is of a device that is too small")
    with too_small, assembled(load_config(file, {})):
        pass
