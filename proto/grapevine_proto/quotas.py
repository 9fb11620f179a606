"""Quotas. A sender's is checked before any signature is: verifying is what a flood would make us do."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_proto.errors import WireError


@dataclass(kw_only=True)
class Bucket:
    """So much a second in the mean, of whatever is counted, and `burst` at once. It starts full."""

    per_s: float
    burst: float
    _held: float = field(init=False)
    _updated_s: float = -math.inf

    def __post_init__(self) -> None:
        self._held = self.burst

    def take(self, amount: float, now_s: float) -> bool:
        """Whether there was room for `amount`, which is taken then. More than a burst is taken as a whole burst."""
        self._fill(now_s)
        amount = min(amount, self.burst)
        if amount > self._held:
            return False
        self._held -= amount
        return True

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until there is room for `amount`, if nothing else is taken; in seconds, 0 if there is."""
        self._fill(now_s)
        return max(0.0, min(amount, self.burst) - self._held) / self.per_s

    def _fill(self, now_s: float) -> None:
        if now_s > self._updated_s:
            self._held = min(self.burst, self._held + (now_s - max(self._updated_s, 0.0)) * self.per_s)
            self._updated_s = now_s

    def put_back(self, amount: float) -> None:
        """What was taken and not used."""
        self._held = min(self.burst, self._held + amount)


@dataclass
class _Shares:
    messages: float
    num_bytes: float
    updated_s: float


@dataclass(kw_only=True)
class SenderQuota:
    """A token bucket of messages and one of bytes for each sender (as the topic names it).

    A message that is larger than all that a bucket holds is taken from a full one, which owes the rest.
    """

    messages_per_s: float = 50.0
    bytes_per_s: float = 8e6
    burst_s: float = 10.0  # a retained backlog arrives at once
    capacity: int = 10_000
    _buckets: OrderedDict[str, _Shares] = field(default_factory=OrderedDict)

    def charge(self, sender: str, num_bytes: int, now_s: float) -> None:
        """Count one message. Raises `WireError("over-quota")` when `sender` has used up its share."""
        most_messages, most_bytes = self.messages_per_s * self.burst_s, self.bytes_per_s * self.burst_s
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Shares(most_messages, most_bytes, now_s)
            if len(self._buckets) > self.capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        elapsed_s = max(0.0, now_s - bucket.updated_s)
        bucket.messages = min(most_messages, bucket.messages + elapsed_s * self.messages_per_s)
        bucket.num_bytes = min(most_bytes, bucket.num_bytes + elapsed_s * self.bytes_per_s)
        bucket.updated_s = now_s
        if bucket.messages < 1 or bucket.num_bytes < min(num_bytes, most_bytes):
            raise WireError("over-quota", f"{sender} sends more than its share")
        bucket.messages -= 1
        bucket.num_bytes -= num_bytes
