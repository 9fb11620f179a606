"""What the disk does not take at present: said once in the log and for as long as it lasts in `status`, tried again.

    saved ─ a write fails: one line in the log ─▶ not saved since 12:03 ─ tried every 5 s, then every minute
      ▲                                                    │
      └──────────── a write succeeds: one line ────────────┘

Each kind of thing has its own state, for a disk that is nearly full takes a sequence and no model.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from errno import ENOSPC, EROFS
from typing import Any

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


@dataclass
class _Trouble:
    since_s: float  # Unix time
    reason: str
    pause_s: float
    again_s: float  # monotonic


class Unsaved:
    """See the module's docstring. Any thread may call."""

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}
        self._lock = threading.Lock()

    def may_try(self, kind: str) -> bool:
        """Whether a write of this kind is to go to the disk now, and not to wait."""
        with self._lock:
            trouble = self._troubles.get(kind)
            return trouble is None or time.monotonic() >= trouble.again_s

    def is_in_trouble(self, kind: str) -> bool:
        """Whether the last write of this kind failed."""
        with self._lock:
            return kind in self._troubles

    def reason(self, kind: str) -> str:
        """Why the last write of this kind failed; empty if it did not."""
        with self._lock:
            return self._troubles[kind].reason if kind in self._troubles else ""

    def failed(self, kind: str, error: BaseException) -> None:
        """A write failed."""
        reason = reason_of(error)
        with self._lock:
            trouble = self._troubles.get(kind)
            if trouble is None:
                again_s = time.monotonic() + FIRST_PAUSE_S
                self._troubles[kind] = _Trouble(time.time(), reason, FIRST_PAUSE_S, again_s)
            else:
                trouble.reason = reason
                trouble.pause_s = min(2 * trouble.pause_s, LONGEST_PAUSE_S)
                trouble.again_s = time.monotonic() + trouble.pause_s
        if trouble is None:
            logger.warning("%s are not saved (%s); the agent goes on in memory, and tries again", kind, error)

    def saved(self, kind: str) -> None:
        """A write succeeded, and nothing of this kind waits."""
        with self._lock:
            trouble = self._troubles.pop(kind, None)
        if trouble is not None:
            minutes = (time.time() - trouble.since_s) / 60
            logger.info("%s are saved again, after %.1f minutes", kind, max(0.0, minutes))

    def lines(self) -> list[dict[str, Any]]:
        """What is not saved, oldest first, as plain values for `status`."""
        with self._lock:
            found = sorted(self._troubles.items(), key=lambda each: each[1].since_s)
        return [{"kind": kind, "since_s": each.since_s, "reason": each.reason} for kind, each in found]


def reason_of(error: BaseException) -> str:
    """The shortest that says what is wrong: the system's own words where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
            return os.strerror(ENOSPC if code == sqlite3.SQLITE_FULL else EROFS)
        if cause.__cause__ is None:
            return str(cause)
        cause = cause.__cause__
    return str(error)
