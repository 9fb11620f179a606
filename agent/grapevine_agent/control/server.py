"""The service's end of the Unix socket: takes requests from commands, one line each, and answers them."""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from grapevine_agent.control.protocol import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    decode_line,
    encode_line,
    kind_of,
    socket_address,
)
from grapevine_proto.errors import GrapevineError, StoreError

logger = logging.getLogger(__name__)


class SocketTakenError(StoreError):
    """Another agent answers on the socket."""


class Lines(Protocol):
    """What follows a result: objects for as long as somebody takes them."""

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> Mapping[str, Any]:
        """The next one, once there is one."""
        ...

    def close(self) -> None:
        """Nobody takes them any more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """An answer that goes on. It must be given to the server, which closes it."""

    result: Any
    lines: Lines


Answer: TypeAlias = Callable[[dict[str, Any]], Awaitable[Any]]

_PROBE_S = 1.0
_ACCEPT_AGAIN_S = 1.0
_BACKLOG = 16


class ControlServer:
    """Listens on `path` between `start` and `stop` (or in an `async with`).

    Args:
        path: Where the socket goes. What a killed service left there is replaced.
        answer: Called with `{"method": str, "params": dict}`; returns what JSON can say, or a `Streamed`.
            A `GrapevineError` that it raises reaches the client as such; any other error is logged
            here and reaches it without details.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._inode = 0
        self._listener: socket.socket | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. Raises `StoreError` if another service does, or the socket cannot be made."""
        listener, self._inode = await asyncio.to_thread(_bind, self._path)
        listener.listen(_BACKLOG)
        # Not `asyncio.start_unix_server`: it loses sight of connections that it accepts while it is closed.
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    async def stop(self) -> None:
        """Stop listening, cut conversations short, and remove the socket if it is still ours."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        conversations = list(self._conversations)
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        with suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client went away before its turn came
        except OSError as error:
            # Out of descriptors, most likely: the listener stays readable, so this would spin.
            logger.warning("%s: cannot accept a connection (%s); trying again", self._path, error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(_ACCEPT_AGAIN_S, self._resume, listener)
            return
        connection.setblocking(False)
        conversation = asyncio.create_task(self._converse(connection), name="control conversation")
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)
        # A task that is cancelled before it starts never runs: then this is what closes the connection.
        conversation.add_done_callback(lambda _: connection.close())

    def _resume(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _converse(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_REQUEST_BYTES)
        try:
            await self._take_turns(reader, writer)
        except OSError:
            pass  # the client went away
        except Exception:
            logger.exception("a conversation over the control socket failed")
        except asyncio.CancelledError:
            writer.transport.abort()  # a client that does not read must not hold up `stop`
            raise
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _take_turns(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                writer.write(_refusal(f"the request is longer than {MAX_REQUEST_BYTES} bytes"))
                await writer.drain()
                return
            if not line.endswith(b"\n"):
                return  # hung up; what came without its end is no request
            reply, lines = await self._reply_to(line)
            try:
                writer.write(reply)
                await writer.drain()
                if lines is not None:
                    await _stream(lines, reader, writer)
                    return
            finally:
                if lines is not None:
                    lines.close()

    async def _reply_to(self, line: bytes) -> tuple[bytes, Lines | None]:
        try:
            request = decode_line(line)
        except ValueError as error:
            return _refusal(f"the request is not one JSON object on one line ({error})"), None
        method, params = request.get("method"), request.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict):
            return _refusal('a request has a "method" (a string) and "params" (an object)'), None
        try:
            result = await self._answer({"method": method, "params": params})
            if isinstance(result, Streamed):
                return encode_line({"ok": True, "result": result.result}), result.lines
            reply = encode_line({"ok": True, "result": result})
        except GrapevineError as error:
            return encode_line({"ok": False, "kind": kind_of(error), "error": str(error)}), None
        except Exception:
            logger.exception("request %r failed", method[:80])
            return _refusal(f"{method[:80]}: the agent failed to answer; its log says why"), None
        if len(reply) > MAX_REPLY_BYTES:
            return _refusal(f"{method[:80]}: the answer is longer than {MAX_REPLY_BYTES} bytes; ask for less"), None
        return reply, None


async def _stream(lines: Lines, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write lines until the client hangs up, or says something. One that does not read holds up nobody else."""

    async def write() -> None:
        async for each in lines:
            writer.write(encode_line(each))
            await writer.drain()

    tasks = (asyncio.create_task(write(), name="control stream"), asyncio.create_task(reader.read(1)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended, _ = await asyncio.gather(*tasks, return_exceptions=True)
        writer.transport.abort()  # what was not read is not waited for
    if isinstance(ended, Exception) and not isinstance(ended, OSError):
        raise ended


def _refusal(text: str) -> bytes:
    return encode_line({"ok": False, "kind": "other", "error": text})


def _bind(path: Path) -> tuple[socket.socket, int]:
    """A bound socket that only its owner can open, and its inode."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(path) as address:
            listener.bind(address)
        # Nobody can connect before `listen`, so there is no instant with wider permissions.
        path.chmod(0o600)
        listener.setblocking(False)
        return listener, path.lstat().st_ino
    except OSError as error:
        listener.close()
        raise StoreError(
            f"{path}: the control socket cannot be made ({error.strerror or error}); check the folder"
        ) from error


def _remove_stale(path: Path) -> None:
    """Clear the socket's place. Raises `SocketTakenError` if somebody answers there, `StoreError` if that cannot be."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StoreError(f"{path}: is there and is no socket; move it away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, socket_address(path) as address:
            probe.settimeout(_PROBE_S)
            probe.connect(address)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        logger.info("%s was left behind by a service that ended; replacing it", path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: cannot be replaced ({error.strerror}); check the folder") from error
        return
    except TimeoutError as error:
        raise SocketTakenError(f"{path}: another agent is there, and busy ({error}); stop that one first") from error
    except OSError as error:
        raise StoreError(f"{path}: somebody else's socket is there ({error}); move it away") from error
    raise SocketTakenError(f"{path}: another agent answers here; stop it, or give this one another state_dir")
