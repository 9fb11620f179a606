"""The owner's sources, looked at beside the service: what is in them, and whether tasks can take their samples.

    match_data ─look▶ the last answer, at once, or `PendingError` ─┐
                                                                   ├▶ a desk for each source: a thread compares what
    a trainer  ─fresh▶ waits for an answer that is up to date ─────┘  the file system says of it, and where that has
                                                                      changed has a process look (`data.inspecting`)
    an answer that is news ─▶ the core judges again what is approved

An answer is kept for each source and contract, and holds until there is another one. A file that is written all the
time is looked at again no sooner than after twenty times what the last look took of a processor: so looks take a
twentieth of one at most, and a busy device does not make them seldom. Where the samples were good, a
task wants them no more often than its trainer reads them (`reload_s`). What could not be looked at is tried again, too,
after growing pauses: a disk may come back without a change that can be seen.

Threads and processes, because nothing bounds how long a file system takes to answer. One that never does keeps its own
desk waiting, and nobody else. A process is killed at its deadline, grows by so much and no more, and is there only
while there is something to look at; two at most are there at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from grapevine_agent.data import inspecting
from grapevine_agent.data.inspecting import request_line
from grapevine_agent.data.inspection import Inspection
from grapevine_agent.data.matching import PendingError
from grapevine_agent.data.source import ContractKey, DataSource
from grapevine_agent.training.process import environment_for, how_it_ended
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract

logger = logging.getLogger(__name__)

PAUSE_TIMES: Final = 20.0  # as long as a look computed there is none again
LONGEST_PAUSE_S: Final = 3600.0
FIRST_RETRY_S, LONGEST_RETRY_S = 15.0, 600.0
LEAST_MEMORY_MB, MOST_MEMORY_MB = 256, 1024  # that a process may take beside its libraries
SHORTEST_DEADLINE_S: Final = 120.0
LONGEST_DEADLINE_S: Final = 3600.0
_SLOWEST_BYTES_PER_S: Final = 2**20
_MOST_KEPT: Final = 256
_LONGEST_ANSWER: Final = 2**24
_MOST_PROCESSES: Final = 2
_SAY_SINCE_S: Final = 60.0
_END_S: Final = 5.0

_ENDS: Final = Inspection(trouble="the agent ends")

Identity: TypeAlias = tuple[tuple[int, ...] | None, ...]


@dataclass
class _Kept:
    """The last answer about a source and a contract."""

    inspection: Inspection
    identity: Identity
    at_s: float  # monotonic
    used_s: float  # of a processor
    num_failed: int = 0  # looks in a row at the same file that told nothing

    def is_due(self, identity: Identity, source: DataSource, contract: DataContract, now_s: float) -> bool:
        """Whether it is time to look again, at a source that is `identity` now."""
        if identity == self.identity:
            if self.inspection.description is not None:
                return False
            retry_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self.num_failed - 1, 16))
            return now_s - self.at_s >= max(retry_s, self._pause_s)
        if self.inspection.trouble:
            return now_s - self.at_s >= self._pause_s
        wanted_s = min(source.reload_s, contract.max_age_s / 4 or math.inf)
        return now_s - self.at_s >= max(self._pause_s, wanted_s)

    @property
    def _pause_s(self) -> float:
        return min(LONGEST_PAUSE_S, PAUSE_TIMES * self.used_s)


@dataclass
class _Asked:
    """A contract that a source is to be looked at for, and who waits for that."""

    contract: DataContract
    since_s: float
    waiting: list[Future[Inspection]] = field(default_factory=list)
    is_in_hand: bool = False


@dataclass
class _Desk:
    """A source, and the thread that looks after it."""

    source: DataSource
    asked: OrderedDict[ContractKey, _Asked] = field(default_factory=OrderedDict)
    wake: queue.SimpleQueue[bool] = field(default_factory=queue.SimpleQueue)
    process: _Process | None = None


class Inspector:
    """See the module's docstring. Any thread may call.

    Args:
        memory_mb: What a process may take beside its libraries.
    """

    def __init__(self, *, memory_mb: int = 0) -> None:
        self._memory_mb = min(MOST_MEMORY_MB, max(LEAST_MEMORY_MB, memory_mb))
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[DataSource, ContractKey], _Kept] = OrderedDict()
        self._desks: dict[DataSource, _Desk] = {}
        self._room = threading.BoundedSemaphore(_MOST_PROCESSES)
        self._is_closed = False
        self._on_news: Callable[[], None] = lambda: None

    def tell(self, loop: asyncio.AbstractEventLoop, on_news: Callable[[], object]) -> None:
        """From now on have a loop call `on_news` whenever an answer is another one than before."""

        def told() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(on_news)

        self._on_news = told

    def look(self, source: DataSource, contract: DataContract) -> Inspection:
        """The last answer; a newer one is asked for where that is due. Raises `PendingError` before the first."""
        with self._lock:
            kept = self._kept.get((source, ContractKey(contract))) or self._of_another_limit(source, contract)
            asked = self._ask(source, contract)
            waits_s = time.monotonic() - asked.since_s
        if kept is not None:
            return kept.inspection
        since = f" (for {waits_s / 60:.0f} minutes: does {source.path} answer?)" if waits_s > _SAY_SINCE_S else ""
        raise PendingError(f"{source.name}: its samples are being checked{since}")

    def _of_another_limit(self, source: DataSource, contract: DataContract) -> _Kept | None:
        """The answer from before its owner gave it other memory: it holds until the next one, which is asked for."""
        wanted = ContractKey(contract)
        for (each, key), kept in reversed(self._kept.items()):
            if key == wanted and replace(each, max_bytes=source.max_bytes) == source:
                return kept
        return None

    def fresh(self, source: DataSource, contract: DataContract) -> Inspection:
        """An answer about the source as it is now; waits for it."""
        waiting: Future[Inspection] = Future()
        with self._lock:
            if self._is_closed:
                return _ENDS
            self._ask(source, contract).waiting.append(waiting)
        return waiting.result()

    def close(self) -> None:
        """End all processes; whoever waits is told. Nothing is asked any more."""
        with self._lock:
            self._is_closed = True
            desks = list(self._desks.values())
            waiting = [each for desk in desks for asked in desk.asked.values() for each in asked.waiting]
            for desk in desks:
                desk.wake.put(False)
                if desk.process is not None:
                    desk.process.kill()
        for each in waiting:
            if not each.done():
                each.set_result(_ENDS)

    def _ask(self, source: DataSource, contract: DataContract) -> _Asked:
        """Put a question on a source's desk, once. Called with the lock held."""
        if source not in self._desks:
            desk = self._desks[source] = _Desk(source)
            name = f"desk of {source.name}"
            # A daemon: a file system that never answers is not to keep the agent from ending.
            threading.Thread(target=self._attend, args=(desk,), name=name, daemon=True).start()
        desk, key = self._desks[source], ContractKey(contract)
        asked = desk.asked.get(key)
        if asked is None or asked.is_in_hand:  # what is in hand may be out of date already
            held = asked
            asked = _Asked(contract, time.monotonic() if held is None else held.since_s)
            if held is not None:
                asked.waiting += held.waiting
                held.waiting = []
            desk.asked[key] = asked
            desk.wake.put(True)
        return asked

    # --- at a desk --------------------------------------------------------------------------------

    def _attend(self, desk: _Desk) -> None:
        while desk.wake.get() and not self._is_closed:
            with self._lock:
                key, asked = next(
                    ((key, each) for key, each in desk.asked.items() if not each.is_in_hand), (None, None)
                )
                if key is None or asked is None:
                    continue
                asked.is_in_hand = True
            try:
                inspection, is_news = self._answered(desk, key, asked)
            except Exception as error:  # a fault of ours is to leave the desk open
                logger.exception("%s cannot be looked at", desk.source.name)
                inspection, is_news = Inspection(trouble=f"{desk.source.name}: {type(error).__name__}: {error}"), False
            self._settle(desk, key, asked, inspection)
            if is_news and not self._is_closed:
                self._on_news()

    def _settle(self, desk: _Desk, key: ContractKey, asked: _Asked, inspection: Inspection) -> None:
        with self._lock:
            if desk.asked.get(key) is asked:
                del desk.asked[key]
            is_idle = not desk.asked
            waiting, asked.waiting = asked.waiting, []
        if is_idle:
            self._end_process(desk)
        for each in waiting:
            with suppress(Exception):  # it was told already that the agent ends
                each.set_result(inspection)

    def _answered(self, desk: _Desk, key: ContractKey, asked: _Asked) -> tuple[Inspection, bool]:
        """An answer, and whether it is another one than before."""
        source = desk.source
        identity, num_bytes = identify(source)
        now_s = time.monotonic()
        with self._lock:
            kept = self._kept.get((source, key))
            is_due = kept is None or kept.is_due(identity, source, asked.contract, now_s)
            is_wanted = bool(asked.waiting) and kept is not None and kept.identity != identity
        if kept is not None and not is_due and not is_wanted:
            return kept.inspection, False
        inspection, used_s = self._looked_at(desk, asked.contract, num_bytes)
        same_file = kept is not None and kept.identity == identity
        num_failed = 0 if inspection.description else 1 + (kept.num_failed if kept is not None and same_file else 0)
        with self._lock:
            self._kept[source, key] = _Kept(inspection, identity, time.monotonic(), used_s, num_failed)
            self._kept.move_to_end((source, key))
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        if inspection.trouble and (kept is None or kept.inspection.trouble != inspection.trouble):
            logger.warning("%s", inspection.trouble)
        return inspection, kept is None or kept.inspection != inspection

    def _looked_at(self, desk: _Desk, contract: DataContract, num_bytes: int) -> tuple[Inspection, float]:
        """What a process says, and what it took of a processor; of the first its start as well."""
        deadline_s = min(LONGEST_DEADLINE_S, SHORTEST_DEADLINE_S + num_bytes / _SLOWEST_BYTES_PER_S)
        source, process, before_s = desk.source, desk.process, 0.0
        try:
            if process is None:
                process = self._begin_process(desk)
            else:
                before_s = process.cpu_s()
            return process.ask(source, contract, deadline_s), process.cpu_s() - before_s
        except (TaskError, OSError) as error:
            used_s = process.cpu_s() - before_s if process is not None else 0.0
            self._end_process(desk)
            return Inspection(trouble=str(source.error(str(error)))), max(0.0, used_s)

    def _begin_process(self, desk: _Desk) -> _Process:
        self._room.acquire()
        try:
            process = _Process(self._memory_mb)
        except BaseException:
            self._room.release()
            raise
        with self._lock:
            desk.process = process
            if self._is_closed:
                process.kill()
        return process

    def _end_process(self, desk: _Desk) -> None:
        with self._lock:
            process, desk.process = desk.process, None
        if process is not None:
            process.end()
            self._room.release()


def identify(source: DataSource) -> tuple[Identity, int]:
    """What the file system says of a source, which is another thing once it has changed; and its size in bytes."""
    paths = [source.path]
    if source.format in ("sqlite", "mqtt"):
        paths.append(source.path.with_name(source.path.name + "-wal"))
    if source.format == "images":
        with suppress(OSError), os.scandir(source.path) as entries:
            paths += sorted(Path(entry.path) for entry in entries if entry.is_dir())
    identity: list[tuple[int, ...] | None] = []
    num_bytes = 0
    for path in paths:
        try:
            found = path.stat()
        except (OSError, ValueError):
            identity.append(None)
        else:
            num_bytes += found.st_size
            identity.append((found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev))
    if source.format in ("images", "torchvision"):  # whose sizes are not those of their folders
        num_bytes = int(LONGEST_DEADLINE_S * _SLOWEST_BYTES_PER_S)
    return tuple(identity), num_bytes


class _Process:
    """One process that looks at sources. Raises OSError when it cannot be started."""

    def __init__(self, memory_mb: int) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = map(str, (theirs.fileno(), os.getpid(), memory_mb))
            try:
                self._popen = subprocess.Popen(
                    # -P: nothing that lies in the working directory is imported.
                    [sys.executable, "-P", "-m", inspecting.__name__, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=environment_for(os.environ, 1),
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise

    def ask(self, source: DataSource, contract: DataContract, deadline_s: float) -> Inspection:
        """An answer. Raises TaskError when there is none; then the process is to be ended."""
        until_s = time.monotonic() + deadline_s
        answer = bytearray()
        try:
            self._socket.settimeout(deadline_s)
            self._socket.sendall(request_line(source, contract))
            while not answer.endswith(b"\n"):
                self._socket.settimeout(max(0.001, until_s - time.monotonic()))
                chunk = self._socket.recv(65_536)
                if not chunk or len(answer) > _LONGEST_ANSWER:
                    raise TaskError(f"what looked at {source.path} died ({self._cause()}): is it damaged?")
                answer += chunk
        except TimeoutError:
            raise TaskError(
                f"looking at {source.path} took longer than {deadline_s:.0f} s and was given up: offer less of it"
            ) from None
        except (ConnectionError, BrokenPipeError):
            raise TaskError(f"what looked at {source.path} died ({self._cause()}): is it damaged?") from None
        return Inspection.from_json(bytes(answer))

    def cpu_s(self) -> float:
        """What it has taken of a processor; 0.0 once it has gone."""
        try:
            used = psutil.Process(self._popen.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system)

    def _cause(self) -> str:
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            return how_it_ended(self._popen.wait(_END_S))
        return "it does not end"

    def kill(self) -> None:
        """Kill it. It has nothing to save."""
        with suppress(OSError):
            self._popen.kill()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Kill it and wait for its end; one that hangs in the kernel is left behind."""
        self.kill()
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_S)
