"""What the child process of a broker of ours does, whichever broker it runs: report, have room, end with its parent."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

from grapevine_broker.limits import Limits

LAST_CALL_S = 3.0
_OTHER_DESCRIPTORS = 64  # than those of connections, amply


def report(line: dict[str, Any]) -> None:
    """Tell our parent, in one line: `{"port": 41883}` or `{"error": "…"}`."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def leave_with_stdin() -> None:
    """Watch the pipe from our parent, in a thread: when it ends, ask this process to stop, and insist after a while."""
    threading.Thread(target=_leave_with_stdin, name="parent-watch", daemon=True).start()


def _leave_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(LAST_CALL_S)
    os._exit(1)


def room_for(limits: Limits) -> Limits:
    """Raise this process's limit of open files for its connections, and lower theirs if that cannot be.

    Without a descriptor for a connection, asyncio would let it hang and complain once a second, and rumqttd would ask
    for it again and again, as fast as it can.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, max_connections=max(1, min(limits.max_connections, soft - _OTHER_DESCRIPTORS)))
