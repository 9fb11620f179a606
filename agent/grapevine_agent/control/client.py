"""Asking the running service, from a command: one request, one reply, one deadline."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

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
    line = encode_line({"method": method, "params": dict(params or {})})
    if len(line) > MAX_REQUEST_BYTES:
        raise GrapevineError(f"{method}: the request is {len(line)} bytes long, {MAX_REQUEST_BYTES} are allowed")
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        _connect(connection, path)
        if of is not None and _user_of(connection) not in of:
            raise NoServiceError(f"{path}: another user's process listens here")
        try:
            connection.sendall(line)
            reply = decode_line(_receive_line(connection, deadline))
        except TimeoutError:
            raise NoAnswerError(f"{path}: no answer to {method!r} within {timeout_s:g} s; look at its log") from None
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"{path}: no proper answer to {method!r} ({error}); look at its log") from None
    if reply.get("ok") is True:
        return reply.get("result")
    raise error_of(str(reply.get("kind", "")), str(reply.get("error", "the service gave no reason")))


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
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoServiceError(f"{path}: no agent is running here", state_dir=path.parent) from None
    except PermissionError:
        raise NoServiceError(
            f"{path}: this user may not talk to the agent; run the command as the user that the agent runs as (sudo)"
        ) from None
    except OSError as error:
        raise NoServiceError(f"{path}: the agent cannot be reached ({error}); is it overloaded? try again") from None


def _receive_line(connection: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionError("it hung up")
        received += chunk
        if len(received) > MAX_REPLY_BYTES:
            raise ValueError(f"more than {MAX_REPLY_BYTES} bytes")
    return bytes(received)
