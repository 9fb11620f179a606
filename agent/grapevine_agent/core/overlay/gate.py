"""What strangers may cost: looked at before a message is verified, since verifying is what a flood would make us do.

A sender's own quota (`SenderQuota`) is no help against many senders: keys are free. So what comes from
peers that are no members is counted together. Members and peers that the owner named are never refused here. An
honest stranger that is refused is heard later, by its heartbeat (see `roll_call`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.overlay.members import Members
from grapevine_proto.errors import WireError
from grapevine_proto.quotas import Bucket
from grapevine_proto.topics import GroupTopic, InboxTopic, PeerTopic, TaskTopic, Topic

MAX_PRESENCE_BYTES = 16_384  # of an announcement, a state or a heartbeat: kept of everybody
STRANGERS_PER_S = 200.0  # messages: to verify so many takes a thirtieth of a core, a tenth of a Raspberry Pi's
STRANGERS_BURST = 4_000.0  # what a broker retains of 2,000 peers arrives at once
STRANGERS_BYTES_PER_S = 8e6  # in our inbox: as one sender has
STRANGERS_BYTES_BURST = 80e6


def _messages() -> Bucket:
    return Bucket(per_s=STRANGERS_PER_S, burst=STRANGERS_BURST)


@dataclass(kw_only=True)
class Gate:
    """See the module's docstring."""

    peer: str  # ourselves
    members: Members
    _presence: Bucket = field(default_factory=_messages)
    _letters: Bucket = field(default_factory=_messages)
    _metrics: Bucket = field(default_factory=_messages)
    _bytes: Bucket = field(default_factory=lambda: Bucket(per_s=STRANGERS_BYTES_PER_S, burst=STRANGERS_BYTES_BURST))

    def lets_in(self, topic: Topic, num_bytes: int, now_s: float) -> bool:
        """Whether a message is worth verifying. Raises `WireError` where strangers have used up their share."""
        match topic:
            case PeerTopic(peer=peer, leaf=leaf):
                if num_bytes > MAX_PRESENCE_BYTES:
                    raise WireError("too-big", f"{num_bytes} bytes of presence, at most {MAX_PRESENCE_BYTES}")
                if leaf == "heartbeat":
                    return self.members.listens_to(peer, now_s)
                if self._is_stranger(peer) and not self._presence.take(1, now_s):
                    self.members.overlook(now_s)
                    raise WireError("over-quota", "strangers announce themselves too often")
            case InboxTopic(sender=peer) | GroupTopic(sender=peer) if self._is_stranger(peer):
                if not self._letters.take(1, now_s) or not self._bytes.take(num_bytes, now_s):
                    raise WireError("over-quota", "strangers write to us too often")
            case TaskTopic(peer=peer, leaf="metrics") if self._is_stranger(peer):  # while the owner watches a task
                if not self._metrics.take(1, now_s):
                    raise WireError("over-quota", "strangers tell how they are doing too often")
        return True

    def _is_stranger(self, peer: str) -> bool:
        return peer != self.peer and peer not in self.members.named and not self.members.is_member(peer)
