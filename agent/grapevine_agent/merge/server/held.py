"""What a server holds, within bounds: the newest word of each member, and what was at each version."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from grapevine_agent.merge.server.interface import MAX_MEMBERS, MAX_NAMED, ServerContext

Item = TypeVar("Item")


@dataclass
class Newest(Generic[Item]):
    """The newest item of each member, for at most `capacity` members: who was heard longest ago goes first."""

    capacity: int = MAX_MEMBERS
    _items: OrderedDict[str, tuple[float, Item]] = field(default_factory=OrderedDict)

    def put(self, peer: str, heard_s: float, item: Item) -> None:
        """Hold `item` in place of what the member said before."""
        self._items[peer] = (heard_s, item)
        self._items.move_to_end(peer)
        while len(self._items) > self.capacity:
            self._items.popitem(last=False)

    def forget_old(self, context: ServerContext) -> None:
        """Let go of members that were not heard lately."""
        if math.isinf(context.forget_s):
            return
        oldest_s = context.now_s - context.forget_s
        for peer in [peer for peer, (heard_s, _) in self._items.items() if heard_s < oldest_s]:
            del self._items[peer]

    @property
    def is_full(self) -> bool:
        """Whether a newcomer would take another one's place."""
        return len(self._items) >= self.capacity

    def replace(self, peer: str, item: Item) -> None:
        """Another item for a member that is held, heard when it was."""
        self._items[peer] = (self._items[peer][0], item)

    def drop(self, peer: str) -> None:
        """Let go of a member, if it is held."""
        self._items.pop(peer, None)

    def clear(self) -> None:
        """Let go of everybody."""
        self._items.clear()

    def peers(self) -> tuple[str, ...]:
        """The members held, sorted."""
        return tuple(sorted(self._items))

    def named(self) -> tuple[str, ...]:
        """Those that a message names, sorted: of many the ones heard last."""
        return tuple(sorted(islice(reversed(self._items), MAX_NAMED)))

    def items(self) -> list[tuple[str, Item]]:
        """Members and items, sorted by member: what is made of them does not depend on who came first."""
        return [(peer, self._items[peer][1]) for peer in self.peers()]

    def get(self, peer: str) -> Item | None:
        """The item of a member, or None."""
        held = self._items.get(peer)
        return held[1] if held is not None else None

    def __len__(self) -> int:
        return len(self._items)


@dataclass
class ByVersion(Generic[Item]):
    """Items by the version that they were published as; the newest `depth` of them are held."""

    depth: int
    _versions: list[int] = field(default_factory=list)
    _items: list[Item] = field(default_factory=list)

    def put(self, version: int, item: Item) -> None:
        """Hold the item of `version`; versions come in rising order, and the same one again replaces."""
        assert not self._versions or version >= self._versions[-1], "versions rise"
        if self._versions and self._versions[-1] == version:
            self._items[-1] = item
            return
        self._versions.append(version)
        self._items.append(item)
        del self._versions[: -self.depth], self._items[: -self.depth]

    def at(self, version: int) -> Item:
        """What was current at `version`: the newest item up to it, or the oldest held where it is older than all."""
        return self._items[max(0, bisect_right(self._versions, version) - 1)]

    def copy(self) -> ByVersion[Item]:
        """A history of its own with the same items."""
        return ByVersion(self.depth, list(self._versions), list(self._items))
