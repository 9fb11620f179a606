"""Agents by their control sockets, as they come and go: their events in order, and now and then a question.

    glob, each second ─▶ a follower of each socket ─▶ lines ─▶ drain: four times a second, by their times ─▶ overview

What a socket says by itself: an agent that ends in good order removes it; one that was killed leaves it behind, and
nobody listens there; one that is frozen takes a question and does not answer.
"""

from __future__ import annotations

import asyncio
import glob
import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from grapevine_agent.control.protocol import NoAnswerError, NoServiceError
from grapevine_agent.control.streaming import AsyncLines, astream
from grapevine_agent.dashboard.clocks import by_todays_clock
from grapevine_agent.dashboard.looks import look_at_peers, look_at_reviews, look_at_status
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.sources import Sources
from grapevine_agent.dashboard.words import count_in, id_in, name_in, time_in
from grapevine_proto.errors import GrapevineError, RequestError

logger = logging.getLogger(__name__)

LOOK_FOR_S: Final = 1.0  # sockets
AGAIN_S: Final = 0.5  # to one that nobody listens on
REFUSED_S: Final = 10.0  # to one that will not tell its events
ASK_S: Final = 5.0  # an agent for its status, at least …
ASK_APART_S: Final = 0.1  # … and of many agents one after the other
ANSWER_S: Final = 3.0
ACT_S: Final = 30.0
CATCH_UP_S: Final = 3.0
MOST_KEPT: Final = 5_000  # lines of an agent: it keeps fewer
MOST_FOLLOWED: Final = 2_500
MOST_WAITING: Final = 50_000  # lines: followers wait for the drain
MOST_AT_ONCE: Final = 2_000
_OF_ENGINES: Final = {"paused": "paused", "stopped": "offline", "killed": "killed", "absent": "offline"}


class Follower:
    """One socket, for as long as it is there."""

    def __init__(self, path: Path, feeds: Feeds) -> None:
        self.path = path
        self.peer = ""
        self.is_connected = False
        self.is_caught_up = False
        self._feeds = feeds
        self._number = 0
        self._began_ms: Any = None

    async def run(self) -> None:
        """Follow until the socket is gone."""
        while True:
            wait_s = AGAIN_S  # an agent that ends removes its socket last, and one that is started again needs a moment
            try:
                await self._listen()
            except NoServiceError as error:
                if error.state_dir is None:  # somebody is there, and we may not ask
                    self._feeds.complain(str(error))
                is_there = await asyncio.to_thread(self.path.exists)
                nobody_listens = error.state_dir is not None
                self._lose("offline" if not is_there else "killed" if nobody_listens else "silent")
                if not is_there:
                    return
            except GrapevineError as error:
                self._feeds.complain(str(error))
                self._lose("silent")
                wait_s = REFUSED_S
            self.is_caught_up = True
            await asyncio.sleep(wait_s)

    async def _listen(self) -> None:
        stream = astream(self.path, "events", {"after": self._number})
        try:
            hello = await stream.begin()
            if not isinstance(hello, dict):
                raise GrapevineError(f"{self.path}: is no agent's socket; leave it out of the pattern")
            if self._began_ms not in (None, hello.get("began_ms")):
                self._number, self._began_ms = 0, None  # it was started again: its numbers, too
                return
            self._began_ms = hello.get("began_ms")
            newest = count_in(hello, "number") or 0
            self._meet(hello)
            self.is_caught_up = newest <= self._number
            if not self.is_caught_up:
                await self._catch_up(stream, newest)
            async for line in stream:
                self._number = count_in(line, "number") or self._number
                await self._feeds.put(line)
        finally:
            await stream.aclose()

    async def _catch_up(self, stream: AsyncLines, newest: int) -> None:
        """Take what it told before: its clock may have been set since."""
        kept: list[Mapping[str, Any]] = []
        try:
            async for line in stream:
                self._number = count_in(line, "number") or self._number
                kept.append(line)
                if self._number >= newest or len(kept) >= MOST_KEPT:
                    break
        finally:
            for each in by_todays_clock(kept, self.peer):
                await self._feeds.put(each)
            self.is_caught_up = True

    def _meet(self, hello: Mapping[str, Any]) -> None:
        peer = id_in(hello, "peer")
        if self.peer and peer != self.peer:
            self._lose("offline")
        self.peer, self.is_connected = peer, True
        self._feeds.met(self, name_in(hello, "name"))

    def _lose(self, state: str) -> None:
        self.is_connected = False
        if self.peer:
            self._feeds.overview.lost(self.peer, state)

    async def ask(self, method: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """One question. Raises what `control.client.call` does."""
        asking = astream(self.path, method, params, timeout_s)
        try:
            return await asking.begin()
        finally:
            await asking.aclose()


class Feeds:
    """See the module's docstring.

    Args:
        sources: What to follow.
        overview: Where it goes.
        now_ms: The wall clock.
        say: Told once of each thing that keeps an agent from being followed.
    """

    def __init__(
        self, sources: Sources, overview: Overview, *, now_ms: Callable[[], int], say: Callable[[str], None]
    ) -> None:
        self.overview = overview
        self._sources = sources
        self._now_ms = now_ms
        self._say = say
        self._followers: dict[Path, Follower] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._lines: list[tuple[int, Mapping[str, Any]]] = []
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._said: set[str] = set()
        self._has_looked = False

    async def run(self) -> None:
        """Follow until cancelled."""
        others = [self._ask_all(), *([self._ask_engine()] if self._sources.states is not None else [])]
        running = [asyncio.create_task(each) for each in others]
        try:
            while not any(task.done() for task in running):
                await self._look_for_sockets()
                await asyncio.sleep(LOOK_FOR_S)
            for task in running:
                if task.done():
                    task.result()  # says what went wrong
        finally:
            for task in (*running, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(*running, *self._tasks.values(), return_exceptions=True)

    async def begin(self) -> None:
        """Wait until all that is there has told what it kept, or for a while: then the curves begin in order."""
        deadline_s = asyncio.get_running_loop().time() + CATCH_UP_S
        while asyncio.get_running_loop().time() < deadline_s:
            if self._has_looked and all(each.is_caught_up for each in self._followers.values()):
                return
            await asyncio.sleep(0.05)

    async def drain(self) -> None:
        """Let the overview have what has come, by its times."""
        waiting, self._lines = sorted(self._lines, key=lambda each: each[0]), []
        self._has_room.set()
        for number, (_, line) in enumerate(waiting, start=1):
            self.overview.tell(line, self._now_ms())
            if number % MOST_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def put(self, line: Mapping[str, Any]) -> None:
        """Take an event; waits while too many are waiting."""
        await self._has_room.wait()
        self._lines.append((time_in(line, "at_ms") or 0, line))
        if len(self._lines) >= MOST_WAITING:
            self._has_room.clear()

    def met(self, follower: Follower, name: str) -> None:
        """A follower hears an agent."""
        role, profile = self._sources.roles.get(name, ""), self._sources.profiles.get(name, "")
        self.overview.met(follower.peer, name, self._now_ms(), role=role, profile=profile)

    def complain(self, why: str) -> None:
        """Say once what keeps an agent from being followed."""
        if why not in self._said and len(self._said) < 100:
            self._said.add(why)
            self._say(why)

    async def ask(self, peer: str, method: str, params: Mapping[str, Any]) -> Any:
        """Ask an agent to do something; without one the reviewer among them, or the only one there is."""
        return await self._chosen(peer).ask(method, params, ACT_S)

    def _chosen(self, peer: str) -> Follower:
        there = [each for each in self._followers.values() if each.is_connected]
        book = self.overview.book
        if not peer:
            reviewers = [each for each in there if (known := book.peers.get(each.peer)) and known.role == "reviewer"]
            there = reviewers or there
            if len(there) == 1:
                return there[0]
            raise RequestError("several agents could speak here: say which one does (peer)")
        for each in there:
            if each.peer == peer:
                return each
        raise RequestError(
            f"{peer[:64]}: is no agent that this dashboard talks to now; choose one of its own that is alive"
        )

    # --- asked now and then -------------------------------------------------------------------------------

    async def _look_for_sockets(self) -> None:
        for path in map(Path, await asyncio.to_thread(_found, self._sources.sockets)):
            if path in self._tasks and not self._tasks[path].done():
                continue
            if len(self._followers) >= MOST_FOLLOWED and path not in self._followers:
                self.complain(f"more than {MOST_FOLLOWED} agents: the others are not followed")
                break
            self._followers[path] = Follower(path, self)
            self._tasks[path] = asyncio.create_task(self._followers[path].run(), name=f"follower of {path}")
        self._has_looked = True
        for path in [path for path, task in self._tasks.items() if task.done()]:
            failed = self._tasks.pop(path)
            if not failed.cancelled() and (error := failed.exception()) is not None:
                logger.error("following %s failed", path, exc_info=error)
            del self._followers[path]

    async def _ask_all(self) -> None:
        """Each agent for its status in turn, and one of them for peers and reviews."""
        for turn in itertools.count():
            there = [each for each in self._followers.values() if each.is_connected]
            began_s = asyncio.get_running_loop().time()
            asking = []
            for each in there:
                asking.append(asyncio.create_task(self._ask_status(each)))
                await asyncio.sleep(min(ASK_APART_S, ASK_S / len(there)))
            if there:
                asking.append(asyncio.create_task(self._ask_about_others(there[turn % len(there)])))
            for fault in await asyncio.gather(*asking, return_exceptions=True):
                if isinstance(fault, Exception):  # of one agent's answer; the others are asked all the same
                    logger.error("what an agent answered could not be taken", exc_info=fault)
            took_s = asyncio.get_running_loop().time() - began_s
            await asyncio.sleep(max(0.2, (ASK_S if there else LOOK_FOR_S) - took_s))

    async def _ask_status(self, follower: Follower) -> None:
        try:
            status = await follower.ask("status", {}, ANSWER_S)
        except NoAnswerError:
            if follower.is_connected:
                self.overview.found(follower.peer, "silent")
            return
        except GrapevineError:
            return
        peer = self.overview.book.peers.get(follower.peer)
        if peer is None or not follower.is_connected or not isinstance(status, dict):
            return
        if peer.state == "silent":
            self.overview.found(peer.id, "alive")
        look_at_status(self.overview.book, peer, status, self._now_ms())

    async def _ask_about_others(self, follower: Follower) -> None:
        book = self.overview.book
        try:
            look_at_peers(book, await follower.ask("peers", {}, ANSWER_S), self._now_ms())
            reviews = await follower.ask("reviews", {}, ANSWER_S)
        except GrapevineError as error:
            logger.debug("%s: %s", follower.path, error)
            return
        if (peer := book.peers.get(follower.peer)) is not None:
            look_at_reviews(book, peer, reviews, self._now_ms())

    async def _ask_engine(self) -> None:
        states = self._sources.states
        assert states is not None
        while True:
            try:
                told = await asyncio.to_thread(states)
            except (GrapevineError, OSError) as error:
                self.complain(str(error))
                told = {}
            for peer in list(self.overview.book.peers.values()):
                state = _OF_ENGINES.get(told.get(peer.name, ""), "")
                if state:
                    self.overview.found(peer.id, state)
                elif told.get(peer.name) == "running" and peer.is_connected and peer.state == "paused":
                    self.overview.found(peer.id, "alive")
            await asyncio.sleep(LOOK_FOR_S)


def _found(patterns: tuple[str, ...]) -> list[str]:
    # Not `Path.glob`: a pattern begins wherever its owner says.
    return [path for pattern in patterns for path in glob.iglob(pattern, recursive=True)]  # noqa: PTH207
