"""Recording live topics beside learning: the shell around `data.recorder`.

It subscribes through the agent's own connection, hands messages to the recorder, and writes what becomes of
them every half minute, on a thread. What a disk does not take waits in memory, the newest rows of it. A source that
records nothing for long is told of in the log, once; `status` says why at any time, as do the tasks that wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from grapevine_agent.data.recorder import FLUSH_S, Recorder, SourceRecording
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.silence import why_silent
from grapevine_agent.data.source import RECORDINGS_FILE, DataSource
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachments
from grapevine_agent.service.saving import readable
from grapevine_agent.service.unsaved import Unsaved
from grapevine_proto.errors import BrokerError, StoreError

logger = logging.getLogger(__name__)

_TICK_S = 1.0
KIND = "recordings"
SAY_AFTER_S = 600.0  # that a source records nothing, or after three of its slots
_MAX_WAITING = 100_000  # rows; a disk that stays full costs the oldest


class Recording:
    """Records the sources that are topics. `run` is its one task; `finish` after it.

    Raises StoreError when the recordings are of a newer version, or another user's.
    """

    def __init__(self, state_dir: Path, sources: Sequence[DataSource], unsaved: Unsaved) -> None:
        self._recordings = Recordings(state_dir / RECORDINGS_FILE)
        self._unsaved = unsaved
        topics = [source for source in sources if source.recording is not None]
        self.recorder = Recorder(topics, {source.name: self._latest(source.name) for source in topics})
        fastest_s = min(source.recording.every_s for source in topics if source.recording is not None)
        self._flush_s = min(FLUSH_S, max(2.0, float(fastest_s)))
        self._waiting: list[Row] = []
        self._began_s = time.monotonic()
        self._refused: frozenset[str] = frozenset()  # filters that the broker does not let us subscribe to
        self._told: set[str] = set()  # sources that the log has a line about

    def takes(self, topic: str) -> bool:
        """Whether a message on this topic is recorded."""
        return self.recorder.takes(topic)

    def hear(self, topic: str, payload: bytes | memoryview, *, retained: bool) -> None:
        """Take a message; anything that is wrong with it is counted."""
        self._waiting += self.recorder.hear(topic, payload, clock.now().wall_ms / 1000, retained=retained)

    def subscribed(self, refused: Collection[str]) -> None:
        """There is a new connection, whose broker refuses these filters."""
        self._refused = frozenset(refused)

    def counts(self) -> dict[str, int]:
        """Messages, by what became of them."""
        return dict(self.recorder.counts)

    def status(self) -> list[dict[str, Any]]:
        """Of each source its rows since the start, and if it records nothing, why: a line for each column."""
        return [
            {"name": each.source.name, "rows": each.num_rows, "why": self._why(each)}
            for each in self.recorder.recordings
        ]

    def why_silent(self, kind: str) -> str:
        """Why sources of a kind record nothing, in one line; empty where all do."""
        silent = ((each.source, self._why(each)) for each in self.recorder.recordings if each.source.kind == kind)
        return "; ".join(f"{source.name} records nothing: {', '.join(why)}" for source, why in silent if why)

    def _why(self, recording: SourceRecording) -> list[str]:
        if refused := [each for each in dict.fromkeys(recording.filters) if each in self._refused]:
            return [f"the broker refuses {', '.join(refused)} to this agent: check its access rules for our user name"]
        return why_silent(recording, clock.now().wall_ms / 1000, up_s=time.monotonic() - self._began_s)

    def _tell(self) -> None:
        """Say of each source that has recorded nothing since the start why not, once it should have."""
        for each in self.recorder.recordings:
            name, after_s = each.source.name, max(SAY_AFTER_S, 3.0 * each.plan.every_s)
            if name in self._told or each.num_rows or time.monotonic() - self._began_s < after_s:
                continue
            if why := self._why(each):
                self._told.add(name)
                logger.warning("%s records nothing: %s", name, "; ".join(why))

    async def run(self, brokers: Attachments) -> None:
        """Subscribe, then close slots and write rows until cancelled. A transport subscribes again by itself."""
        try:
            await brokers.subscribe(*((each, 0) for each in self.recorder.filters))
        except BrokerError as error:
            logger.warning("sensors are not recorded: %s", error)
        flushed_s = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            self._waiting += self.recorder.tick(clock.now().wall_ms / 1000)
            self._tell()
            del self._waiting[:-_MAX_WAITING]
            if time.monotonic() - flushed_s >= self._flush_s and self._unsaved.may_try(KIND):
                flushed_s = time.monotonic()
                await self._flush()

    async def finish(self) -> None:
        """Write what is there, and close the file."""
        await self._flush()
        self._recordings.close()

    async def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        now_s = clock.now().wall_ms / 1000
        try:
            await asyncio.to_thread(self._recordings.add, rows, self.recorder.sources, now_s)
        except StoreError as error:
            self._unsaved.failed(KIND, error)
            self._waiting = (rows + self._waiting)[-_MAX_WAITING:]
        else:
            self._unsaved.saved(KIND)

    def _latest(self, source: str) -> dict[str, tuple[int, int]]:
        return readable(lambda: self._recordings.latest(source), dict)
