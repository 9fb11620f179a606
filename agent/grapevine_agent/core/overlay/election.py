"""One broker for those who have none: who starts it, and when it ends.

Where every broker is silent, agents whose owners are willing start one, and announce it. Each has a *rank*, the hash of
the root and its peer id: nobody has to be asked, and everybody sees the same order.

    waiting ──no broker has had us for `after_s`, and a little longer the lower our rank──▶ hosting
    hosting ──a broker that is not elected answers again │ an elected one of higher rank does──▶ closing
    closing ──a moment, in which everybody hears of it──▶ waiting

Who is announced but does not answer ends nothing: anybody can say that it is the highest. What answered all the time
while it did not take us in (a broker that refuses our password) is not *back* either: it had its chance before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

CLOSE_AFTER_S: Final = 3.0
LATEST_S: Final = 3.0  # after the highest rank the lowest begins: by then it has heard of that one

Standing: TypeAlias = Literal["waiting", "hosting", "closing"]


def rank_of(root: str, peer: str) -> str:
    """Where a peer stands among those who would host: 16 hexadecimal digits, the higher first."""
    return hashlib.sha256(f"{root}\0{peer}".encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What is seen of brokers now."""

    is_met: bool  # a broker of others has us
    is_back: bool = False  # one that is not elected answers, which was silent
    higher: str = ""  # an elected one of higher rank that answers: whose
    elected: frozenset[str] = frozenset()  # the peers that announce one


@dataclass(kw_only=True)
class Election:
    """See the module's docstring. Times are monotonic seconds."""

    root: str
    peer: str
    after_s: float
    standing: Standing = "waiting"
    why: str = ""  # of the last change
    _silent_since_s: float | None = None
    _close_at_s: float = 0.0
    _heard_of: frozenset[str] = field(default_factory=frozenset)

    @property
    def rank(self) -> str:
        """Ours."""
        return rank_of(self.root, self.peer)

    def look(self, sight: Sight, now_s: float) -> Standing:
        """What to be from now on."""
        match self.standing:
            case "waiting":
                self._wait(sight, now_s)
            case "hosting" if sight.is_back or sight.higher:
                self.why = f"{sight.higher} hosts one of higher rank" if sight.higher else "another broker answers"
                self.standing, self._close_at_s = "closing", now_s + CLOSE_AFTER_S
            case "closing" if now_s >= self._close_at_s:
                self.standing, self._silent_since_s = "waiting", now_s
        self._heard_of = sight.elected
        return self.standing

    def failed(self, why: str, now_s: float) -> None:
        """It could not be started, or ended by itself."""
        self.standing, self.why, self._silent_since_s = "waiting", why, now_s

    def _wait(self, sight: Sight, now_s: float) -> None:
        is_news = bool(sight.elected - self._heard_of)  # it is given its time
        if sight.is_met or is_news or self._silent_since_s is None:
            self._silent_since_s = now_s
        place = 1.0 - int(self.rank, 16) / 16**16  # 0: the highest there is
        if not sight.is_met and now_s - self._silent_since_s >= self.after_s + LATEST_S * place:
            self.standing, self.why = "hosting", f"no broker answered for {self.after_s:g} s"
