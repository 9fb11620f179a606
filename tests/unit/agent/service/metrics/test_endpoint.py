"""`/metrics` over real sockets: what is answered, and what may be sent to it."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from tests.ports import free_port
from tests.unit.agent.service.shown import FIGURES

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.metrics import MetricsConfig
from grapevine_agent.identity import first_identity
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.figures import Figures
from grapevine_agent.service.metrics import endpoint as endpoint_module
from grapevine_agent.service.metrics.endpoint import LONGEST_REQUEST, MOST_CONNECTIONS, Endpoint
from grapevine_lab.overlay.here import until
from grapevine_proto.errors import ConfigError

PAGE = b"grapevine_uptime_seconds 12.5\n"


def played(figures: Figures, version: str, accept: str) -> tuple[bytes, str]:
    assert (figures, version) == (FIGURES, "0.1.0")
    return PAGE, f"text/plain; asked={accept}"


async def look() -> Figures:
    return FIGURES


@asynccontextmanager
async def listening(port: int | None = None) -> AsyncIterator[Endpoint]:
    made = Endpoint(config=MetricsConfig(port=port or free_port()), look=look, version="0.1.0", render=played)
    running = asyncio.create_task(made.run())
    try:
        await until(lambda: made.is_listening or bool(made.trouble), running=running)
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


async def asked(endpoint: Endpoint, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint._config.port)
    try:
        writer.write(request)
        if not request.endswith(b"\r\n\r\n"):
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def test_a_page_is_answered_and_its_connection_closed() -> None:
    async with listening() as endpoint:
        answer = await asked(endpoint, b"GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT:  text/plain\r\n\r\n")
        head, _, page = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; asked=text/plain\r\n")
        assert f"Content-Length: {len(PAGE)}".encode() in head
        assert page == PAGE
        assert endpoint.status()["answered"] == 1
        head = await asked(endpoint, b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n")
        assert head.endswith(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics FTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 2 * LONGEST_REQUEST, b"400"),
    ],
)
async def test_anything_else_is_told_so(request_: bytes, status: bytes) -> None:
    async with listening() as endpoint:
        assert (await asked(endpoint, request_)).startswith(b"HTTP/1.1 " + status)
        assert (await asked(endpoint, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(PAGE)


async def test_who_says_nothing_is_cut_off_and_many_of_them_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "REQUEST_S", 0.5)
    async with listening() as endpoint:
        silent = [await asyncio.open_connection("127.0.0.1", endpoint._config.port) for _ in range(MOST_CONNECTIONS)]
        await until(lambda: endpoint._num_open == MOST_CONNECTIONS)
        with suppress(ConnectionResetError):
            assert await asked(endpoint, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
        assert endpoint.num_answered == 0
        await until(lambda: endpoint._num_open == 0)
        assert (await asked(endpoint, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(PAGE)
        for _, writer in silent:
            writer.close()


async def test_a_port_that_is_taken_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint_module, "AGAIN_S", 0.05)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with listening(other.getsockname()[1]) as endpoint:
            assert "is another program there? Write another port" in endpoint.trouble
            await asyncio.sleep(0.2)
            other.close()
            await until(lambda: endpoint.is_listening)
            assert endpoint.trouble == ""
    assert caplog.text.count("another port") == 1


async def test_a_device_without_the_library_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first_identity(tmp_path / "state")
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[metrics]\nenabled = true')
    config = load_config(path, {})
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prometheus_client" else find(name))
    with pytest.raises(ConfigError, match=r"metrics\.enabled needs prometheus-client.*\[metrics\]"), assembled(config):
        pass
    with assembled(config, guest=True) as service:  # a command needs none of it
        assert service.endpoint is None
