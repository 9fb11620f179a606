"""Each passing message is taken once.

Per sender and session a window of the last 1,024 sequence numbers is kept, as IPsec does
(RFC 4303, section 3.4.3), so that several brokers may deliver out of order and twice. A sender's
session grows with each of its connections; messages of a session older than the two newest that
were seen of it are recordings. Sessions that are far ahead of our clock are counted apart (`sessions`): a peer
whose clock was wrong is heard again once it is right.

Windows of strangers, whose keys cost nothing, do not push out those of peers that are known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_proto.errors import WireError
from grapevine_proto.messages import Message
from grapevine_proto.sessions import is_ahead

WINDOW = 1_024
_MASK = (1 << WINDOW) - 1


@dataclass
class _Window:
    """Which of the last `WINDOW` sequences were seen: bit i of `seen` stands for `highest - i`."""

    highest: int = -1
    seen: int = 0

    def take(self, sequence: int) -> bool:
        if sequence > self.highest:
            shift = sequence - self.highest
            self.seen = ((self.seen << shift) & _MASK if shift < WINDOW else 0) | 1
            self.highest = sequence
            return True
        behind = self.highest - sequence
        if behind >= WINDOW or self.seen >> behind & 1:
            return False
        self.seen |= 1 << behind
        return True


@dataclass
class ReplayGuard:
    """Windows for the senders heard most recently; `capacity` bounds the memory (some 200 bytes each), twice."""

    capacity: int = 10_000
    _senders: OrderedDict[str, dict[int, _Window]] = field(default_factory=OrderedDict)
    _strangers: OrderedDict[str, dict[int, _Window]] = field(default_factory=OrderedDict)

    def check(self, message: Message, *, wall_ms: int = 0, is_known: bool = True) -> None:
        """Raise `WireError("replayed")` if this message, or a newer session's, was seen before.

        `wall_ms` is our clock; without one no session is ahead of another.
        """
        sessions = self._sessions_of(message.sender, is_known)
        window = sessions.get(message.session)
        if window is None:
            ahead = is_ahead(message.session, wall_ms)
            alike = [each for each in sessions if is_ahead(each, wall_ms) == ahead]
            if len(alike) >= 2 and message.session < min(alike):
                raise WireError("replayed", f"session {message.session} of {message.sender} is over")
            window = sessions[message.session] = _Window()
            for over in sorted(alike)[: len(alike) - 1]:
                del sessions[over]
        if not window.take(message.sequence):
            raise WireError("replayed", f"sequence {message.sequence} of {message.sender}")

    def _sessions_of(self, sender: str, is_known: bool) -> dict[int, _Window]:
        """A sender's windows, moved to where they belong: what was seen of it as a stranger stays seen."""
        here, elsewhere = (self._senders, self._strangers) if is_known else (self._strangers, self._senders)
        sessions = here.get(sender)
        if sessions is None:
            sessions = here[sender] = elsewhere.pop(sender, {})
            if len(here) > self.capacity:
                here.popitem(last=False)
        here.move_to_end(sender)
        return sessions
