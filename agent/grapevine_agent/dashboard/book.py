"""Everything that is known, within bounds, and what of it the page was not told yet."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from grapevine_agent.dashboard.patches import MOST_LINES
from grapevine_agent.dashboard.records import (
    MOST_MERGES,
    MOST_TASKS_OF_A_PEER,
    BrokerKnown,
    Learned,
    PeerKnown,
    TaskKnown,
)
from grapevine_agent.dashboard.traffic import Traffic
from grapevine_agent.dashboard.words import fit

MOST_PEERS: Final = 5_000
MOST_TASKS: Final = 64
MOST_BROKERS: Final = 64
FADES_MS: Final = 60_000  # since a task that was no event was heard of, until another may have its place
MOST_REASONS: Final = 64  # why messages were rejected
MOST_SINGLED_OUT: Final = 40  # peers of a task whose curves are told one by one
LINES_KEPT: Final = 2_000  # of the log, for the details of peers and tasks

_LOGIN: Final = re.compile(r"^([a-z]+://)[^/]*@")

BrokerOf = Callable[[str, str], str]


class Book:
    """See the module's docstring. Whoever was not heard of for longest makes room for who is new.

    Args:
        speed: How many of the source's seconds pass in one of the page's.
        broker_of: The name of a broker, by the name of an agent and the URL under which it knows that broker; empty:
            unknown.
    """

    def __init__(self, *, speed: float = 1.0, broker_of: BrokerOf | None = None) -> None:
        self.peers: dict[str, PeerKnown] = {}
        self.tasks: dict[str, TaskKnown] = {}
        self.brokers: dict[str, BrokerKnown] = {}
        self.rejected: Counter[str] = Counter()
        self.traffic = Traffic(speed)
        self.lines: deque[dict[str, Any]] = deque(maxlen=LINES_KEPT)
        self.new_lines: deque[dict[str, Any]] = deque(maxlen=MOST_LINES)
        self.changed: set[str] = set()  # peers
        self.gone: set[str] = set()  # tasks that made room
        self.dropped: set[tuple[str, str]] = set()  # task, peer: curves that are told no more
        self._broker_of = broker_of

    def peer(self, peer_id: str, now_ms: int) -> PeerKnown | None:
        """A peer, new or known; None without an id, or where there is no room."""
        known = self.peers.get(peer_id)
        if known is None:
            if not peer_id or (len(self.peers) >= MOST_PEERS and not self._make_room()):
                return None
            known = self.peers[peer_id] = PeerKnown(id=peer_id)
        known.told_ms = max(known.told_ms, now_ms)
        self.changed.add(peer_id)
        return known

    def task(self, task_id: str, label: str, now_ms: int, *, is_told: bool = True) -> TaskKnown | None:
        """A task, new or known; None without an id.

        `is_told`: by an event, or somebody takes part. Others, which anybody may have published, take the place of none
        but those of their kind that are not heard of any more: else None for them, too.
        """
        known = self.tasks.get(task_id)
        if known is None:
            if not task_id:
                return None
            if len(self.tasks) >= MOST_TASKS:
                least = min(self.tasks.values(), key=_worth)
                if not is_told and (least.is_told or least.told_ms > now_ms - FADES_MS):
                    return None
                self._forget_task(least.id)
            known = self.tasks[task_id] = TaskKnown(id=task_id)
        known.is_told |= is_told
        known.told_ms = max(known.told_ms, now_ms)
        known.label = label or known.label
        return known

    def broker(self, url: str, seen_by: PeerKnown) -> BrokerKnown | None:
        """The broker that an agent reaches at `url`; None where there is no room for one more."""
        url = _LOGIN.sub(r"\1", url.partition("?")[0])  # which MQTT is spoken, and by whom, is not which broker it is
        named = self._broker_of(seen_by.name, url) if self._broker_of is not None else ""
        key = fit(named or url, 200)
        if key not in self.brokers:
            if not key or len(self.brokers) >= MOST_BROKERS:
                return None
            self.brokers[key] = BrokerKnown(id=key, name=fit(named) or url.partition("://")[2] or url, url=fit(url))
        return self.brokers[key]

    def learned(self, peer: PeerKnown, task: TaskKnown) -> Learned | None:
        """How a peer does at a task that it takes part in; None where it says that of too many."""
        if task.id not in peer.learned:
            if len(peer.learned) >= MOST_TASKS_OF_A_PEER:
                return None
            peer.learned[task.id] = Learned()
            task.members.add(peer.id)
            if len(task.singled_out) < MOST_SINGLED_OUT:
                task.singled_out.add(peer.id)
        return peer.learned[task.id]

    def leave(self, peer: PeerKnown, task_id: str) -> None:
        """A peer takes part in a task no more."""
        if (task := self.tasks.get(task_id)) is None:
            return
        for each in (task.latest, task.staleness):
            each.pop(peer.id, None)
        task.members.discard(peer.id)
        peer.learned.pop(task_id, None)
        self._drop_curve(task, peer.id)

    def reject(self, peer: PeerKnown, reason: str, num: int = 1) -> None:
        """Count messages that a peer did not take."""
        if not self.may_count(reason):
            reason = "other"
        peer.rejected[reason] = peer.rejected.get(reason, 0) + num
        self.rejected[reason] += num

    def may_count(self, reason: str) -> bool:
        """Whether messages that were rejected for this reason are counted by themselves."""
        return reason in self.rejected or len(self.rejected) < MOST_REASONS

    def log(self, line: dict[str, Any]) -> None:
        """Keep one line of the log."""
        self.lines.append(line)
        self.new_lines.append(line)

    def shift(self, step_ms: int) -> None:
        """The clock was set by so much: everything happened that much earlier or later, by the clock as it goes now."""
        self.traffic.shift(step_ms)
        self.lines = deque(({**line, "at_ms": line["at_ms"] + step_ms} for line in self.lines), LINES_KEPT)
        self.new_lines = deque(({**line, "at_ms": line["at_ms"] + step_ms} for line in self.new_lines), MOST_LINES)
        for task in self.tasks.values():
            task.all.shift(step_ms)
            task.stale.shift(step_ms)
            task.told_ms += step_ms
            task.closes_ms = None if task.closes_ms is None else task.closes_ms + step_ms
        for peer in self.peers.values():
            peer.told_ms += step_ms
            peer.merges = deque(({**each, "at_ms": each["at_ms"] + step_ms} for each in peer.merges), MOST_MERGES)
            for learned in peer.learned.values():
                learned.curve.shift(step_ms)
                learned.measured_ms += step_ms if learned.measured_ms >= 0 else 0

    def forget(self, peer_id: str) -> None:
        """A peer is gone for good."""
        peer = self.peers.pop(peer_id, None)
        if peer is None:
            return
        for task in self.tasks.values():
            for values in (task.latest, task.staleness, task.verdicts):
                values.pop(peer_id, None)
            for tellers in task.counting.values():
                tellers.discard(peer_id)
            for members in (task.members, task.servers):
                members.discard(peer_id)
            self._drop_curve(task, peer_id)
        for broker in self.brokers.values():
            broker.connected.discard(peer_id)
        self.changed.discard(peer_id)

    def _drop_curve(self, task: TaskKnown, peer_id: str) -> None:
        if peer_id in task.singled_out:
            task.singled_out.discard(peer_id)
            self.dropped.add((task.id, peer_id))

    def _make_room(self) -> bool:
        """Forget the twentieth part of those that we do not talk to, heard of longest ago. Whether there are any."""
        others = sorted((each.told_ms, each.id) for each in self.peers.values() if not each.is_followed)
        for _, peer_id in others[: max(1, MOST_PEERS // 20)]:
            self.forget(peer_id)
        return bool(others)

    def _forget_task(self, task_id: str) -> None:
        for peer_id in self.tasks.pop(task_id).members:
            if (peer := self.peers.get(peer_id)) is not None:
                peer.learned.pop(task_id, None)
                self.changed.add(peer_id)
        self.gone.add(task_id)


def _worth(task: TaskKnown) -> tuple[int, bool, int]:
    return len(task.members), task.is_told, task.told_ms
