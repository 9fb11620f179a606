"""Members that die without a word: how much is still sent to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from grapevine_agent.core.effects import Subscribe, Unsubscribe
from grapevine_agent.core.learning.gossip import SendClock, Targets
from grapevine_agent.core.overlay.members import ROTATE_HEARTBEATS, Members
from grapevine_agent.core.overlay.sample import SAMPLE_ALL_BELOW
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState

HEARTBEAT_S = 1.0
SENDS_PER_S = 4.0
TURNS = 10  # in which everybody beats, in each interval


@dataclass
class Overlay:
    """One agent's view of so many members, some of whom are silent from `die_s` on, without a will."""

    num_members: int
    num_dead: int
    are_named: bool
    die_s: float

    def __post_init__(self) -> None:
        self.everybody = [f"{k:020d}" for k in range(self.num_members)]
        self.dead = set(self.everybody[: self.num_dead])
        self.rng = np.random.default_rng(0)
        named = set(self.everybody) if self.are_named else set()
        self.members = Members(HEARTBEAT_S, self.rng, named=named, only_named=self.are_named)
        for peer in self.everybody:
            self.members.hear_announcement(peer, PeerAnnouncement(tasks=("t",)))
            self.members.hear_state(peer, PeerState(online=True), 1, 0.0)
        self.filters: set[str] = set()
        self.clock = SendClock(self.rng)
        self.clock.arm(0.0, SENDS_PER_S)
        self._turn = 0

    def run(self, until_s: float) -> list[str]:
        """Let time pass. To whom something was sent meanwhile."""
        sent: list[str] = []
        while (now_s := self._turn * HEARTBEAT_S / TURNS) < until_s:
            for effect in self.members.tick(now_s):
                if isinstance(effect, Subscribe):
                    self.filters.add(effect.filter)
                elif isinstance(effect, Unsubscribe):
                    self.filters.discard(effect.filter)
            for peer in self.everybody[self._turn % TURNS :: TURNS]:
                if self._is_heard(peer, now_s):
                    self.members.hear_heartbeat(peer, Heartbeat(), now_s, session=1)
            while self.clock.next_s <= now_s:
                members = self.members.of_task("t", now_s)
                target = self.clock.pick(Targets(everybody=members, useful=self.members.useful("t", members, now_s)))
                sent += [target] if target is not None else []
                self.clock.arm(self.clock.next_s, SENDS_PER_S)
            self._turn += 1
        return sent

    def _is_heard(self, peer: str, now_s: float) -> bool:
        if peer in self.dead and now_s >= self.die_s:
            return False
        listened = bool(self.filters & {"peer/+/heartbeat", f"peer/{peer}/heartbeat"})
        return listened and self.members.listens_to(peer, now_s)


@pytest.mark.parametrize("are_named", [False, True])
@pytest.mark.parametrize(("num_members", "num_dead"), [(15, 9), (20, 12), (40, 24), (80, 40)])
def test_what_is_sent_to_the_dead_ends_once_they_were_in_the_sample(
    num_members: int, num_dead: int, are_named: bool
) -> None:
    rotations = math.ceil(num_members / SAMPLE_ALL_BELOW) + 1  # everybody was in it in turn, and long enough
    overlay = Overlay(num_members, num_dead, are_named, die_s=20.0)
    before = overlay.run(20.0)
    assert set(before) & overlay.dead
    overlay.run(20.0 + rotations * ROTATE_HEARTBEATS * HEARTBEAT_S)
    sent = overlay.run(20.0 + (rotations + 20) * ROTATE_HEARTBEATS * HEARTBEAT_S)
    assert len(sent) > 700
    assert sum(peer in overlay.dead for peer in sent) < 0.02 * len(sent)
    assert set(sent) - overlay.dead == set(overlay.everybody) - overlay.dead


@pytest.mark.parametrize("are_named", [False, True])
def test_a_member_that_was_silent_is_sent_to_again_soon_after_it_is_back(are_named: bool) -> None:
    overlay = Overlay(40, 24, are_named, die_s=20.0)
    overlay.run(200.0)
    overlay.dead.clear()
    overlay.run(220.0)
    assert set(overlay.run(320.0)) == set(overlay.everybody)
