"""A stream on the control socket: real sockets, and a real `Telling` behind the method."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.control import client
from grapevine_agent.control.client import stream
from grapevine_agent.control.protocol import NoServiceError
from grapevine_agent.control.server import ControlServer, Streamed
from grapevine_agent.control.streaming import astream
from grapevine_agent.core.events import Event, Joining, Placed
from grapevine_agent.core.moment import Moment
from grapevine_agent.service.telling import MAX_LISTENERS, RING, Telling
from grapevine_proto.errors import GrapevineError, RequestError

DEADLINE_S = 20.0
NOW = Moment(monotonic_s=1.0, wall_ms=5_000)


@dataclass
class Host:
    """A service that tells things, behind a socket."""

    path: Path
    telling: Telling
    server: ControlServer

    def tell(self, *events: Event) -> None:
        for each in events:
            self.telling.tell(each, NOW)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    telling = Telling("us", began_ms=4_000)

    async def answer(request: dict[str, Any]) -> Any:
        if request["method"] == "events":
            return Streamed(result=telling.about, lines=telling.listen(request["params"].get("after")))
        return "here"

    async with ControlServer(tmp_path / "agent.sock", answer) as server:
        yield Host(tmp_path / "agent.sock", telling, server)


def some(num: int, begin: int = 0) -> list[Event]:
    return [Placed(component=f"a/{number}") for number in range(begin, begin + num)]


def words(events: list[dict[str, Any]]) -> list[str]:
    return [each["component"] for each in events]


async def take(path: Path, num: int, after: int | None = None) -> list[dict[str, Any]]:
    """The first lines that the asynchronous client gets."""
    lines = astream(path, "events", {"after": after})
    async with asyncio.timeout(DEADLINE_S):
        found = [await anext(lines) for _ in range(num)]
    await lines.aclose()
    return found


async def test_who_listens_is_told_who_speaks_and_then_what_happens(host: Host) -> None:
    host.tell(*some(1))
    lines = astream(host.path, "events")
    assert await lines.begin() == {"peer": "us", "number": 1, "began_ms": 4_000}
    host.tell(Joining(task="t1", label="digits", why="approved"))
    assert await anext(lines) == {
        "event": "joining",
        "number": 2,
        "at_ms": 5_000,
        "peer": "us",
        "level": "info",
        "text": "digits: joining (approved)",
        "task": "t1",
        "label": "digits",
        "why": "approved",
    }
    await lines.aclose()


async def test_a_listener_resumes_where_it_was(host: Host) -> None:
    host.tell(*some(10))
    assert words(await take(host.path, 4, after=6)) == ["a/6", "a/7", "a/8", "a/9"]
    assert words(await take(host.path, 10, after=0)) == words(await take(host.path, 10, after=99))  # an earlier start's


async def test_many_listeners_hear_the_same_in_the_same_order(host: Host) -> None:
    lines = [astream(host.path, "events") for _ in range(MAX_LISTENERS)]
    for each in lines:
        await each.begin()
    with pytest.raises(RequestError, match="32 programs listen"):
        await astream(host.path, "events").begin()
    host.tell(*some(100))
    async with asyncio.timeout(DEADLINE_S):
        for each in lines:
            assert words([await anext(each) for _ in range(100)]) == [f"a/{number}" for number in range(100)]
            await each.aclose()
    await host.until(lambda: host.telling.num_listeners == 0)
    assert words(await take(host.path, 1, after=0)) == ["a/0"]  # there is room again


async def test_a_listener_that_does_not_read_costs_no_more_than_the_ring_and_is_told_what_it_missed(host: Host) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, str(host.path))
        await loop.sock_sendall(slow, b'{"method": "events"}\n')
        await host.until(lambda: host.telling.num_listeners == 1)
        others = astream(host.path, "events")
        await others.begin()
        for number in range(5 * RING):
            host.tell(*some(1, number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        host.tell(Placed(component="last"))
        reader, writer = await asyncio.open_unix_connection(sock=slow.dup())
        await reader.readline()
        heard: list[dict[str, Any]] = []
        async with asyncio.timeout(DEADLINE_S):
            while not heard or heard[-1].get("component") != "last":
                heard.append(json.loads(await reader.readline()))
        missed = [each["num"] for each in heard if each["event"] == "missed"]
        assert sum(missed) > 2 * RING
        assert sum(missed) + len(heard) - len(missed) == host.telling.number
        numbers = [each["number"] for each in heard]
        assert numbers == sorted(set(numbers))
        await others.aclose()
        writer.close()


async def test_who_hangs_up_or_says_something_else_listens_no_more(host: Host) -> None:
    for word in (b"", b'{"method": "status"}\n'):
        _, writer = await asyncio.open_unix_connection(str(host.path))
        writer.write(b'{"method": "events"}\n')
        await host.until(lambda: host.telling.num_listeners == 1)
        if word:
            writer.write(word)
        else:
            writer.close()
        await host.until(lambda: host.telling.num_listeners == 0)
        writer.close()


async def test_stopping_ends_every_stream_also_of_who_does_not_read(host: Host) -> None:
    reading, idle = astream(host.path, "events"), astream(host.path, "events")
    await reading.begin()
    await idle.begin()
    host.tell(*some(RING))
    await anext(reading)
    async with asyncio.timeout(DEADLINE_S):
        await host.server.stop()
        async for _ in reading:
            pass
        async for _ in idle:
            pass
    assert host.telling.num_listeners == 0
    with pytest.raises(NoServiceError):
        await astream(host.path, "events").begin()


async def test_a_program_without_an_event_loop_listens_as_well(host: Host) -> None:
    heard: list[str] = []
    refused: list[str] = []

    def listen() -> None:
        with stream(host.path, "events", {"after": 0}) as lines:
            assert lines.result["peer"] == "us"
            assert lines.read(0.01) is None
            begun.set()
            heard.extend(each["component"] for each in lines)
            with pytest.raises(EOFError, match="has ended"):
                lines.read()
        try:
            stream(host.path, "events")
        except GrapevineError as error:
            refused.append(str(error))

    begun = threading.Event()
    listening = asyncio.create_task(asyncio.to_thread(listen))
    await asyncio.to_thread(begun.wait, DEADLINE_S)
    host.tell(*some(200))
    await host.until(lambda: len(heard) == 200)
    await host.server.stop()
    await listening
    assert heard == words([{"component": f"a/{number}"} for number in range(200)])
    assert "no agent is running" in refused[0]


async def test_however_long_a_program_would_wait_it_hears_what_comes(host: Host) -> None:
    def listen() -> Any:
        with stream(host.path, "events", {"after": 0}) as lines:
            return [lines.read(timeout_s) for timeout_s in (1e12, 1e300)]

    host.tell(*some(2))
    assert [line["number"] for line in await asyncio.to_thread(listen)] == [1, 2]


async def test_who_waits_longer_than_a_socket_is_asked_at_a_time_waits_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.02)

    def listen() -> Any:
        with stream(host.path, "events", {"after": 0}) as lines:
            return lines.read(DEADLINE_S), lines.read(0.1)

    listening = asyncio.create_task(asyncio.to_thread(listen))
    await host.until(lambda: host.telling.num_listeners == 1)
    await asyncio.sleep(0.1)  # several times as long as a socket is asked
    host.tell(*some(1))
    line, none = await listening
    assert (line["number"], none) == (1, None)
