"""A file of event lines, told again as fast as its own times say, or faster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from grapevine_agent.dashboard.clocks import Clocks
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.words import id_in, name_in, time_in
from grapevine_proto.errors import ConfigError

LONGEST_LINE: Final = 1 << 18  # bytes
STEP_S: Final = 0.1
LONGEST_WAIT_S: Final = 20.0  # for the next event
MOST_AT_ONCE: Final = 2_000  # lines between two breaths of the loop


def lines_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a file. Raises `ConfigError` for a file that cannot be read, and a line that is none."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if line.strip():
                    yield _event(path, number, line)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a file of `grapevine events --json`"
        ) from None


def check(path: Path) -> None:
    """Raise `ConfigError` unless a file begins with an event."""
    first = next(lines_of(path), None)
    if first is None:
        raise ConfigError(f"{path}: holds no events; write one with `grapevine events --json > {path.name}`")
    if not (name_in(first, "event") and id_in(first, "peer")):
        raise ConfigError(
            f"{path}: its first line has no `event` and no `peer`; name a file of `grapevine events --json`"
        )


async def replay(path: Path, overview: Overview, speed: float, clock: Callable[[], float]) -> None:
    """Tell a file's events, `speed` of their seconds in one of the clock's; 0: all at once. Long silences are cut."""
    began_s, first_ms, latest_ms, clocks = clock(), -1, 0, Clocks()
    for number, line in enumerate(map(clocks.steady, lines_of(path)), start=1):
        at_ms = time_in(line, "at_ms") or 0
        latest_ms = max(at_ms, latest_ms)
        if first_ms < 0:
            first_ms = at_ms
        if speed and (wait_s := (at_ms - first_ms) / speed / 1e3 - (clock() - began_s)) > LONGEST_WAIT_S:
            began_s -= wait_s - LONGEST_WAIT_S
        while speed and (now_ms := first_ms + (clock() - began_s) * speed * 1e3) < at_ms:
            overview.advance(int(now_ms))
            await asyncio.sleep(min(STEP_S, (at_ms - now_ms) / speed / 1e3))
        overview.tell(line, latest_ms)
        if number % MOST_AT_ONCE == 0:
            overview.advance(latest_ms)
            await asyncio.sleep(0)
    overview.advance(latest_ms + 1_000)  # closes what the last events began


def _event(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        if len(line) >= LONGEST_LINE:
            raise ValueError(f"longer than {LONGEST_LINE} bytes")
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number}: is no event ({error}); each line is one JSON object") from None
    if not isinstance(event, dict):
        raise ConfigError(f"{path}, line {number}: is no event; each line is one JSON object")
    return event
