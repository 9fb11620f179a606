"""`/metrics` over HTTP, in the service's own event loop: nothing runs while nobody asks.

    GET /metrics ─▶ a look at the service ─▶ families ─▶ text      anything else: 404, 405, 400

It answers one request a connection and closes it. Whoever connects may be anything: a request has a deadline and a
bound, and so many connections are served at once. Where the address cannot be listened on it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from grapevine_agent.config.metrics import MetricsConfig
from grapevine_agent.service.figures import Figures
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    from grapevine_agent.service.shell import AgentService

logger = logging.getLogger(__name__)

PATH: Final = "/metrics"
LONGEST_REQUEST: Final = 16_384  # bytes, of its line and headers
REQUEST_S: Final = 5.0
MOST_CONNECTIONS: Final = 16
AGAIN_S: Final = 60.0

Render = Callable[[Figures, str, str], tuple[bytes, str]]


class Endpoint:
    """See the module's docstring. `run` is its one task.

    Args:
        config: Where to listen.
        look: The figures as they are now.
        version: Of this software.
        render: Makes the page, of figures, version and the `Accept` header.
    """

    def __init__(
        self, *, config: MetricsConfig, look: Callable[[], Awaitable[Figures]], version: str, render: Render
    ) -> None:
        self.trouble = ""
        self.is_listening = False
        self.num_answered = 0
        self._config = config
        self._look = look
        self._version = version
        self._render = render
        self._num_open = 0

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                server = await asyncio.start_server(
                    self._serve, self._config.host, self._config.port, limit=LONGEST_REQUEST
                )
            except OSError as error:
                self._failed(error)
                await asyncio.sleep(AGAIN_S)
                continue
            self.trouble, self.is_listening = "", True
            logger.info("metrics for Prometheus: http://%s%s", self._config.listen, PATH)
            async with server:
                await server.serve_forever()

    def status(self) -> dict[str, object]:
        """For `grapevine status`."""
        return {
            "url": f"http://{self._config.listen}{PATH}",
            "listening": self.is_listening,
            "answered": self.num_answered,
            "trouble": self.trouble,
        }

    def _failed(self, error: OSError) -> None:
        trouble = (
            f"metrics.listen = {self._config.listen!r}: cannot listen there ({error.strerror or error}); is another "
            "program there? Write another port"
        )
        if trouble != self.trouble:
            self.trouble = trouble
            logger.warning("%s", trouble)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._num_open += 1
        try:
            if self._num_open > MOST_CONNECTIONS:
                return
            async with asyncio.timeout(REQUEST_S):
                writer.write(await self._answer(reader))
                await writer.drain()
        except (TimeoutError, OSError):
            logger.debug("a request for metrics was not ended in time, or its connection was")
            writer.transport.abort()  # what is not read would keep it open
        except asyncio.CancelledError:  # the service ends, and this with it: asyncio would take it for a fault of ours
            writer.transport.abort()
        finally:
            self._num_open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            asked = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _response(HTTPStatus.BAD_REQUEST)
        line, *headers = asked.split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        method, target, _version = words
        if target.partition("?")[0] != PATH:
            return _response(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        accept = next((value for name, _, value in map(_split, headers) if name == "accept"), "")
        page, content_type = self._render(await self._look(), self._version, accept)
        self.num_answered += 1
        return _response(HTTPStatus.OK, page, content_type, is_head=method == "HEAD")


def check_installed() -> None:
    """Raise `ConfigError`, with what to install, where there can be no metrics."""
    if importlib.util.find_spec("prometheus_client") is None:
        hint = distribution.to_add_extra("metrics")
        raise ConfigError(f"metrics.enabled needs prometheus-client, which is not installed here: {hint}")


def endpoint_of(service: AgentService) -> Endpoint | None:
    """What Prometheus asks for figures; None where the owner does not want that, or only a command runs."""
    config = service.config.metrics
    if not config.enabled or service.core.settings.role == "observer":
        return None
    check_installed()
    from grapevine_agent.service.metrics.families import render  # noqa: PLC0415 - memory, for those who want it

    return Endpoint(
        config=config,
        look=lambda: service.turns.look(service.figures),
        version=distribution.version(),
        render=render,
    )


def _split(header: str) -> tuple[str, str, str]:
    name, colon, value = header.partition(":")
    return name.strip().lower(), colon, value.strip()


def _response(
    status: HTTPStatus,
    page: bytes | None = None,
    content_type: str = "text/plain; charset=utf-8",
    *,
    is_head: bool = False,
) -> bytes:
    if page is None:
        page = f"{status.value} {status.phrase}; the figures are at {PATH}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(page)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else page)
