"""Which of two sessions of a peer is the newer one.

Session numbers are taken from the clock, and never fall for as long as a peer remembers its last one. One that lost
its memory after its clock had run ahead begins below what others have seen of it, and would be taken for a recording
for as long as its clock was ahead, which may be years. So a session that is dated more than a day ahead is *ahead*:
the clock that it came from was wrong, and a session that is not ahead supersedes it, whatever its number.

What that costs: of a peer that once was ahead, a recorder may bring back the newest session that was ahead, as
presence, until the peer is heard again; no message of it counts twice (`replay`). Statements that last, manifests and
reviews, are ordered by their sequences alone: nobody brings an older verdict back.
"""

from __future__ import annotations

AHEAD_MS = 86_400_000  # clocks of honest peers differ by less than a day


def is_ahead(session: int, wall_ms: int) -> bool:
    """Whether a session comes from a clock that runs far ahead of ours (unix milliseconds)."""
    return session > wall_ms + AHEAD_MS


def supersedes(session: int, held: int, wall_ms: int) -> bool:
    """Whether a session is newer than the one that is held."""
    return session > held or (is_ahead(held, wall_ms) and not is_ahead(session, wall_ms))
