"""Who is there: presence, sessions and how far each peer is.

A peer is *online* from its retained state (revoked by its will or its goodbye) and *alive* while it
is not silent for longer than expected. Presence never rests on the will alone: some brokers never
send it. Heartbeats of everybody would be n² deliveries, so only a rotating sample of ⌈3 ln n⌉ peers
is listened to; silence counts only against a peer that is in the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Effect, Subscribe, Unsubscribe
from grapevine_proto import topics
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState

SILENT_HEARTBEATS = 3.5  # a peer this many intervals late is not counted on
ROTATE_HEARTBEATS = 10  # the sample is drawn anew this often
SAMPLE_ALL_BELOW = 16  # in a small overlay everybody is in the sample


@dataclass
class Peer:
    """What is known of one other peer. Times are monotonic seconds of receipt."""

    id: str
    announcement: PeerAnnouncement = field(default_factory=PeerAnnouncement)
    online: bool = False
    session: int = 0
    last_heard_s: float = -math.inf
    versions: dict[str, int] = field(default_factory=dict)  # task → own updates so far, as it says


@dataclass
class Members:
    """The peers that this agent knows of, itself excluded. `capacity` bounds them."""

    heartbeat_s: float
    rng: np.random.Generator
    capacity: int = 5_000
    peers: dict[str, Peer] = field(default_factory=dict)
    sampled_since_s: dict[str, float] = field(default_factory=dict)
    _rotate_at_s: float = -math.inf
    _presence_changed: bool = False
    _by_task: dict[str, set[str]] = field(default_factory=dict)
    _all_heard_since_s: float = -math.inf  # nobody in the sample was silent for longer, when somebody last looked
    _online_of_task: dict[str, list[str]] = field(default_factory=dict)  # sorted; made when it is asked for

    def _known(self, peer: str) -> Peer | None:
        if peer not in self.peers and len(self.peers) >= self.capacity:
            gone = [p.id for p in self.peers.values() if not p.online]
            if not gone:
                return None
            self._forget(min(gone, key=lambda p: self.peers[p].last_heard_s))
        return self.peers.setdefault(peer, Peer(peer))

    def _forget(self, peer: str) -> None:
        for task in self.peers.pop(peer).announcement.tasks:
            self._by_task.get(task, set()).discard(peer)
            self._online_of_task.pop(task, None)

    def hear_announcement(self, peer: str, announcement: PeerAnnouncement) -> None:
        """Who a peer says it is, and which tasks it is a member of."""
        known = self._known(peer)
        if known is None:
            return
        for task in known.announcement.tasks:
            self._by_task.get(task, set()).discard(peer)
            self._online_of_task.pop(task, None)
        known.announcement = announcement
        for task in announcement.tasks:
            self._by_task.setdefault(task, set()).add(peer)
            self._online_of_task.pop(task, None)

    def hear_state(self, peer: str, state: PeerState, session: int, now_s: float) -> None:
        """Online or offline. An "online" that was retained may be old: the peer has a grace period to be heard."""
        known = self._known(peer)
        if known is None:
            return
        if known.online != state.online:
            self._presence_changed = True
            for task in known.announcement.tasks:
                self._online_of_task.pop(task, None)
        known.online, known.session = state.online, max(known.session, session)
        known.last_heard_s = now_s

    def hear_heartbeat(self, peer: str, heartbeat: Heartbeat, now_s: float) -> None:
        """A peer is alive, and this far with its tasks."""
        known = self.hear(peer, now_s)
        if known is not None:
            known.versions = {p.task: p.version for p in heartbeat.progress}

    def hear(self, peer: str, now_s: float) -> Peer | None:
        """Anything fresh from a peer shows that it is alive."""
        known = self.peers.get(peer)
        if known is not None:
            known.last_heard_s = now_s
        return known

    def session_of(self, peer: str) -> int:
        """The newest session of a peer, 0 if it was never heard."""
        known = self.peers.get(peer)
        return known.session if known else 0

    def is_alive(self, peer: str, now_s: float) -> bool:
        """Whether a peer can be counted on: online, and not silent while it was listened to."""
        known = self.peers.get(peer)
        if known is None or not known.online:
            return False
        since_s = self.sampled_since_s.get(peer)
        if since_s is None:
            return True
        return now_s - max(known.last_heard_s, since_s) <= SILENT_HEARTBEATS * self.heartbeat_s

    def of_task(self, task: str, now_s: float) -> list[str]:
        """Live members of a task, sorted: the neighbours that gossip about it can reach.

        Asked for at every send. Who is online changes seldom, and only the few that are in the sample can be silent.
        """
        online = self._online_of_task.get(task)
        if online is None:
            members = self._by_task.get(task, ())
            online = self._online_of_task[task] = sorted(peer for peer in members if self.peers[peer].online)
        limit_s = now_s - SILENT_HEARTBEATS * self.heartbeat_s
        if self._all_heard_since_s < limit_s:
            times = [max(self.peers[p].last_heard_s, s) for p, s in self.sampled_since_s.items() if p in self.peers]
            self._all_heard_since_s = min(times, default=math.inf)
        if self._all_heard_since_s >= limit_s:
            return list(online)
        return [peer for peer in online if self.is_alive(peer, now_s)]

    def num_alive(self, now_s: float) -> int:
        """How many peers can be counted on."""
        return sum(self.is_alive(peer, now_s) for peer in self.peers)

    def tick(self, now_s: float) -> list[Effect]:
        """Keep the sample of peers whose heartbeats are listened to full, and draw it anew in time."""
        due = now_s >= self._rotate_at_s
        if not due and not self._presence_changed:
            return []
        self._presence_changed = False
        online = sorted(peer.id for peer in self.peers.values() if peer.online)
        held = set(self.sampled_since_s)
        if len(online) <= SAMPLE_ALL_BELOW:
            wanted = set(online)
        else:
            size = max(SAMPLE_ALL_BELOW, math.ceil(3 * math.log(len(online))))
            kept = set() if due else held & set(online)
            others = [peer for peer in online if peer not in kept]
            drawn = self.rng.choice(others, max(0, size - len(kept)), replace=False)
            wanted = kept | {str(peer) for peer in drawn}
        if due:
            self._rotate_at_s = now_s + ROTATE_HEARTBEATS * self.heartbeat_s
        for peer in held - wanted:
            del self.sampled_since_s[peer]
        for peer in wanted - held:
            self.sampled_since_s[peer] = now_s
        return [
            *(Unsubscribe(filter=topics.PeerTopic(p, "heartbeat").below_root()) for p in sorted(held - wanted)),
            *(Subscribe(filter=topics.PeerTopic(p, "heartbeat").below_root(), qos=0) for p in sorted(wanted - held)),
        ]
