"""Listening to the running service from a program with an event loop: a request, and the lines that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from grapevine_agent.control.client import refusal_of, request_line, unreachable
from grapevine_agent.control.protocol import MAX_REPLY_BYTES, NoAnswerError, decode_line, socket_address


class AsyncLines:
    """What `astream` returns. `result`: what the service answered before the first line, once `begin` has returned."""

    def __init__(self, path: Path, method: str, params: Mapping[str, Any], timeout_s: float) -> None:
        self.result: Any = None
        self._path = path
        self._method = method
        self._line = request_line(method, params)
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def begin(self) -> Any:
        """Connect and ask; the result. The first `__anext__` does it, too. Raises what `client.call` does."""
        if self._reader is not None:
            return self.result
        try:
            with socket_address(self._path) as address:
                self._reader, self._writer = await asyncio.open_unix_connection(address, limit=MAX_REPLY_BYTES)
        except OSError as error:
            raise unreachable(self._path, error) from None
        try:
            async with asyncio.timeout(self._timeout_s):
                self._writer.write(self._line)
                reply = decode_line(await self._reader.readline())
        except TimeoutError:
            await self.aclose()
            raise NoAnswerError(f"{self._path}: no answer to {self._method!r} within {self._timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            await self.aclose()
            raise NoAnswerError(f"{self._path}: no proper answer to {self._method!r} ({error})") from None
        if reply.get("ok") is not True:
            await self.aclose()
            raise refusal_of(reply)
        self.result = reply.get("result")
        return self.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next line. Ends when the service does, or hangs up."""
        await self.begin()
        assert self._reader is not None
        try:
            line = await self._reader.readline()
            if line.endswith(b"\n"):
                return decode_line(line)
        except OSError:
            pass
        except ValueError as error:
            await self.aclose()
            raise NoAnswerError(f"{self._path}: no proper line of {self._method!r} ({error})") from None
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.transport.abort()


def astream(path: Path, method: str, params: Mapping[str, Any] | None = None, timeout_s: float = 10.0) -> AsyncLines:
    """Ask the service that listens on `path`, and listen to what it says from then on, until one of both hangs up."""
    return AsyncLines(path, method, params or {}, timeout_s)
