"""Agents that come, tell, freeze, end and are killed, as a page sees it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent.dashboard.browsing import act, ask, looking

from grapevine_agent.dashboard import feeds
from grapevine_agent.dashboard.serving import Dashboard, served
from grapevine_agent.dashboard.sources import Sources
from grapevine_agent.service import clock

DEADLINE_S = 20.0
ABOUT = {"task": "t" * 64, "label": "digits"}


class Scripted:
    """A scripted agent in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def tell(self, event: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps({"event": event, **fields}) + "\n").encode())
        await self.process.stdin.drain()

    async def asked(self) -> list[Any]:
        assert self.process.stdout is not None
        asked: list[Any] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S))
        return asked


@asynccontextmanager
async def scripted(folder: Path, peer: str, name: str) -> AsyncIterator[Scripted]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    words = ("-m", "tests.unit.agent.dashboard.scripted_agent", str(folder / "agent.sock"), peer, name)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Scripted(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


@asynccontextmanager
async def shown(folder: Path, **options: Any) -> AsyncIterator[Dashboard]:
    sources = Sources(kind="lab", name="a lab", sockets=(f"{folder}/*/agent.sock",), **options)
    async with served(sources, say=print) as (dashboard, _):
        yield dashboard


async def seen(dashboard: Dashboard, is_so: Callable[[dict[str, Any]], bool], within_s: float = DEADLINE_S) -> Any:
    """The state, once it is as it should be."""
    async with asyncio.timeout(within_s):
        while not is_so(state := (await ask(dashboard, "/api/state")).json):
            await asyncio.sleep(0.05)
    return state


def state_of(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda state: next((each["state"] for each in state["peers"] if each["name"] == name), "unknown")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "ASK_S", 0.5)
    monkeypatch.setattr(feeds, "ANSWER_S", 0.5)
    monkeypatch.setattr(feeds, "LOOK_FOR_S", 0.1)


async def test_what_agents_tell_is_shown_and_what_they_told_before_comes_first(tmp_path: Path) -> None:
    async with scripted(tmp_path / "a", "aa", "ada") as ada:
        await ada.tell("joined", **ABOUT, role="member", begins_with="initial", age=0)
        async with shown(tmp_path) as dashboard:
            async with looking(dashboard) as events:
                kind, state = await anext(events)
                assert kind == "state"
                await ada.tell("received", **ABOUT, sender="bb", what="update", num_bytes=900, version=3, age=30)
                async for kind, patch in events:
                    assert kind == "patch"
                    if "links" in patch:
                        assert patch["links"][0]["from"] == "bb"
                        break
            await seen(dashboard, lambda state: len(state["peers"]) == 3 and state["peers"][0]["memory_mb"])
            state = (await ask(dashboard, "/api/state")).json
            by_name = {each["name"]: each for each in state["peers"]}
            assert by_name["ada"] | {"joules_today": 0} == {
                **by_name["ada"],
                "profile": "raspberry-pi-4b",
                "site": "lakeside",
                "state": "alive",
                "own": True,
                "rejected": 3,
                "bytes_today": 5_000,
                "joules_today": 0,
                "temperature_c": 44.5,
                "memory_mb": 91.5,
                "brokers": ["mqtt://hub.local:1883"],
                "tasks": [ABOUT["task"]],
            }
            assert by_name["far away"]["own"] is False
            assert [each["event"] for each in state["log"]] == ["joined"]
            detail = (await ask(dashboard, "/api/peers/aa")).json
            assert detail["traffic"][0]["received_bytes"] == 900
            assert ["profile", "raspberry-pi-4b"] in detail["facts"]


async def test_an_agent_that_is_killed_one_that_ends_and_one_that_freezes_are_told_apart(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path / "a", "aa", "ada") as ada,
        scripted(tmp_path / "b", "bb", "bob") as bob,
        scripted(tmp_path / "c", "cc", "cleo") as cleo,
        shown(tmp_path) as dashboard,
    ):
        await seen(dashboard, lambda state: sum(each["own"] for each in state["peers"]) == 3)
        ada.process.kill()
        bob.process.terminate()
        cleo.process.send_signal(signal.SIGSTOP)
        await seen(dashboard, lambda state: state_of("ada")(state) == "killed", within_s=3)
        await seen(dashboard, lambda state: state_of("bob")(state) == "offline", within_s=3)
        await seen(dashboard, lambda state: state_of("cleo")(state) == "silent")
        cleo.process.send_signal(signal.SIGCONT)
        await seen(dashboard, lambda state: state_of("cleo")(state) == "alive")
        async with scripted(tmp_path / "a", "aa", "ada") as again:
            await seen(dashboard, lambda state: state_of("ada")(state) == "alive")
            await again.tell("joined", **ABOUT, role="server", begins_with="saved", age=0)
            await seen(dashboard, lambda state: any(each["role"] == "server" for each in state["peers"]))


async def test_agents_are_asked_to_act_and_what_they_refuse_is_said(tmp_path: Path) -> None:
    async with scripted(tmp_path / "a", "aa", "ada") as ada, shown(tmp_path) as dashboard:
        await seen(dashboard, lambda state: any(each["own"] for each in state["peers"]))
        assert (await act(dashboard, "approve", {"task": "t"}, {"Authorization": "Bearer no"})).status == 401
        answer = await act(dashboard, "approve", {"task": "t", "reason": "it is fine"})
        assert answer.json == {"ok": True, "text": "digits: approved"}
        assert await ada.asked() == ["review", {"task": "t", "approved": True, "reason": "it is fine"}]
        answer = await act(dashboard, "reject", {"task": "unknown", "reason": "no", "peer": None})
        assert (answer.status, answer.json["error"]) == (
            409,
            "unknown: there is no such task; look at `grapevine tasks`",
        )
        await ada.asked()
        assert (await act(dashboard, "pause", {"peer": "aa", "minutes": 2})).json["text"] == "ada: paused"
        assert await ada.asked() == ["pause", {"for_s": 120.0}]
        assert (await act(dashboard, "resume", {"peer": "aa", "task": "t"})).json["text"] == "ada: resumed"
        assert await ada.asked() == ["resume", {"task": "t"}]
        for name, params, status in (
            ("reject", {"task": "t", "reason": " "}, 400),
            ("approve", {"task": 5}, 400),
            ("pause", {}, 400),
            ("pause", {"peer": "aa", "minutes": -1}, 400),
            ("pause", {"peer": "aa", "minutes": "1"}, 400),
            ("pause", {"peer": "stranger"}, 409),
            ("pause", {"peer": "\ud800"}, 409),  # half a character, which no answer can hold
        ):
            assert (await act(dashboard, name, params)).status == status


async def test_what_the_lab_knows_of_its_machines_is_believed(tmp_path: Path) -> None:
    told = {"ada": "running"}
    options = {"states": lambda: dict(told), "broker_of": lambda name, url: f"broker of {name}"}
    async with scripted(tmp_path / "a", "aa", "ada"), shown(tmp_path, **options) as dashboard:
        state = await seen(dashboard, lambda state: bool(state["brokers"]))
        assert [each["id"] for each in state["brokers"]] == ["broker of ada"]
        told["ada"] = "paused"
        await seen(dashboard, lambda state: state_of("ada")(state) == "paused")
        told["ada"] = "running"
        await seen(dashboard, lambda state: state_of("ada")(state) == "alive")


async def test_an_agent_whose_answers_are_nonsense_keeps_nobody_from_being_asked(tmp_path: Path) -> None:
    async with scripted(tmp_path / "n", "nn", "nonsense") as nonsense, shown(tmp_path) as dashboard:
        await seen(dashboard, lambda state: state_of("nonsense")(state) == "alive")
        while (await nonsense.asked())[0] != "peers":
            pass
        async with scripted(tmp_path / "a", "aa", "ada"):
            await seen(dashboard, lambda state: any(each["memory_mb"] for each in state["peers"]))


async def test_an_agent_that_cannot_be_reached_is_not_taken_for_killed(tmp_path: Path) -> None:
    async with scripted(tmp_path / "a", "aa", "ada") as ada, shown(tmp_path) as dashboard:
        await seen(dashboard, lambda state: state_of("ada")(state) == "alive")
        ada.process.send_signal(signal.SIGSTOP)
        path = tmp_path / "a" / "agent.sock"
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another:
            another.bind(str(path))  # connecting fails, and not because nobody listens
            ada.process.kill()
            await seen(dashboard, lambda state: state_of("ada")(state) == "silent")
            path.unlink()
            await seen(dashboard, lambda state: state_of("ada")(state) == "offline")


def test_a_dashboard_may_follow_as_many_agents_as_the_system_lets_it_open_files() -> None:
    code = (
        "import resource as r; from grapevine_agent.dashboard.serving import make_room_for_files as make;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 900)); make(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "(900, 900)\n"


async def test_a_socket_that_nobody_may_open_or_that_is_no_agent_harms_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"hello\n")
        writer.close()

    (tmp_path / "z").mkdir()
    server = await asyncio.start_unix_server(chatter, tmp_path / "z" / "agent.sock")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "agent.sock").write_text("no socket")
    sources = Sources(kind="lab", name="a lab", sockets=(f"{tmp_path}/*/agent.sock",))
    async with server, scripted(tmp_path / "a", "aa", "ada"), served(sources, say=said.append) as (dashboard, _):
        await seen(dashboard, lambda state: state_of("ada")(state) == "alive")
    assert any("z/agent.sock" in each for each in said)


async def test_a_page_of_agents_begins_again_when_the_clock_of_this_machine_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_back_ms, real = 0, clock.now
    monkeypatch.setattr(clock, "now", lambda: replace(real(), wall_ms=real().wall_ms - set_back_ms))
    async with scripted(tmp_path / "a", "aa", "ada") as ada, shown(tmp_path) as dashboard:
        await ada.tell("joined", **ABOUT, role="member", begins_with="initial", age=0)
        before = await seen(dashboard, lambda state: bool(state["log"]))
        async with looking(dashboard) as events:
            assert (await anext(events))[0] == "state"
            set_back_ms = 3_600_000
            kind, told = await anext(events)
            while kind != "state":
                kind, told = await anext(events)
        assert told["log"][0]["at_ms"] <= before["log"][0]["at_ms"] - 3_500_000
        await seen(
            dashboard, lambda state: before["now_ms"] - 3_600_000 < state["now_ms"] < before["now_ms"] - 3_500_000
        )
