"""Checks, all at once, each with a deadline; whatever happens in one of them is one line.

A check may hang: a disk that went away, a broker that says nothing. A thread cannot be ended, so one that overran its
time is left behind, and does not keep the process. A check that raises has found that, too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from grapevine_agent.doctor.findings import Finding
from grapevine_proto.errors import GrapevineError

T = TypeVar("T")
Look: TypeAlias = Callable[[], Awaitable[list[Finding]]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What is looked at, in the loop, and for how long at most."""

    name: str
    within_s: float
    look: Look
    about: str = ""
    slow: str = "it has not ended"  # what an overrun means


def beside(work: Callable[[], T]) -> Awaitable[T]:
    """The result of what blocks, from a thread that nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(give: Callable[[Any], None], what: Any) -> None:
        if not done.done():
            give(what)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, done.set_exception, error)
        else:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, done.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return done


def plainly(look: Callable[[], list[Finding]]) -> Look:
    """A check that blocks, as one that does not."""
    return lambda: beside(look)


async def examine(checks: Sequence[Check]) -> AsyncIterator[list[Finding]]:
    """What each of them finds, in their order. They all begin at once."""
    running = [asyncio.create_task(_within(each), name=f"check of {each.name}") for each in checks]
    try:
        for each in running:
            yield await each
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _within(check: Check) -> list[Finding]:
    try:
        async with asyncio.timeout(check.within_s):
            return await check.look()
    except TimeoutError:
        return [
            Finding(
                check=check.name,
                about=check.about,
                level="warn",
                says=f"{check.slow} within {check.within_s:g} s",
                remedy="try again when this device has less to do",
            )
        ]
    except GrapevineError as error:  # it says itself what to do
        return [Finding(check=check.name, about=check.about, level="fail", says=str(error))]
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return [
            Finding(
                check=check.name,
                about=check.about,
                level="fail",
                says=f"this could not be looked at ({told[:300]})",
                remedy="report it, with the output of grapevine doctor --json",
            )
        ]
