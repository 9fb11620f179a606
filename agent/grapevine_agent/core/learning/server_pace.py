"""How often a server publishes, and how long a member's word stands: by the rounds of the members, not by heartbeats.

A server that publishes at every heartbeat while rounds take a minute sends dozens of models a round, each of the
few members that happened to be heard since, and forgets the others before they can speak again. How
long a round takes is what the task says, or what members need where that is more: the times between two updates of
one member. Who was not heard for some of its own rounds has left, and no longer has a say.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final

MODELS_PER_ROUND: Final = 3.0  # of a server that takes updates as they come
FORGET_INTERVALS: Final = 20.0  # an update this many heartbeats old no longer speaks for its sender,
FORGET_ROUNDS: Final = 3.0  # unless it is of one of the sender's last rounds
SLOWEST: Final = 4.0  # rounds this many times the usual one are waited for, and no slower ones
LONGEST_ROUND_S: Final = 3_600.0
LEFT_ROUNDS: Final = 3.0  # of its own, without an update: a member has left
MAX_MEMBERS: Final = 256


@dataclass(kw_only=True)
class ServerPace:
    """See the module's docstring. `in_rounds`: the strategy closes rounds, and a model is one round."""

    heartbeat_s: float
    round_interval_s: float  # as the task says
    in_rounds: bool = False
    _heard: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)  # member → version, when
    _rounds_s: dict[str, float] = field(default_factory=dict)  # member → how long its last round took
    _newest_s: float = 0.0  # when the newest update of all came

    def hear(self, member: str, version: int, now_s: float) -> None:
        """A member's update of this version came."""
        before = self._heard.get(member)
        if before is not None and version > before[0]:
            self._rounds_s[member] = (now_s - before[1]) / (version - before[0])
        if before is None or version != before[0]:
            self._heard[member] = (version, now_s)
            self._heard.move_to_end(member)
            self._newest_s = now_s
        if len(self._heard) > MAX_MEMBERS:
            self._rounds_s.pop(self._heard.popitem(last=False)[0], None)

    def every_s(self, member: str) -> float:
        """How long a member's last round took; 0 where that is not known."""
        return self._rounds_s.get(member, 0.0)

    @property
    def round_s(self) -> float:
        """How long a round takes: of two members the faster one decides, of more the one in the middle."""
        rounds_s = self._rounds_of_present_s
        measured_s = median_low(rounds_s) if rounds_s else 0.0
        return max(self.round_interval_s, min(measured_s, LONGEST_ROUND_S))

    @property
    def publish_every_s(self) -> float:
        """The time from one model to the next."""
        return max(self.heartbeat_s, self.round_s / (1.0 if self.in_rounds else MODELS_PER_ROUND))

    @property
    def forget_s(self) -> float:
        """How old a member's newest update may be."""
        slowest_s = max(self._rounds_of_present_s, default=0.0)
        round_s = max(self.round_s, min(slowest_s, SLOWEST * self.round_s))
        return max(FORGET_INTERVALS * self.heartbeat_s, FORGET_ROUNDS * round_s)

    @property
    def _rounds_of_present_s(self) -> list[float]:
        """How long rounds take of the members that have not left: times pass with what is heard of the others."""
        least_s = FORGET_INTERVALS * self.heartbeat_s
        return [
            round_s
            for member, round_s in self._rounds_s.items()
            if self._newest_s - self._heard[member][1] <= max(least_s, LEFT_ROUNDS * min(round_s, LONGEST_ROUND_S))
        ]
