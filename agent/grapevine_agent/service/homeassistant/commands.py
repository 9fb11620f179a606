"""What Home Assistant may ask for, and what is refused: pure decisions about single messages.

Whoever may publish on these topics commands, so it is little that can be asked for, all of it can be taken back, and
not often. A retained command is refused: it would be carried out again at each connection, long after somebody
meant it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grapevine_agent.service.figures import SHORT_ID
from grapevine_agent.service.homeassistant.components import OFF, ON, PRESS, Topics
from grapevine_proto.quotas import Bucket

LONGEST_COMMAND: Final = 16  # bytes
BURST: Final = 6
SECONDS_EACH: Final = 5.0  # after so many at once
_KEY: Final = re.compile(rf"[0-9a-f]{{{SHORT_ID}}}")


@dataclass(frozen=True)
class Pause:
    """Pause learning, or go on."""

    wanted: bool


@dataclass(frozen=True)
class Leave:
    """Leave the task that this key stands for."""

    key: str


Command: TypeAlias = Pause | Leave
Refusal: TypeAlias = Literal["command-retained", "command-unknown", "command-too-often"]


class Commands:
    """Reads commands, so many in a time."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._share = Bucket(per_s=1 / SECONDS_EACH, burst=BURST)

    def read(self, topic: str, payload: bytes | memoryview, *, retained: bool, now_s: float) -> Command | Refusal:
        """The command, or why there is none. `now_s`: monotonic."""
        if retained:
            return "command-retained"
        command = self._parse(topic, bytes(payload[:LONGEST_COMMAND]))
        if command is None:
            return "command-unknown"
        return command if self._share.take(1, now_s) else "command-too-often"

    def _parse(self, topic: str, payload: bytes) -> Command | None:
        if topic == self._topics.pause:
            return {ON.encode(): Pause(True), OFF.encode(): Pause(False)}.get(payload)
        key = topic.removeprefix(self._topics.leave(""))
        return Leave(key) if _KEY.fullmatch(key) and payload == PRESS.encode() else None
