"""A browser's connection, which is given up where nobody asks on it, or takes what was asked for.

uvicorn waits for a first request for ever, and for who does not read. Any program that reaches the port could take up
all connections with that, and a page on a machine that has vanished its stream.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 10.0  # until a whole request is there
UNREAD_S: Final = 60.0  # until something of what waits is taken


class Connection(H11Protocol):
    """See the module's docstring."""

    _idle: asyncio.TimerHandle | None = None  # while a request is due
    _unread: asyncio.TimerHandle | None = None  # while much waits to be read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Somebody connected: a request is due."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Some of a request came, or all of it."""
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        """It was answered: the next request is due."""
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        """Much waits to be read."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self._give_up)

    def resume_writing(self) -> None:
        """It was read."""
        super().resume_writing()
        self._stop_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_idle()
        self._stop_unread()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        """Start the clock where no request is being answered; pieces of a head do not start it again."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_idle()
        elif self._idle is None:
            self._idle = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self.transport.abort()

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
