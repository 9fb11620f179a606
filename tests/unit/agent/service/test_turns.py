"""Whose turn it is at the core."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.merge.apart import apart
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.turns import Turns
from grapevine_proto.errors import WireError
from grapevine_proto.parts import LARGE

DEADLINE_S = 20.0


class Core:
    """Calls that note who is at it; `gate` holds a call up."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = threading.Event()
        self.began = threading.Event()
        self.is_occupied = False

    def call(self, name: str, *, waits: bool = False, apart_: bool = False) -> Callable[[], list[fx.Effect]]:
        def called() -> list[fx.Effect]:
            assert not self.is_occupied, "two at once"
            self.is_occupied = True
            self.notes.append(f"{name} begins")
            if apart_:
                with apart():
                    self._wait()
            elif waits:
                self._wait()
            self.notes.append(f"{name} ends")
            self.is_occupied = False
            return [ev.Placed(component=name)]

        return called

    def _wait(self) -> None:
        self.began.set()
        assert self.gate.wait(DEADLINE_S)


@asynccontextmanager
async def turns_at(core: Core) -> AsyncIterator[Turns]:
    def perform(effects: Iterable[fx.Effect]) -> None:
        core.notes.extend(f"{each.component} done" for each in effects if isinstance(each, ev.Placed))

    beside = Beside()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield Turns(beside, perform)
    finally:
        core.gate.set()
        await beside.close()


def large() -> int:
    return LARGE


async def begun(core: Core) -> None:
    while not core.began.is_set():
        await asyncio.sleep(0.001)


async def test_calls_and_their_effects_keep_their_order_behind_a_large_one() -> None:
    core = Core()
    async with turns_at(core) as turns:
        first = asyncio.create_task(turns.take(core.call("large", waits=True), num_bytes=large))
        await begun(core)
        others = [asyncio.create_task(turns.take(core.call(name))) for name in ("one", "two")]
        others.append(asyncio.create_task(turns.take(core.call("large too"), num_bytes=large)))
        others.append(asyncio.create_task(turns.take(core.call("three"))))
        await asyncio.sleep(0.01)
        assert core.notes == ["large begins"]
        core.gate.set()
        await asyncio.gather(first, *others)
    names = ("large", "one", "two", "large too", "three")
    assert core.notes == [f"{name} {what}" for name in names for what in ("begins", "ends", "done")]


async def test_a_small_turn_is_over_when_its_call_returns_and_the_loop_has_done_nothing_else() -> None:
    core = Core()
    async with turns_at(core) as turns:
        asyncio.get_running_loop().call_soon(core.notes.append, "the loop went on")
        await turns.take(core.call("small"))
        assert core.notes == ["small begins", "small ends", "small done"]


async def test_a_large_turn_runs_in_another_thread_and_its_effects_in_the_loop() -> None:
    seen: list[int] = []

    def call() -> list[fx.Effect]:
        seen.append(threading.get_ident())
        return [ev.Placed(component="")]

    async with turns_at(Core()) as turns:
        await turns.take(call, num_bytes=large, perform=lambda _effects: seen.append(threading.get_ident()))
    assert seen[0] != threading.get_ident()
    assert seen[1:] == [threading.get_ident()]


async def test_who_looks_waits_for_arithmetic_and_no_longer() -> None:
    core = Core()
    async with turns_at(core) as turns:
        turn = asyncio.create_task(turns.take(core.call("large", apart_=True), num_bytes=large))
        await begun(core)
        assert await turns.look(lambda: list(core.notes)) == ["large begins"]  # while the turn goes on
        assert not turn.done()
        core.gate.set()
        await turn


async def test_nobody_looks_while_the_thread_is_at_the_state() -> None:
    core = Core()
    async with turns_at(core) as turns:
        turn = asyncio.create_task(turns.take(core.call("large", waits=True), num_bytes=large))
        await begun(core)
        looking = asyncio.create_task(turns.look(lambda: list(core.notes)))
        await asyncio.sleep(0.02)
        assert not looking.done()
        core.gate.set()
        await turn
        assert "large ends" in await looking


async def test_the_thread_does_not_come_back_to_the_state_while_somebody_looks() -> None:
    core = Core()
    async with turns_at(core) as turns:
        turn = asyncio.create_task(turns.take(core.call("large", apart_=True), num_bytes=large))
        await begun(core)

        def read() -> list[str]:
            core.gate.set()  # the arithmetic is over
            assert not turn_ended.wait(0.05)
            return list(core.notes)

        turn_ended = threading.Event()
        turn.add_done_callback(lambda _: turn_ended.set())
        assert await turns.look(read) == ["large begins"]
        await turn


async def test_arithmetic_within_arithmetic_is_one_stretch() -> None:
    looked: list[bool] = []

    def call() -> list[fx.Effect]:
        with apart():
            with apart():
                pass
            looked.append(turns._core.locked())
        looked.append(turns._core.locked())
        return []

    async with turns_at(Core()) as turns:
        await turns.take(call, num_bytes=large)
    assert looked == [False, True]


@pytest.mark.parametrize("size", [0, LARGE])
async def test_what_a_call_raises_reaches_who_made_it_and_the_next_has_its_turn(size: int) -> None:
    def fails() -> list[fx.Effect]:
        raise WireError("malformed", "so")

    core = Core()
    async with turns_at(core) as turns:
        with pytest.raises(WireError, match="so"):
            await turns.take(fails, num_bytes=lambda: size)
        await turns.take(core.call("next"))
    assert core.notes == ["next begins", "next ends", "next done"]


async def test_who_is_cancelled_during_a_turn_is_told_after_it_and_nothing_is_lost() -> None:
    core = Core()
    async with turns_at(core) as turns:
        turn = asyncio.create_task(turns.take(core.call("large", waits=True), num_bytes=large))
        await begun(core)
        after = asyncio.create_task(turns.take(core.call("next")))
        for _ in range(3):
            turn.cancel()
            await asyncio.sleep(0.005)
        assert not turn.done()
        assert core.notes == ["large begins"]
        core.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await after
    assert core.notes == [f"{name} {what}" for name in ("large", "next") for what in ("begins", "ends", "done")]


async def test_who_is_cancelled_before_its_turn_has_none() -> None:
    core = Core()
    async with turns_at(core) as turns:
        first = asyncio.create_task(turns.take(core.call("large", waits=True), num_bytes=large))
        await begun(core)
        second = asyncio.create_task(turns.take(core.call("never")))
        await asyncio.sleep(0)
        second.cancel()
        core.gate.set()
        await asyncio.gather(first, second, return_exceptions=True)
    assert core.notes == ["large begins", "large ends", "large done"]


def test_without_a_shell_that_asks_for_it_arithmetic_stands_apart_from_nothing() -> None:
    with apart():
        pass
