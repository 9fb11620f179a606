"""One HTTP request to a trainer of the owner's, over TCP or a Unix socket, with an end to everything.

The standard library's client in a thread: the service stays as small as it is, and imports it only
where a trainer is configured. The time limit is for the whole exchange, so a trainer that drips its
answer byte by byte is given up like one that says nothing; so is an answer larger than asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from grapevine_proto.errors import TaskError

CONNECT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back: the status, and the body."""

    status: int
    body: bytes


async def exchange(
    url: str, method: str, path: str, *, body: bytes | None = None, most_bytes: int, timeout_s: float
) -> Reply:
    """Send one request and read the reply, of no more than `most_bytes`.

    Raises TaskError, naming the URL, when nothing listens there, it speaks no HTTP, says too much, or takes too long.
    """
    connection = _connection(url)
    work = asyncio.ensure_future(asyncio.to_thread(_exchange, connection, method, path, body, most_bytes))
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(work)
    except TimeoutError:
        if work.done():  # no exchange was too long, but an operation on its socket
            raise TaskError(f"{url}: the trainer does not answer") from None
        raise TaskError(f"{url}: {method} {path} took longer than {timeout_s:g} s and was given up") from None
    except (OSError, HTTPException, ValueError) as error:
        raise TaskError(f"{url}: {method} {path}: {_explained(error)}") from error
    finally:
        if not work.done():
            _interrupt(connection)
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it any more


def _exchange(connection: HTTPConnection, method: str, path: str, body: bytes | None, most_bytes: int) -> Reply:
    """In a thread."""
    try:
        connection.connect()
        connection.sock.settimeout(None)  # whoever waits for us closes the socket
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        connection.request(method, path, body, {**headers, "Connection": "close"})
        with connection.getresponse() as response:
            declared = response.length or 0
            content = b"" if declared > most_bytes else response.read(most_bytes + 1)
        if max(declared, len(content)) > most_bytes:
            raise ValueError(f"the answer is larger than {most_bytes} bytes")
        if declared > len(content):
            raise ValueError(f"the answer ends {declared - len(content)} bytes early")
        return Reply(status=response.status, body=content)
    finally:
        connection.close()


def _interrupt(connection: HTTPConnection) -> None:
    """Have the thread's read or write return now."""
    connection.timeout = 0.001  # if it has not connected yet
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _explained(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "nothing listens there: is the trainer running?"
    return str(error) or type(error).__name__
