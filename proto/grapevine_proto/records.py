"""The book of records: state that peers signed and that spreads by itself.

Rules, per topic (which names its author, see `topics`):

- The highest sequence wins. The same bytes again are *known* and ignored in silence; a lower
  sequence is *stale*. That holds after the newest has run out as well: of manifests and reviews the
  sequence is remembered, or a broker could bring an older verdict back to life.
- Freshness is `expires_at_ms` alone. A record with the very sequence that is remembered counts again for as long as
  it says: our clock may have been wrong when it was taken for expired.
- A tombstone beats the manifest that it retracts, whatever arrives later. That of an application does not: a name may
  be used again.
- Presence is ordered by session first: a will is signed when its connection begins and is published by
  the broker hours later, with a sequence older than the "online" that it revokes. Of a connection offline is therefore
  the last word; a newer connection of the session revokes it, and a newer session. Announcements and adverts of
  servers are ordered by session as well: what a peer says when it starts again counts, though it may have lost its
  memory, and been told another time.
- The book is bounded in number and in bytes, and so is one author's part of it. *Strangers* share two
  budgets, one for presence and one for what is said of tasks (see `budgets`); whoever holds much of a full
  one makes room for who holds little. Authors whom the owner trusts (`trusted`) and ourselves (`own`) are
  always let in, and neither they nor a record that the owner uses (`keep`) ever make room for a stranger.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from grapevine_proto import topics
from grapevine_proto.budgets import Budget, held_bytes
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Message, PeerAnnouncement, PeerState, ServerAdvert, TaskPublication
from grapevine_proto.sessions import supersedes
from grapevine_proto.topics import AppTopic, TaskTopic, Topic, is_lasting

MAX_TASK_RECORDS_PER_AUTHOR = 3 * 32  # 32 tasks, each with a manifest, a review and a server advert
MAX_APPS_PER_AUTHOR = 32  # those that are deleted included
TRUSTED_QUOTA_FACTOR = 10  # a reviewer has an opinion on many tasks
DEFAULT_CAPACITY = 20_000
MIB = 1024 * 1024
AUTHOR_BYTES = 2 * MIB  # of what one stranger says of tasks: four of the largest manifests, or 96 small ones
TASKS_BYTES = 16 * MIB  # of what all strangers say of tasks
PRESENCE_BYTES = 16 * MIB  # of strangers' presence and announcements: some 5,000 peers
AUTHOR_PRESENCE_BYTES = 64 * 1024
STRANGERS_SEQUENCES = 2_000  # that are remembered of records that ran out
OF_SESSIONS = (PeerAnnouncement, PeerState, ServerAdvert)  # ordered by their sessions first


@dataclass
class RecordBook:
    """Newest record of every (author, topic). See the module's docstring for its rules."""

    capacity: int = DEFAULT_CAPACITY
    trusted: frozenset[str] = frozenset()
    own: str = ""
    tasks_budget: Budget = field(default_factory=lambda: Budget(most_bytes=TASKS_BYTES, author_bytes=AUTHOR_BYTES))
    presence_budget: Budget = field(
        default_factory=lambda: Budget(most_bytes=PRESENCE_BYTES, author_bytes=AUTHOR_PRESENCE_BYTES)
    )
    num_turned_away: int = 0  # records that were refused or pushed out for want of room
    _sequences: dict[Topic, int] = field(default_factory=dict)  # the newest of records that ran out
    _strangers_sequences: OrderedDict[Topic, None] = field(default_factory=OrderedDict)  # the oldest first
    _records: dict[Topic, Received] = field(default_factory=dict)
    _num_task_records: Counter[str] = field(default_factory=Counter)
    _num_apps: Counter[str] = field(default_factory=Counter)
    _kept: set[Topic] = field(default_factory=set)
    _expiries: list[tuple[int, int, Topic]] = field(default_factory=list)  # a heap; entries may be out of date
    _num_expiries: int = 0  # ever put: topics cannot be compared, numbers can
    _pushed_out: list[Received] = field(default_factory=list)
    _forgotten: list[Topic] = field(default_factory=list)

    # --- taking in --------------------------------------------------------------------------------

    def accept(self, received: Received, wall_ms: int) -> bool:
        """Take a verified record. True if it is news, False if it is known.

        Others may have gone for it: see `take_pushed_out`. Raises `WireError` with reason "stale", "expired",
        "retracted" or "over-quota".
        """
        if 0 < received.message.expires_at_ms < wall_ms:
            raise WireError("expired", received.topic.below_root())
        held = self._records.get(received.topic)
        if held is not None:
            if held.envelope == received.envelope:
                return False
            _check_newer(held, received, wall_ms)
        elif received.message.sequence < self._sequences.get(received.topic, -1):
            raise WireError("stale", f"a newer one than {received.message.sequence} on it has run out")
        try:
            self._make_room(received, is_new=held is None)
        except WireError:
            self.num_turned_away += 1
            raise
        if held is None and (counted := self._counter_of(received.topic)) is not None:
            counted[received.message.sender] += 1
        self._records[received.topic] = received
        if received.message.expires_at_ms:
            self._put_expiry(received)
        return True

    def _make_room(self, received: Received, *, is_new: bool) -> None:
        author, topic = received.message.sender, received.topic
        is_ours = author == self.own
        is_trusted = author in self.trusted
        if is_new and not is_ours:
            if len(self._records) >= self.capacity and not is_trusted:
                raise WireError("over-quota", f"{self.capacity} records are held already")
            most = MAX_APPS_PER_AUTHOR if isinstance(topic, AppTopic) else MAX_TASK_RECORDS_PER_AUTHOR
            quota = most * (TRUSTED_QUOTA_FACTOR if is_trusted else 1)
            counted = self._counter_of(topic)
            if counted is not None and counted[author] >= quota:
                what = "applications" if isinstance(topic, AppTopic) else "task records"
                raise WireError("over-quota", f"{author} has {quota} {what} already")
        if self._is_counted(received):
            for each in self._budget_of(topic).take(author, topic, held_bytes(received)):
                self.num_turned_away += 1
                self._pushed_out.append(self._remove(each))

    def _is_counted(self, received: Received) -> bool:
        return self._is_stranger(received.message.sender) and received.topic not in self._kept

    def _is_stranger(self, author: str) -> bool:
        return author != self.own and author not in self.trusted

    def _budget_of(self, topic: Topic) -> Budget:
        return self.tasks_budget if isinstance(topic, TaskTopic | AppTopic) else self.presence_budget

    def _counter_of(self, topic: Topic) -> Counter[str] | None:
        """Where it is counted how many of them an author has."""
        if isinstance(topic, TaskTopic):
            return self._num_task_records
        return self._num_apps if isinstance(topic, AppTopic) else None

    def take_pushed_out(self) -> list[Received]:
        """The records that made room for others since this was last asked."""
        gone, self._pushed_out = self._pushed_out, []
        return gone

    # --- whom and what the owner uses -------------------------------------------------------------

    def trust(self, authors: frozenset[str]) -> None:
        """From now on these are trusted, and nobody else."""
        if authors == self.trusted:
            return
        changed = authors ^ self.trusted
        self.trusted = authors
        for received in self._records.values():
            if received.message.sender in changed:
                self._count_again(received.topic)
        strangers = [each for each in self._sequences if self._is_stranger(topics.writer_of(each))]
        self._strangers_sequences = OrderedDict.fromkeys(strangers)

    def keep(self, topic: Topic) -> None:
        """The owner uses what is said on this topic, or will: it makes room for nobody."""
        if topic not in self._kept:
            self._kept.add(topic)
            self._count_again(topic)

    def confirm(self, topic: Topic) -> None:
        """The signature of a record of our own disk was checked meanwhile."""
        self._records[topic] = replace(self._records[topic], verified=True)

    def let_go(self, topic: Topic) -> None:
        """The opposite of `keep`."""
        if topic in self._kept:
            self._kept.discard(topic)
            self._count_again(topic)

    def _count_again(self, topic: Topic) -> None:
        received = self._records.get(topic)
        if received is None:
            return
        author, budget = received.message.sender, self._budget_of(topic)
        if self._is_counted(received):
            budget.count(author, topic, held_bytes(received))
        else:
            budget.remove(author, topic)

    # --- looking ----------------------------------------------------------------------------------

    def get(self, topic: Topic) -> Received | None:
        """The newest record on `topic`."""
        return self._records.get(topic)

    def __iter__(self) -> Iterator[Received]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    # --- leaving ----------------------------------------------------------------------------------

    def expire(self, wall_ms: int, at_most: int | None = None) -> list[Received]:
        """Drop what has expired, the longest ago first, and return it: `at_most` so many at a time."""
        gone: list[Received] = []
        while self._expiries and self._expiries[0][0] < wall_ms and (at_most is None or len(gone) < at_most):
            expires_at_ms, _, topic = heapq.heappop(self._expiries)
            held = self._records.get(topic)
            if held is not None and held.message.expires_at_ms == expires_at_ms:
                gone.append(self._remove(topic))
                self.remember(topic, held.message.sequence)
        return gone

    def next_expiry_ms(self) -> int:
        """No record that is held expires before (unix milliseconds); 0 if none ever does."""
        return self._expiries[0][0] + 1 if self._expiries else 0

    def _put_expiry(self, received: Received) -> None:
        self._num_expiries += 1
        heapq.heappush(self._expiries, (received.message.expires_at_ms, self._num_expiries, received.topic))
        if len(self._expiries) > 2 * len(self._records) + 64:
            held = [each for each in self._records.values() if each.message.expires_at_ms]
            self._expiries = [(each.message.expires_at_ms, number, each.topic) for number, each in enumerate(held)]
            heapq.heapify(self._expiries)

    def drop(self, topic: Topic) -> None:
        """Forget a record as if it had never been heard."""
        if topic in self._records:
            self._remove(topic)

    def _remove(self, topic: Topic) -> Received:
        received = self._records.pop(topic)
        author = received.message.sender
        if (counted := self._counter_of(topic)) is not None:
            counted[author] -= 1
            if not counted[author]:
                del counted[author]
        self._budget_of(topic).remove(author, topic)
        return received

    # --- sequences of what has left ---------------------------------------------------------------

    def remember(self, topic: Topic, sequence: int) -> bool:
        """Nothing on `topic` up to this sequence is news any more. Whether that was noted: room is for the trusted.

        Others may have been forgotten for it: see `take_forgotten`.
        """
        if not is_lasting(topic):
            return False
        if topic not in self._sequences and not self._make_room_to_remember(topic):
            return False
        self._sequences[topic] = max(sequence, self._sequences.get(topic, 0))
        return True

    def remembered(self, topic: Topic) -> int | None:
        """The sequence up to which nothing on `topic` is news; None if none is remembered."""
        return self._sequences.get(topic)

    def _make_room_to_remember(self, topic: Topic) -> bool:
        is_stranger = self._is_stranger(topics.writer_of(topic))
        full = len(self._sequences) >= self.capacity
        if full or (is_stranger and len(self._strangers_sequences) >= STRANGERS_SEQUENCES):
            if not self._strangers_sequences:
                return False
            oldest, _ = self._strangers_sequences.popitem(last=False)
            del self._sequences[oldest]
            self._forgotten.append(oldest)
        if is_stranger:
            self._strangers_sequences[topic] = None
        return True

    def take_forgotten(self) -> list[Topic]:
        """The topics whose sequences made room for others since this was last asked."""
        gone, self._forgotten = self._forgotten, []
        return gone


def _place_of(message: Message, state: PeerState) -> tuple[int, bool, int]:
    """Of two states of a session the later one is larger."""
    return state.connection, not state.online, message.sequence


def _check_newer(held: Received, received: Received, wall_ms: int) -> None:
    """Raise `WireError` unless `received` supersedes `held`."""
    old, new = held.message, received.message
    if isinstance(old.body, OF_SESSIONS) and new.session != old.session:
        newer = supersedes(new.session, old.session, wall_ms)
    elif isinstance(old.body, PeerState) and isinstance(new.body, PeerState):
        newer = _place_of(new, new.body) > _place_of(old, old.body)
    else:
        newer = new.sequence > old.sequence
    if not newer:
        raise WireError("stale", f"sequence {new.sequence} on {received.topic.below_root()}, {old.sequence} is held")
    if isinstance(old.body, TaskPublication) and old.body.retracted:
        raise WireError("retracted", received.topic.below_root())
