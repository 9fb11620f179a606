"""How much others may have us send them: a small request must not be a lever for large answers.

Each asker has a quota of its own for each thing that it asks for, and all askers together have one in bytes:
members, and those who are not heard yet, one each, so that invented askers take nothing from members. Who is
refused asks somebody else: whoever has joined a task can give its weights. What had no room on its way out was
not given, and is not counted. Of what travels in chunks the answer is small, and costs little: a peer that was
restarted asks again for what it has got half of. What its chunks cost is counted when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_proto.bulk import APART_BYTES, NOTICE_BYTES
from grapevine_proto.errors import WireError
from grapevine_proto.quotas import Bucket

ANSWER_BYTES_PER_S = 250_000.0  # of members, and the same of others
ANSWER_BURST_BYTES = 8e6  # 200 joiners ask at once for weights of 20 kB: half of it
MAX_REMEMBERED = 10_000  # askers and things


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often the same asker is given the same thing."""

    every_s: float
    burst: float


BLOBS = Pace(every_s=30.0, burst=1.0)  # whoever has lost it asks somebody else meanwhile
LARGE = Pace(every_s=5.0, burst=2.0)  # what travels in chunks, which have a budget of their own
MODELS = Pace(every_s=2.0, burst=1.0)  # it changes with each round


def at_once(num_bytes: int) -> int:
    """What leaves of an answer with the answer itself: of what travels in chunks only its notice."""
    return NOTICE_BYTES if num_bytes > APART_BYTES else num_bytes


def _bytes() -> Bucket:
    return Bucket(per_s=ANSWER_BYTES_PER_S, burst=ANSWER_BURST_BYTES)


@dataclass(kw_only=True)
class AnswerQuota:
    """See the module's docstring."""

    _askers: OrderedDict[tuple[str, str], Bucket] = field(default_factory=OrderedDict)
    _members: Bucket = field(default_factory=_bytes)
    _others: Bucket = field(default_factory=_bytes)

    def charge(self, asker: str, thing: str, num_bytes: int, now_s: float, *, pace: Pace, is_member: bool) -> None:
        """Count an answer. Raises `WireError("over-quota")` if it is not to be given; then it is not counted."""
        if num_bytes > APART_BYTES:
            pace, num_bytes = LARGE, at_once(num_bytes)
        own = self._own(asker, thing, pace)
        if not own.take(1, now_s):
            raise WireError("over-quota", f"{asker} asks for {thing} again")
        everybodys = self._members if is_member else self._others
        if not everybodys.take(num_bytes, now_s):
            own.put_back(1)
            raise WireError("over-quota", f"no {num_bytes} bytes for {asker} now: too much was asked for")

    def take_shared(self, num_bytes: int, now_s: float) -> bool:
        """Count one more part of an answer to somebody who may be no member; whether there was room for it."""
        return self._others.take(num_bytes, now_s)

    def put_back(self, asker: str, thing: str, num_bytes: int, *, pace: Pace, is_member: bool) -> None:
        """An answer that was counted is not given."""
        if num_bytes > APART_BYTES:
            pace, num_bytes = LARGE, at_once(num_bytes)
        self._own(asker, thing, pace).put_back(1)
        (self._members if is_member else self._others).put_back(num_bytes)

    def _own(self, asker: str, thing: str, pace: Pace) -> Bucket:
        key = (asker, thing)
        bucket = self._askers.get(key)
        if bucket is None:
            bucket = self._askers[key] = Bucket(per_s=1.0 / pace.every_s, burst=pace.burst)
            if len(self._askers) > MAX_REMEMBERED:
                self._askers.popitem(last=False)
        self._askers.move_to_end(key)
        return bucket
