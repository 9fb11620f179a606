"""The dashboard as a process: what is shown, fed and served in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
import webbrowser
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

from grapevine_agent.dashboard.acting import Actions
from grapevine_agent.dashboard.app import make_app
from grapevine_agent.dashboard.hub import Hub
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.replaying import replay
from grapevine_agent.dashboard.sources import Sources
from grapevine_proto.errors import ConfigError, GrapevineError

logger = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 128
LONGEST_HEAD: Final = 16_384  # bytes of a request's line and headers
END_S: Final = 2


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One that is being served."""

    url: str
    token: str
    overview: Overview
    hub: Hub

    @property
    def url_for_actions(self) -> str:
        """With the token behind a #: browsers send nothing of that, so it stands in no log."""
        return f"{self.url}#token={self.token}"


def serve(
    sources: Sources,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    speed: float = 1.0,
    say: Callable[[str], None],
    open_page: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises `ConfigError` where it cannot listen, or the file is no file of events."""
    asyncio.run(_serve(sources, host=host, port=port, speed=speed, say=say, open_page=open_page))


async def _serve(
    sources: Sources, *, host: str, port: int, speed: float, say: Callable[[str], None], open_page: bool
) -> None:
    async with served(sources, host=host, port=port, speed=speed, say=say) as (dashboard, ended):
        acts = f"  (actions: {dashboard.url_for_actions})" if dashboard.overview.source["actions"] else ""
        say(f"dashboard: {dashboard.url}{acts}")
        if open_page:
            await asyncio.to_thread(_open, dashboard.url)
        await ended


@contextlib.asynccontextmanager
async def served(
    sources: Sources, *, host: str = "127.0.0.1", port: int = 0, speed: float = 1.0, say: Callable[[str], None]
) -> AsyncIterator[tuple[Dashboard, asyncio.Task[None]]]:
    """A dashboard that is served for as long as the context lasts, and the task that ends with it."""
    listener = _listen(host, port)
    actions = Actions(of_lab=sources.actions)
    overview = Overview(
        title=sources.name,
        source={"kind": sources.kind, "name": sources.name, "actions": list(actions.names)},
        speed=speed if sources.file is not None else 1.0,
        broker_of=sources.broker_of,
    )
    hub, token = Hub(overview), secrets.token_urlsafe(24)
    server = _Server(make_app(overview=overview, hub=hub, actions=actions, token=token, host=host), hub)
    is_live = sources.file is None
    running = [
        asyncio.create_task(hub.run((lambda: int(time.time() * 1e3)) if is_live else lambda: None), name="hub"),
        asyncio.create_task(_feed(sources, overview, speed, say), name="feed"),
    ]
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        shown_port = listener.getsockname()[1]
        url = f"http://{_in_url(host)}:{shown_port}/"
        yield Dashboard(url=url, token=token, overview=overview, hub=hub), serving
    finally:
        hub.close()
        server.should_exit = True
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()


async def _feed(sources: Sources, overview: Overview, speed: float, say: Callable[[str], None]) -> None:
    if sources.file is None:
        return
    try:
        await replay(sources.file, overview, speed, time.monotonic)
    except GrapevineError as error:
        say(str(error))


class _Server(uvicorn.Server):
    """Ends the streams when it is told to end: they would never end by themselves."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        super().__init__(
            uvicorn.Config(
                cast("Any", app),  # Starlette's word for the same thing
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=LONGEST_HEAD,
                timeout_graceful_shutdown=END_S,
            )
        )
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self._hub.close()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError`, with what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host}: is no address of this machine ({error}); write 127.0.0.1, or one that is"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}); is another dashboard there? "
            "Choose another port with --port, 0 for any that is free"
        ) from None
    return listener


def _in_url(host: str) -> str:
    """An address as a browser on this machine opens it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what was asked for
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _open(url: str) -> None:
    """Show the page, where there is a screen. Without the token: a browser's command line is no secret."""
    has_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_screen and sys.stdout.isatty():
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)
