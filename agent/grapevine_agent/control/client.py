"""Asking the running service, from a command: one request, one reply, one deadline; or listening to it (`stream`)."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from grapevine_agent.control.protocol import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    SOCKET_FILE,
    NoAnswerError,
    NoServiceError,
    decode_line,
    encode_line,
    error_of,
    socket_address,
)
from grapevine_proto.errors import GrapevineError

ELSEWHERE_S: Final = 3.0
LONGEST_WAIT_S: Final = 3_600.0  # at a time: a socket takes no more than some years


def call(
    path: Path,
    method: str,
    params: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
    of: Collection[int] | None = None,
) -> Any:
    """Ask the service that listens on the socket `path`, and return its result.

    `of`: the users whose service it may be, by the kernel's word; None: whoever listens.

    Raises:
        NoServiceError: Nobody listens there, it is none of these users', or this user may not ask.
        NoAnswerError: The service did not answer within `timeout_s`, or hung up.
        GrapevineError: What the service said is wrong, as the class that it raised there.
    """
    line = request_line(method, params or {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        reply, _ = _asked(connection, path, method, line, timeout_s, of)
    return reply.get("result")


class Lines:
    """What `stream` returns: an iterator of the lines that follow `result`, until one of both hangs up."""

    def __init__(self, connection: socket.socket, path: Path, result: Any, received: bytes) -> None:
        self.result = result
        self._connection = connection
        self._path = path
        self._received = bytearray(received)

    def read(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next line; None where none comes in time. Raises EOFError once the service has hung up."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._received.find(b"\n")) < 0:
            try:
                left_s = None if deadline is None else deadline - time.monotonic()
                self._connection.settimeout(None if left_s is None else min(max(1e-3, left_s), LONGEST_WAIT_S))
                chunk = self._connection.recv(65_536)
            except TimeoutError:
                if left_s is not None and left_s > LONGEST_WAIT_S:
                    continue
                return None
            except OSError:
                chunk = b""
            if not chunk:
                raise EOFError(f"{self._path}: the agent has ended, or hung up")
            self._received += chunk
            if len(self._received) > MAX_REPLY_BYTES:
                raise NoAnswerError(f"{self._path}: a line of more than {MAX_REPLY_BYTES} bytes")
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return decode_line(line)
        except ValueError as error:
            raise NoAnswerError(f"{self._path}: no proper line ({error})") from None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            line = self.read()
        except EOFError:
            raise StopIteration from None
        assert line is not None
        return line

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stream(path: Path, method: str, params: Mapping[str, Any] | None = None, timeout_s: float = 10.0) -> Lines:
    """Ask as `call` does, within `timeout_s`, and listen to what the service says from then on. `close` it.

    Raises what `call` does.
    """
    line = request_line(method, params or {})
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reply, received = _asked(connection, path, method, line, timeout_s)
    except BaseException:
        connection.close()
        raise
    return Lines(connection, path, reply.get("result"), received)


def request_line(method: str, params: Mapping[str, Any]) -> bytes:
    """A request as a line. Raises GrapevineError where it is too long."""
    line = encode_line({"method": method, "params": dict(params)})
    if len(line) > MAX_REQUEST_BYTES:
        raise GrapevineError(f"{method}: the request is {len(line)} bytes long, {MAX_REQUEST_BYTES} are allowed")
    return line


def refusal_of(reply: Mapping[str, Any]) -> GrapevineError:
    """What a reply that is not ok stands for, ready to raise."""
    return error_of(str(reply.get("kind", "")), str(reply.get("error", "the service gave no reason")))


def _asked(
    connection: socket.socket,
    path: Path,
    method: str,
    line: bytes,
    timeout_s: float,
    of: Collection[int] | None = None,
) -> tuple[dict[str, Any], bytes]:
    """The reply to a request that is ok, and what has come after it. Raises what `call` does."""
    deadline = time.monotonic() + timeout_s
    connection.settimeout(timeout_s)
    _connect(connection, path)
    if of is not None and _user_of(connection) not in of:
        raise NoServiceError(f"{path}: another user's process listens here")
    try:
        connection.sendall(line)
        received, more = _receive_line(connection, deadline)
        reply = decode_line(received)
    except TimeoutError:
        raise NoAnswerError(f"{path}: no answer to {method!r} within {timeout_s:g} s; look at its log") from None
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{path}: no proper answer to {method!r} ({error}); look at its log") from None
    if reply.get("ok") is not True:
        raise refusal_of(reply)
    return reply, more


def agent_of(config: Path, user: str, *, table: Path = Path("/proc/net/unix")) -> Path | None:
    """The socket of the agent that runs with this configuration, wherever its state folder is; None if none is found.

    For a configuration that names another folder since. Asked are root's, those of `user`, and our own.
    """
    try:
        listening = [
            words[7]
            for line in os.fsdecode(table.read_bytes()).split("\n")  # names are whatever bytes somebody chose
            if len(words := line.split(None, 7)) == 8
        ]
    except OSError:
        return None
    asked = {0, os.geteuid()}
    with suppress(KeyError):
        asked.add(pwd.getpwnam(user).pw_uid)
    for path in sorted({Path(each) for each in listening if each.endswith(f"/{SOCKET_FILE}")}):
        with suppress(OSError, GrapevineError, AttributeError):
            if call(path, "status", timeout_s=ELSEWHERE_S, of=asked).get("config") == str(config.absolute()):
                return path
    return None


def _user_of(connection: socket.socket) -> int:
    """Who listens at the other end: the process that called `listen`, not whoever owns the path."""
    held = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", held)
    return int(user)


def _connect(connection: socket.socket, path: Path) -> None:
    try:
        with socket_address(path) as address:
            connection.connect(address)
    except OSError as error:
        raise unreachable(path, error) from None


def unreachable(path: Path, error: OSError) -> NoServiceError:
    """Why nobody could be asked at a socket, ready to raise."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return NoServiceError(f"{path}: no agent is running here", state_dir=path.parent)
    if isinstance(error, PermissionError):
        return NoServiceError(
            f"{path}: this user may not talk to the agent; run the command as the user that the agent runs as (sudo)"
        )
    return NoServiceError(f"{path}: the agent cannot be reached ({error}); is it overloaded? try again")


def _receive_line(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """The first line, and what came with it."""
    received, end = bytearray(), 0
    while not end:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionError("it hung up")
        end = len(received) + at + 1 if (at := chunk.find(b"\n")) >= 0 else 0
        received += chunk
        if len(received) > MAX_REPLY_BYTES:
            raise ValueError(f"more than {MAX_REPLY_BYTES} bytes")
    return bytes(received[:end]), bytes(received[end:])
