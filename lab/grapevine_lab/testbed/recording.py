"""What the lab writes down of itself while it is up: every message that passes a broker, as one line of JSON each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from grapevine_lab.fidelity.onlooker import Notes, Onlooker, Passed
from grapevine_lab.testbed.store import entries
from grapevine_proto.messages import Metrics

WRITE_EVERY_S: Final = 1.0
RECORDED: Final = "recorded.json"
MOST_BYTES: Final = 400_000_000  # of a lab that nobody takes down: then no more is written


class Recorder:
    """An onlooker at all brokers, whose notes go to a file. `run()` is its one task."""

    def __init__(self, urls: Sequence[str], root: str, path: Path) -> None:
        self._onlooker = Onlooker(urls, root)
        self._path = path
        self._num = 0

    @property
    def notes(self) -> Notes:
        """What was heard. What was written already is not in it any more."""
        return self._onlooker.notes

    @property
    def connected(self) -> asyncio.Event:
        """Whether it hears all brokers."""
        return self._onlooker.connected

    async def run(self) -> None:
        """Listen and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._onlooker.run())
            group.create_task(self._write())

    async def _write(self) -> None:
        num_bytes = 0
        try:
            while num_bytes < MOST_BYTES:
                await asyncio.sleep(WRITE_EVERY_S)
                num_bytes += self.flush()
            while True:  # nobody is to write any more, and memory is not to fill
                await asyncio.sleep(WRITE_EVERY_S)
                self.notes.passed.clear()
                self._tell()
        finally:
            self.flush()

    def flush(self) -> int:
        """Write what was noted since; how many bytes that was."""
        passed, self.notes.passed = self.notes.passed, []
        self._num += len(passed)
        self._tell()
        if not passed:
            return 0
        text = "".join(json.dumps(_told(each)) + "\n" for each in passed)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)
        return len(text)

    def _tell(self) -> None:
        if self.connected.is_set():
            partial = self._path.with_name(f"{RECORDED}.partial")
            partial.write_text(json.dumps({"rounds": self.notes.rounds, "num": self._num}), encoding="utf-8")
            partial.replace(self._path.with_name(RECORDED))


def recorded(folder: Path) -> dict[str, Any] | None:
    """How far a lab's recorder is: the rounds of each peer id, and how many messages were written; None: not begun."""
    try:
        told: dict[str, Any] = json.loads((folder / RECORDED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told


def read_passed(path: Path) -> list[Passed]:
    """What a recorder has written."""
    return [_passed(entry) for entry in entries(path)]


def _told(passed: Passed) -> dict[str, Any]:
    told = {name: getattr(passed, name) for name in Passed.__dataclass_fields__}
    metrics = passed.metrics
    told["metrics"] = asdict(replace(metrics, shares=(), best=None)) if metrics is not None else None
    return {name: value for name, value in told.items() if value or name in ("t_s", "num_bytes")}


def _passed(entry: dict[str, Any]) -> Passed:
    metrics = entry.pop("metrics", None)
    return Passed(**entry, metrics=Metrics(**{**metrics, "shares": ()}) if metrics is not None else None)
