"""Whom a command reaches when the configuration has a fault by now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.cli.asking import ask_running
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.control.server import ControlServer
from grapevine_proto.errors import ConfigError

BROKEN = '[agent]\nstate_dir = "state"\nnmae = "kitchen"\n'


@contextmanager
def answering(folder: Path) -> Iterator[None]:
    """An agent that answers every request with its method."""

    async def answer(request: dict[str, Any]) -> Any:
        return {"asked": request["method"]}

    async def serve() -> None:
        server = ControlServer(folder / SOCKET_FILE, answer)
        await server.start()
        listening.set()
        await asyncio.to_thread(over.wait)
        await server.stop()

    folder.mkdir()
    listening, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    listening.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("text", [BROKEN, '[agent]\nstate_dir = "state"\n[governor]\nquiet_hours = ["22"]\n'])
def test_a_running_agent_is_reached_though_its_file_has_a_fault(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(text)
    with answering(tmp_path / "state"):
        assert ask_running(config, "pause", {}) == {"asked": "pause"}
    said = capsys.readouterr().err
    assert "line 3" in said or "line 4" in said
    assert "the running agent goes on with what it read before" in said


def test_where_no_agent_runs_the_fault_is_what_is_told(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(BROKEN)
    with pytest.raises(ConfigError, match="nmae"):
        ask_running(config, "status", {})


def test_a_file_that_is_no_toml_is_read_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[agent\n")
    monkeypatch.setenv("GRAPEVINE_STATE_DIR", str(tmp_path / "state"))
    with answering(tmp_path / "state"):
        assert ask_running(config, "status", {}) == {"asked": "status"}
