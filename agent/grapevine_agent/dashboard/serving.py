"""The dashboard as a process: what is shown, fed and served in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import socket
import sys
import time
import webbrowser
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias, cast

import uvicorn
from starlette.types import ASGIApp

from grapevine_agent.dashboard.acting import Actions
from grapevine_agent.dashboard.app import make_app
from grapevine_agent.dashboard.clocks import Steps
from grapevine_agent.dashboard.connections import Connection
from grapevine_agent.dashboard.feeds import Feeds
from grapevine_agent.dashboard.hub import PATCH_S, Hub
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.replaying import replay
from grapevine_agent.dashboard.sources import Sources
from grapevine_agent.service import clock
from grapevine_proto.errors import ConfigError, GrapevineError

logger = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 128
LONGEST_HEAD: Final = 16_384  # bytes of a request's line and headers
OPEN_FILES: Final = 8_192  # as many as agents can be followed, thrice
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
    make_room_for_files()
    asyncio.run(_serve(sources, host=host, port=port, speed=speed, say=say, open_page=open_page))


def make_room_for_files() -> None:
    """Raise this process's limit of open files: each agent that is followed takes one, and another when it is asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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
    feed, actions, overview = _prepared(sources, speed, say)
    hub, token = Hub(overview), secrets.token_urlsafe(24)
    server = _Server(make_app(overview=overview, hub=hub, actions=actions, token=token, host=host), hub)
    feeding = asyncio.create_task(feed(hub), name="feed")
    feeding.add_done_callback(lambda _: server.stop())  # it ends by itself only if something is wrong with it
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        url = f"http://{_in_url(host)}:{listener.getsockname()[1]}/"
        yield Dashboard(url=url, token=token, overview=overview, hub=hub), serving
    finally:
        server.stop()
        feeding.cancel()
        (fault, *_) = await asyncio.gather(feeding, serving, return_exceptions=True)
        listener.close()
        if isinstance(fault, Exception):
            raise fault


Feed: TypeAlias = Callable[[Hub], Coroutine[Any, Any, None]]


def _prepared(sources: Sources, speed: float, say: Callable[[str], None]) -> tuple[Feed, Actions, Overview]:
    """What feeds the page, what can be done there, and what it shows."""
    feeds: Feeds | None = None

    async def ask(peer: str, method: str, params: Mapping[str, Any]) -> Any:
        assert feeds is not None
        return await feeds.ask(peer, method, params)

    def name_of(peer: str) -> str:
        known = overview.book.peers.get(peer)
        return known.name if known is not None and known.name else peer

    actions = Actions(ask=ask if sources.file is None else None, of_lab=sources.actions, name_of=name_of)
    overview = Overview(
        title=sources.name,
        source={"kind": sources.kind, "name": sources.name, "actions": list(actions.names)},
        speed=1.0 if sources.file is None else speed,
        broker_of=sources.broker_of,
    )
    if sources.file is not None:
        return partial(_replay, sources.file, overview, speed, say), actions, overview
    feeds = Feeds(sources, overview, now_ms=lambda: clock.now().wall_ms, say=say)
    return partial(_follow, feeds), actions, overview


async def _replay(path: Path, overview: Overview, speed: float, say: Callable[[str], None], hub: Hub) -> None:
    telling = asyncio.create_task(hub.run(), name="hub")
    try:
        try:
            await replay(path, overview, speed, time.monotonic)
        except GrapevineError as error:
            say(str(error))
        await telling
    finally:
        telling.cancel()


async def _follow(feeds: Feeds, hub: Hub) -> None:
    following, steps = asyncio.create_task(feeds.run(), name="feeds"), Steps(clock.now)
    try:
        await feeds.begin()
        while not following.done():
            if step_ms := steps.since():
                hub.clock_set(step_ms)
            await feeds.drain()
            hub.advance(clock.now().wall_ms)
            await asyncio.sleep(PATCH_S)
        following.result()  # nobody follows any more: that ends the dashboard, and says why
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


class _Server(uvicorn.Server):
    """Ends the streams when it is told to end: they would never end by themselves."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what strangers send is nothing to warn of
        super().__init__(
            uvicorn.Config(
                cast("Any", app),  # Starlette's word for the same thing
                http=Connection,
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

    def stop(self) -> None:
        """End, soon."""
        self._hub.close()
        self.should_exit = True


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
            "Choose another port, or 0 for any that is free"
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
