"""What a connection has sent and has not heard of yet, and until when it may wait. Sans-IO.

Theory of operation. A broker answers in the order in which it was asked (MQTT 5.0, section 4.6), so it is the
oldest that is watched:

    oldest ──answered──▶ the next one is the oldest, and its time begins
           ──`answer_s`, and what its bytes and those before it take on the slowest line──▶ overdue

A crowded way back delays answers too. So while messages keep arriving the oldest has until `busy_s`, unless
something younger was answered before it: an answer that was passed over does not come any more.

A time for each message instead would run out on a slow line, where the twentieth waits for nineteen others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ANSWER_S = 20.0  # longer than a network hiccup, and than the 15 s for which a model is worth sending
BUSY_S = 60.0
SLOWEST_BYTES_PER_S = 8_000  # 64 kbit/s: a line that is slower takes no models


@dataclass(kw_only=True)
class _Asked:
    what: str
    num_bytes_until: int  # all that was sent up to its end
    since_s: float
    passed_over: bool = False


class Unanswered:
    """See the module's docstring. Times are monotonic seconds.

    Args:
        answer_s: How long the oldest may go without its answer.
        busy_s: The same while messages keep arriving.
    """

    def __init__(self, *, answer_s: float = ANSWER_S, busy_s: float = BUSY_S) -> None:
        self._answer_s = answer_s
        self._busy_s = busy_s
        self._asked: dict[int, _Asked] = {}
        self._num_bytes_sent = 0
        self._num_bytes_answered = 0
        self._turn_s = -math.inf  # since when the oldest has been the oldest
        self._heard_s = -math.inf

    def __contains__(self, key: int) -> bool:
        """Whether this one is still to be answered."""
        return key in self._asked

    def sent(self, key: int, what: str, num_bytes: int, now_s: float) -> None:
        """Something left that will be answered. `what` it is, in words."""
        self._num_bytes_sent += num_bytes
        self._asked[key] = _Asked(what=what, num_bytes_until=self._num_bytes_sent, since_s=now_s)

    def answered(self, key: int, now_s: float, *, by_broker: bool = True) -> None:
        """The answer is here; not `by_broker`: all that was to come is that it was written to the socket."""
        oldest = next(iter(self._asked), None)
        asked = self._asked.pop(key, None)
        if asked is None:
            return
        if key == oldest:
            self._turn_s = now_s
            self._num_bytes_answered = asked.num_bytes_until
        elif by_broker and oldest is not None:
            self._asked[oldest].passed_over = True

    def heard(self, now_s: float) -> None:
        """A message arrived: the way back is open, and perhaps crowded. Safe from another thread."""
        self._heard_s = now_s

    def deadline_s(self) -> float:
        """When the oldest is overdue unless something happens; infinite while all are answered."""
        for oldest in self._asked.values():
            since_s = max(oldest.since_s, self._turn_s)
            num_bytes = oldest.num_bytes_until - self._num_bytes_answered
            due_s = since_s + self._answer_s + num_bytes / SLOWEST_BYTES_PER_S
            if oldest.passed_over:
                return due_s
            return max(due_s, min(self._heard_s + self._answer_s, since_s + self._busy_s))
        return math.inf

    def complaint(self, now_s: float) -> str:
        """What has waited for too long, and how long, for a person to read."""
        oldest = next(iter(self._asked.values()))
        return f"no answer to {oldest.what} in {now_s - max(oldest.since_s, self._turn_s):.3g} s"
