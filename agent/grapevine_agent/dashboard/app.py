"""What the dashboard answers over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from grapevine_agent.dashboard.acting import Actions
from grapevine_agent.dashboard.details import peer_detail, task_detail
from grapevine_agent.dashboard.guarding import Guard, hosts_of, is_same, is_token
from grapevine_agent.dashboard.hub import Full, Hub
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.words import fit
from grapevine_agent.net.urls import is_loopback
from grapevine_proto.errors import GrapevineError

logger = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
LONGEST_BODY: Final = 4_096
LONGEST_ERROR: Final = 1_000  # it may name what was sent, which may be what no answer can hold


class Pages:
    """The answers, for one overview.

    Args:
        overview: What is shown.
        hub: Who looks.
        actions: What can be done.
        token: What an action needs.
    """

    def __init__(self, *, overview: Overview, hub: Hub, actions: Actions, token: str) -> None:
        self._overview = overview
        self._hub = hub
        self._actions = actions
        self._token = token

    def routes(self) -> list[Route | Mount]:
        """All addresses."""
        return [
            Route("/", self.index),
            Route("/api/state", self.state),
            Route("/api/stream", self.stream),
            Route("/api/check", self.check),
            Route("/api/peers/{id:path}", self.peer),
            Route("/api/tasks/{id:path}", self.task),
            Route("/api/actions/{name}", self.act, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    async def index(self, request: Request) -> Response:
        """The page."""
        del request
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def state(self, request: Request) -> Response:
        """A snapshot."""
        del request
        return JSONResponse(self._hub.snapshot())

    async def stream(self, request: Request) -> Response:
        """A snapshot, and every patch after it."""
        del request
        try:
            events: AsyncIterator[bytes] = self._hub.open()
        except Full:
            return _error(503, "too many pages look at this dashboard already; close one", {"retry-after": "5"})
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def peer(self, request: Request) -> Response:
        """One peer, looked at closely."""
        detail = peer_detail(self._overview.book, request.path_params["id"])
        return JSONResponse(detail) if detail is not None else _error(404, "nobody here knows this peer (any more)")

    async def task(self, request: Request) -> Response:
        """One task, looked at closely."""
        detail = task_detail(self._overview.book, request.path_params["id"])
        return JSONResponse(detail) if detail is not None else _error(404, "nobody here knows this task (any more)")

    async def check(self, request: Request) -> Response:
        """Whether the token is right."""
        return Response(status_code=204) if self._may_act(request) else _not_allowed()

    async def act(self, request: Request) -> Response:
        """Do something, for who has the token and whose page is ours."""
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        if not is_same(origin, host):
            return _error(403, "an action needs the Origin of the dashboard's own page")
        if not self._may_act(request):
            return _not_allowed()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _error(415, "an action's body is JSON: Content-Type: application/json")
        body = await _body_of(request)
        if body is None:
            return _error(413, f"an action's body has at most {LONGEST_BODY} bytes")
        try:
            params = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            return _error(400, "an action's body is one JSON object")
        name = request.path_params["name"]
        if name not in self._actions.names:
            known = ", ".join(self._actions.names) or "none"
            return _error(404, f"there is no such action here; there are: {known}")
        try:
            return JSONResponse({"ok": True, "text": await self._actions.do(name, params)})
        except ValueError as error:
            return _error(400, str(error))
        except GrapevineError as error:
            return _error(409, str(error))

    def _may_act(self, request: Request) -> bool:
        return is_token(request.headers.get("authorization", ""), self._token)


def make_app(*, overview: Overview, hub: Hub, actions: Actions, token: str, host: str) -> ASGIApp:
    """The application, guarded, for a server that listens on `host`."""
    pages = Pages(overview=overview, hub=hub, actions=actions, token=token)
    app = Starlette(routes=pages.routes(), exception_handlers={HTTPException: _failed, Exception: _broken})
    return Guard(app, hosts=hosts_of(host), any_number=not is_loopback(host.lower()))


async def _body_of(request: Request) -> bytes | None:
    """What was sent; None if it is too long, which is noticed before it is all here."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            return None
    return bytes(body)


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"ok": False, "error": fit(text, LONGEST_ERROR)}, status_code=status, headers=headers)


def _not_allowed() -> Response:
    text = "an action needs the token: open the page by the address for actions that was printed at the start"
    return _error(401, text, {"www-authenticate": "Bearer"})


async def _failed(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    del request, error
    return _error(500, "the dashboard failed to answer; what it printed says why")
