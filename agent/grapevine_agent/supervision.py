"""What a service tells its supervisor: systemd's protocol of datagrams, sd_notify(3), in a page of our own.

    NOTIFY_SOCKET=/run/systemd/notify   whoever started us listens there: a path, or @name in the abstract space
    WATCHDOG_USEC=60000000              and takes us for dead if nothing was heard for so long
    WATCHDOG_PID=4711                   that is, if this is our number; the service keeps it when it becomes `serve`

    READY=1          commands are answered                STATUS=…     one line for `systemctl status`
    RELOADING=1      with MONOTONIC_USEC, then READY=1    WATCHDOG=1   we are alive
    STOPPING=1       we leave

One datagram holds several of these, a line each. Where nobody listens nothing is sent. The variables are taken out of
the environment, so that a child that speaks the same protocol (Mosquitto does) does not speak for us.

The watchdog is told three times in its interval, by the event loop itself: one that stands is one that is not heard.
"""

from __future__ import annotations

import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

TELLS_PER_WATCHDOG: Final = 3  # two may be late before we are taken for dead
MOST_STATUS = 500  # characters
_MICROSECONDS: Final = 1_000_000


class Supervisor:
    """Whoever started this process, if it listens. Telling never fails: a supervisor that is gone is no reason to end.

    Args:
        address: Where it listens; empty: nobody does.
        watchdog_s: It takes us for dead after so many silent seconds; 0: it does not watch.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._status = ""

    @classmethod
    def of(cls, environ: MutableMapping[str, str], pid: int) -> Supervisor:
        """The one that this process was started by; its variables are taken out of `environ`."""
        address, interval, watched = (
            environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        if not address.startswith(("/", "@")):
            return cls()
        is_ours = watched in ("", str(pid))
        watchdog_s = int(interval) / _MICROSECONDS if interval.isdecimal() and len(interval) < 20 and is_ours else 0.0
        return cls(address, watchdog_s)

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    @property
    def every_s(self) -> float | None:
        """How often to say that we are alive; None: nobody waits for that."""
        return self.watchdog_s / TELLS_PER_WATCHDOG if self.listens and self.watchdog_s else None

    def ready(self, status: str) -> None:
        """What we are for is done from now on."""
        self._tell("READY=1", self._status_line(status))

    def ready_again(self) -> None:
        """What follows on `reloading`, whatever came of it."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """What goes on, in one line; the same twice is said once."""
        if text != self._status:
            self._tell(self._status_line(text))

    def alive(self) -> None:
        """We are there."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read; `ready_again` follows."""
        # sd_notify(3) wants the monotonic clock's microseconds, for Type=notify-reload.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We leave."""
        self._tell("STOPPING=1", self._status_line("leaving"))

    def _status_line(self, text: str) -> str:
        self._status = text
        line = "".join(c if c.isprintable() else " " for c in text)
        return f"STATUS={line[:MOST_STATUS]}"

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # the loop waits for nobody
            sender.sendto("\n".join(lines).encode(), self._address)
