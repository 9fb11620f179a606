"""What a browser would say to a dashboard, byte by byte: so that tests can say what no browser does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grapevine_agent.dashboard.serving import Dashboard, served
from grapevine_agent.dashboard.sources import Sources
from grapevine_lab.bench.made_events import MadeSwarm

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    dashboard: Dashboard,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str | None] | None = None,
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own; a header that is None is left out."""
    host, port = address_of(dashboard)
    told = {"Host": f"{host}:{port}", "Connection": "close", **(headers or {})}
    if body:
        told.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value is not None)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        async with asyncio.timeout(DEADLINE_S):
            return answer_of(await reader.read())
    finally:
        writer.close()


async def act(
    dashboard: Dashboard, name: str, params: object = None, headers: Mapping[str, str | None] | None = None
) -> Answer:
    """An action, as the dashboard's own page asks for it."""
    own: dict[str, str | None] = {
        "Origin": dashboard.url.rstrip("/"),
        "Authorization": f"Bearer {dashboard.token}",
        "Content-Type": "application/json",
    }
    body = params if isinstance(params, bytes) else json.dumps({} if params is None else params).encode()
    return await ask(dashboard, f"/api/actions/{name}", method="POST", headers={**own, **(headers or {})}, body=body)


def address_of(dashboard: Dashboard) -> tuple[str, int]:
    parts = urlsplit(dashboard.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def answer_of(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    return Answer(int(line.split(" ")[1]), headers, body)


@asynccontextmanager
async def looking(dashboard: Dashboard) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """A stream of events, each with its kind."""
    host, port = address_of(dashboard)
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    writer.write(f"GET /api/stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())

    async def events() -> AsyncIterator[tuple[str, Any]]:
        kind = ""
        while line := await asyncio.wait_for(reader.readline(), DEADLINE_S):
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])

    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        assert head.startswith(b"HTTP/1.1 200"), head
        yield events()
    finally:
        writer.close()


def made_file(folder: Path, num_peers: int = 4, seconds: float = 60) -> Path:
    """A file of events."""
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in MadeSwarm(num_peers).events(seconds)))
    return path


@asynccontextmanager
async def replayed(folder: Path, **options: Any) -> AsyncIterator[Dashboard]:
    """A dashboard of made events, all at once."""
    sources = Sources(kind="replay", name="made", file=made_file(folder), actions=options.pop("actions", {}))
    async with served(sources, **{"say": print, "speed": 0.0, **options}) as (dashboard, _):
        yield dashboard
