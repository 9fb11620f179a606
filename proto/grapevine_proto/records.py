"""The book of records: state that peers signed and that spreads by itself.

Rules, per topic (which names its author, see `topics`):

- The highest sequence wins. The same bytes again are *known* and ignored in silence; a lower
  sequence is *stale*. That holds after the newest has run out as well: of manifests and reviews the
  sequence is remembered, or a broker could bring an older verdict back to life.
- Freshness is `expires_at_ms` alone.
- A tombstone beats the manifest that it retracts, whatever arrives later.
- Presence is ordered by session first: a will is signed when its session begins and is published by
  the broker hours later, with a sequence older than the "online" that it revokes. Within a session
  offline is therefore the last word; a newer session revokes it.
- The book is bounded, and so is one author's part of it. A full book turns newcomers away; it never
  forgets what it holds for a stranger's sake. Authors whom the owner trusts (`trusted`) are always
  let in: strangers who fill the book must not keep a rejection out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from grapevine_proto import topics
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import PeerState, TaskPublication
from grapevine_proto.topics import TaskTopic, Topic

MAX_TASK_RECORDS_PER_AUTHOR = 3 * 32  # 32 tasks, each with a manifest, a review and a server advert
TRUSTED_QUOTA_FACTOR = 10  # a reviewer has an opinion on many tasks
DEFAULT_CAPACITY = 20_000
LASTING_LEAVES = ("manifest", "review")  # statements whose order must survive their expiry


@dataclass
class RecordBook:
    """Newest record of every (author, topic). See the module's docstring for its rules."""

    capacity: int = DEFAULT_CAPACITY
    trusted: frozenset[str] = frozenset()
    _sequences: dict[Topic, int] = field(default_factory=dict)  # the newest of records that ran out
    _records: dict[Topic, Received] = field(default_factory=dict)
    _num_task_records: Counter[str] = field(default_factory=Counter)

    def accept(self, received: Received, wall_ms: int) -> bool:
        """Take a verified record. True if it is news, False if it is known.

        Raises `WireError` with reason "stale", "expired", "retracted" or "over-quota".
        """
        if 0 < received.message.expires_at_ms < wall_ms:
            raise WireError("expired", received.topic.below_root())
        held = self._records.get(received.topic)
        if held is not None:
            if held.envelope == received.envelope:
                return False
            _check_newer(held, received)
        else:
            if received.message.sequence <= self._sequences.get(received.topic, -1):
                raise WireError("stale", f"a newer one than {received.message.sequence} on it has run out")
            self._check_quota(received)
            if isinstance(received.topic, TaskTopic):
                self._num_task_records[received.message.sender] += 1
        self._records[received.topic] = received
        return True

    def _check_quota(self, received: Received) -> None:
        author = received.message.sender
        is_trusted = author in self.trusted
        if len(self._records) >= self.capacity and not is_trusted:
            raise WireError("over-quota", f"{self.capacity} records are held already")
        quota = MAX_TASK_RECORDS_PER_AUTHOR * (TRUSTED_QUOTA_FACTOR if is_trusted else 1)
        if isinstance(received.topic, TaskTopic) and self._num_task_records[author] >= quota:
            raise WireError("over-quota", f"{author} has {quota} task records already")

    def get(self, topic: Topic) -> Received | None:
        """The newest record on `topic`."""
        return self._records.get(topic)

    def expire(self, wall_ms: int) -> list[Received]:
        """Drop what has expired, and return it."""
        gone = [r for r in self._records.values() if 0 < r.message.expires_at_ms < wall_ms]
        for received in gone:
            del self._records[received.topic]
            if isinstance(received.topic, TaskTopic):
                self._num_task_records[received.message.sender] -= 1
            self.remember(received.topic, received.message.sequence)
        return gone

    def remember(self, topic: Topic, sequence: int) -> bool:
        """Nothing on `topic` up to this sequence is news any more. Whether that was noted: room is for the trusted."""
        if not isinstance(topic, TaskTopic) or topic.leaf not in LASTING_LEAVES:
            return False
        if topic not in self._sequences and len(self._sequences) >= self.capacity:
            stranger = next((each for each in self._sequences if topics.writer_of(each) not in self.trusted), None)
            if topic.peer not in self.trusted or stranger is None:
                return False
            del self._sequences[stranger]
        self._sequences[topic] = max(sequence, self._sequences.get(topic, 0))
        return True

    def __iter__(self) -> Iterator[Received]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)


def _check_newer(held: Received, received: Received) -> None:
    """Raise `WireError` unless `received` supersedes `held`."""
    old, new = held.message, received.message
    if isinstance(old.body, PeerState) and isinstance(new.body, PeerState):
        newer = (new.session, not new.body.online, new.sequence) > (old.session, not old.body.online, old.sequence)
    else:
        newer = new.sequence > old.sequence
    if not newer:
        raise WireError("stale", f"sequence {new.sequence} on {received.topic.below_root()}, {old.sequence} is held")
    if isinstance(old.body, TaskPublication) and old.body.retracted:
        raise WireError("retracted", received.topic.below_root())
