"""Whether another agent runs with our key: a copied state folder, or a card that was cloned.

A broker takes one client with a given id. Two agents with one key throw each other out for ever, each is lost and
back every few seconds, and neither is told why. It shows in two ways:

    "session taken over"     a broker of MQTT 5 says so to the one that it throws out
    a session not ours       our own state comes back, under a session that was begun after this process was started,
                             and that it did not begin

Either may be seen once without a double (a broker that still holds a connection of ours, a state folder that was lost
and made anew), and again and again only with one: after `ENOUGH` signs within `WITHIN_S` it is said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from grapevine_proto.messages import Message, PeerState

WITHIN_S: Final = 600.0
ENOUGH: Final = 2
TOLD: Final = (
    "another agent runs with this agent's key, and the two throw each other off the broker: if its state folder was "
    "copied, give one of them a key of its own (stop it, then: grapevine init --new-identity)"
)
_MOST = 64


@dataclass
class Double:
    """See the module's docstring."""

    _ours: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST))  # the sessions that we began
    _first: int = -1  # the first of them, ever
    _signs: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MOST))  # when, and whose session

    def began(self, session: int) -> None:
        """We begin a session."""
        self._ours.append(session)
        self._first = session if self._first < 0 else self._first

    def heard(self, message: Message, now_s: float) -> None:
        """Something that is signed with our key came from a broker."""
        session = message.session
        if not isinstance(message.body, PeerState) or session <= self._first or session in self._ours:
            return
        if all(session != seen for _, seen in self._signs):
            self._signs.append((now_s, session))

    def lost(self, reason: str, now_s: float) -> None:
        """A broker ended a connection of ours, and gave this reason."""
        if "taken over" in reason.lower():
            self._signs.append((now_s, -1))

    def trouble(self, now_s: float) -> str:
        """What to tell the owner; empty while there is no sign of a double."""
        lately = sum(now_s - at_s < WITHIN_S for at_s, _ in self._signs)
        return TOLD if lately >= ENOUGH else ""
