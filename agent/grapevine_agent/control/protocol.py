"""What a command and the running service say to each other over the Unix socket `agent.sock`.

One JSON object per line, in turns; a connection may carry any number of turns:

    → {"method": "status", "params": {}}
    ← {"ok": true, "result": {…}}
    ← {"ok": false, "kind": "task", "error": "what went wrong, and what to do"}

Some methods go on: after the result come lines of their own, one JSON object each, until either side hangs up. Whatever
the client says meanwhile ends it.

    → {"method": "events", "params": {"after": null}}
    ← {"ok": true, "result": {…}}
    ← {"event": "merged", …}
    ← …

The socket lies in the state folder with mode 0600: who can open it is the agent's owner, so there is no
login. Lines are bounded, because a broken client should cost a line and not the memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from grapevine_proto.errors import (
    BrokerError,
    ConfigError,
    GrapevineError,
    RequestError,
    StoreError,
    TaskError,
    WireError,
)

SOCKET_FILE: Final = "agent.sock"
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_REPLY_BYTES: Final = 16 << 20  # a long metrics history is the largest reply; models go by path
_MAX_ADDRESS_BYTES = 107  # sun_path has 108 bytes on Linux, one of them a NUL

_KINDS: Final[Mapping[str, type[GrapevineError]]] = {
    "config": ConfigError,
    "task": TaskError,
    "request": RequestError,
    "broker": BrokerError,
    "store": StoreError,
}


class NoServiceError(GrapevineError):
    """No agent is running that could be asked.

    Args:
        message: What is wrong.
        state_dir: The folder that no agent works on; None: one may be there, and is not to be reached.
    """

    def __init__(self, message: str, *, state_dir: Path | None = None) -> None:
        super().__init__(message)
        self.state_dir = state_dir


class NoAnswerError(GrapevineError):
    """The agent took the request and did not answer as it should, or not in time."""


def encode_line(content: Mapping[str, Any]) -> bytes:
    """One JSON object as a line. Raises `TypeError` or `ValueError` for what JSON cannot say."""
    return json.dumps(content, separators=(",", ":")).encode("utf-8") + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The JSON object in a line. Raises `ValueError` for anything else."""
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("a line must hold a JSON object")
    return content


def kind_of(error: GrapevineError) -> str:
    """The word that stands for an error's class on the socket."""
    if isinstance(error, WireError):
        return "wire"
    return next((kind for kind, error_class in _KINDS.items() if isinstance(error, error_class)), "other")


def error_of(kind: str, text: str) -> GrapevineError:
    """The error that a reply stands for, ready to raise."""
    if kind == "wire":
        reason, _, detail = text.partition(": ")
        return WireError(reason, detail)
    return _KINDS.get(kind, GrapevineError)(text)


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address for `bind` or `connect` that fits into `sun_path`, however long `path` is.

    A long path is reached through an open descriptor of its folder, as `/proc/self/fd/<n>/<name>`.
    """
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
