"""How much memory strangers' records may take together, and who of them makes room.

    an author's share full ──────────────▶ the newcomer is refused: nobody rotates its own records through us
    the budget full ─▶ is there an author that holds twice as much as the newcomer's then would, and is not light?
                         yes ▶ the heaviest such author's oldest record goes, until there is room
                         no  ▶ the newcomer is refused

So one author cannot keep all others out, and the shares level out: what is pushed out is always at least twice as
heavy as what takes its place, and a flood of new keys comes to rest. A *light* author is never pushed out.

Bytes here are what holding a record takes in memory, about: the envelope, what was decoded of it, and objects.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from sys import getsizeof

from grapevine_proto import messages as m
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.topics import Topic

LIGHT_BYTES = 8 * 1024  # an author that holds no more is left in peace: presence, a small task, a few reviews
GROWTH = 5 / 4  # of the budget, for newer forms of what is held already
RECORD_BYTES = 900  # of the objects around any record, its places in tables included
TASK_BYTES = 1_000  # of what an agent makes of a manifest


def held_bytes(received: Received) -> int:
    """What holding a record takes in memory, about."""
    size = RECORD_BYTES + len(received.envelope)
    match received.message.body:
        case m.TaskPublication(manifest=manifest, reason=reason):
            size += getsizeof(manifest) + getsizeof(reason) + (TASK_BYTES if manifest else 0)
        case m.ApplicationPublication(spec=spec, reason=reason):
            size += 3 * len(spec) + getsizeof(reason) + (TASK_BYTES if spec else 0)  # and the tasks that it names
        case m.PeerAnnouncement() as said:
            texts = (said.name, said.profile, *said.data_kinds, *said.tasks, *said.brokers)
            size += sum(map(getsizeof, (*texts, *said.traits, *said.offers, *said.running)))
            size += sum(getsizeof(pair) + sum(map(getsizeof, pair)) for pair in said.labels)
        case m.Review(reason=reason):
            size += getsizeof(reason)
        case m.ServerAdvert(contributors=contributors):
            size += sum(map(getsizeof, contributors))
    return size


@dataclass(slots=True)
class _Share:
    """What one author holds: topics in the order of their arrival, with their sizes."""

    topics: dict[Topic, int] = field(default_factory=dict)
    num_bytes: int = 0


@dataclass(kw_only=True)
class Budget:
    """See the module's docstring. Knows topics and sizes only; the records lie elsewhere."""

    most_bytes: int
    author_bytes: int
    num_bytes: int = 0
    _shares: dict[str, _Share] = field(default_factory=dict)
    _heaviest: list[tuple[int, str]] = field(default_factory=list)  # a heap; entries may be out of date

    def take(self, author: str, topic: Topic, size: int) -> list[Topic]:
        """Make room for a record and count it. Returns the topics whose records must go.

        Raises `WireError("over-quota")`, and changes nothing, if there is no room.
        """
        share = self._shares.get(author)
        before = share.topics.get(topic, 0) if share is not None else 0
        after = (share.num_bytes if share is not None else 0) - before + size
        if after > self.author_bytes and size > before:
            raise WireError("over-quota", f"{author} holds {after - size} bytes of the {self.author_bytes} it may")
        room = int(self.most_bytes * GROWTH) if before else self.most_bytes
        gone = self._make_room(author, after, self.num_bytes - before + size - room) if size > before else []
        self.count(author, topic, size)
        return gone

    def count(self, author: str, topic: Topic, size: int) -> None:
        """Count a record, whether there is room or not. It is its author's newest then."""
        self.remove(author, topic)
        share = self._shares.setdefault(author, _Share())
        share.topics[topic] = size
        share.num_bytes += size
        self.num_bytes += size
        self._weighed(author, share)

    def remove(self, author: str, topic: Topic) -> None:
        """A record is held no more, or is no longer counted here."""
        share = self._shares.get(author)
        if share is None or topic not in share.topics:
            return
        size = share.topics.pop(topic)
        share.num_bytes -= size
        self.num_bytes -= size
        if share.topics:
            self._weighed(author, share)
        else:
            del self._shares[author]

    def _weighed(self, author: str, share: _Share) -> None:
        heapq.heappush(self._heaviest, (-share.num_bytes, author))
        if len(self._heaviest) > 4 * len(self._shares) + 64:
            self._heaviest = [(-each.num_bytes, name) for name, each in self._shares.items()]
            heapq.heapify(self._heaviest)

    def _make_room(self, author: str, after: int, missing: int) -> list[Topic]:
        """Push out the oldest of the heaviest authors until `missing` bytes are free; all or nothing."""
        least = max(LIGHT_BYTES + 1, 2 * after)
        pushed: list[tuple[str, Topic, int]] = []
        while missing > 0:
            heavy = self._heavier_than(least, author)
            if heavy is None:
                for name, topic, size in reversed(pushed):
                    self._put_back(name, topic, size)
                raise WireError("over-quota", f"records of strangers hold {self.num_bytes} bytes already")
            topic, size = next(iter(self._shares[heavy].topics.items()))
            pushed.append((heavy, topic, size))
            self.remove(heavy, topic)
            missing -= size
        return [topic for _, topic, _ in pushed]

    def _heavier_than(self, least: int, author: str) -> str | None:
        while self._heaviest:
            negative, heavy = self._heaviest[0]
            share = self._shares.get(heavy)
            if share is None or share.num_bytes != -negative:
                heapq.heappop(self._heaviest)  # out of date
                continue
            # The newcomer's own author cannot weigh twice what it would then weigh.
            return heavy if share.num_bytes >= least and heavy != author else None
        return None

    def _put_back(self, author: str, topic: Topic, size: int) -> None:
        share = self._shares.setdefault(author, _Share())
        share.topics = {topic: size, **share.topics}
        share.num_bytes += size
        self.num_bytes += size
        self._weighed(author, share)
