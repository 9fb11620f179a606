"""Whose work is in a model: the newest version of each source that was mixed in, N_j^i of the scale-robust paper.

Updates name what is in them, and any name and number may stand there. So a source must be somebody who was
heard, and no number is taken that is above what the source has said itself, in a heartbeat or with an update
of its own: its *word*. News may travel faster than a word does, so a version above it is kept apart until the
next word comes, which confirms it or refutes it. Until then it is handed on, as a claim, and counts for nothing.

A word stands until a newer session of its source says less: it has lost its model, or goes on from an older one. What
is here of its life before is not counted for the work that it does now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from grapevine_agent.core.overlay.members import Members
from grapevine_proto.sessions import supersedes

MAX_SOURCES = 8_192  # whose versions are remembered
MAX_UNHEARD = 1_024  # of them, where only neighbours are listened to and whoever is further away cannot be known
NO_WORD = -1


class _Claim(NamedTuple):
    """A version that others say is in their models, above the source's word at that time."""

    version: int
    word: int


class _Word(NamedTuple):
    """The newest version that a source has said of itself, and the session in which it spoke last."""

    version: int
    session: int


@dataclass(kw_only=True)
class Sources:
    """See the module's docstring. `versions` is the model's own: source → version, what changed last standing last."""

    task: str
    peer: str  # ourselves
    members: Members
    versions: dict[str, int]
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _words: dict[str, _Word] = field(default_factory=dict)
    _unheard: dict[str, None] = field(default_factory=dict)  # what there was news of last standing last

    def hear(self, sender: str, version: int, session: int = 0) -> None:
        """A sender has said, in this session of it, which version its own update is."""
        self._may_be_named(sender)
        self._note(sender, version, session)

    def mix_in(self, contributions: Mapping[str, int], *, sender: str, most: int) -> None:
        """Note what is in a model that was merged. What others say of a source is passed over above `most`."""
        versions = self.versions
        for source, version in contributions.items():
            if version <= versions.get(source, NO_WORD):
                continue  # most of them are old news
            if source == self.peer or (source != sender and not self._may_be_named(source)):
                continue
            word = self._settle(source)
            if version <= word:
                self._hold(source, version)
            elif version <= most and version > self._newest(source):
                self._claims[source] = _Claim(version, word)
                self._move_last(source, versions.get(source, 0))
        self._forget()

    def told(self, most: int) -> dict[str, int]:
        """The newest version of each source, as it is handed on: of at most so many, what changed last first."""
        versions, claims = self.versions, self._claims
        told = {source: versions[source] for source in islice(reversed(versions), most)}
        for source in claims.keys() & told.keys():
            told[source] = max(told[source], claims[source].version)
        return told

    def mean_staleness(self, known_versions: Mapping[str, int]) -> float | None:
        """Mean over sources of S = N_i^i − N_j^i, in versions, `known_versions` being N_i^i; None: none is known."""
        lags = self.lags(known_versions)
        return sum(lags.values()) / len(lags) if lags else None

    def lags(self, known_versions: Mapping[str, int]) -> dict[str, int]:
        """S of each source, in versions: how many of its own updates are not in this model."""
        return {source: version - min(version, self._at(source, version)) for source, version in known_versions.items()}

    def _at(self, source: str, version: int) -> int:
        """What is here of a source that is at this version."""
        self._settle(source)
        claim = self._claims.get(source)
        held = self.versions.get(source, 0)
        return claim.version if claim is not None and held < claim.version <= version else held

    def _word(self, source: str) -> int:
        known = self.members.peers.get(source)
        if known is not None and self.task in known.versions:
            self._note(source, known.versions[self.task], known.session)
        word = self._words.get(source)
        return word.version if word is not None else NO_WORD

    def _note(self, source: str, version: int, session: int) -> None:
        word = self._words.get(source)
        if word is None:
            self._words[source] = _Word(version, session)
            self._forget_words()
            return
        if session == word.session and version <= word.version:
            return  # as mostly
        if supersedes(word.session, session, self.members.wall_ms):
            return
        is_newer = session != word.session
        if is_newer and version < word.version:
            self._claims.pop(source, None)
            if source in self.versions:
                self.versions[source] = min(self.versions[source], max(0, version - 1))
            self._words[source] = _Word(version, session)
        elif is_newer or version > word.version:
            self._words[source] = _Word(max(version, word.version), session)

    def _newest(self, source: str) -> int:
        claim = self._claims.get(source)
        held = self.versions.get(source, 0)
        return max(held, claim.version) if claim is not None else held

    def _settle(self, source: str) -> int:
        """Hold a claim, and what is here, against what its source has said since: its word."""
        word = self._word(source)
        claim = self._claims.get(source)
        if claim is None:
            return word
        if claim.version <= word:
            self.versions[source] = max(claim.version, self.versions.get(source, 0))
        if word > claim.word:
            del self._claims[source]
        return word

    def _hold(self, source: str, version: int) -> None:
        if version > self._newest(source) or source not in self.versions:
            self._move_last(source, max(version, self.versions.get(source, 0)))
        elif version > self.versions[source]:
            self.versions[source] = version

    def _move_last(self, source: str, version: int) -> None:
        self.versions.pop(source, None)
        self.versions[source] = version

    def _may_be_named(self, source: str) -> bool:
        if self.members.is_member(source):
            return True
        if not self.members.only_named:
            return False
        self._unheard.pop(source, None)
        self._unheard[source] = None
        if len(self._unheard) > MAX_UNHEARD:
            self._drop(next(iter(self._unheard)))
        return True

    def _forget(self) -> None:
        """Where there are too many, drop those who are no members, the oldest news first, then the others."""
        excess = len(self.versions) - MAX_SOURCES
        if excess <= 0:
            return
        gone = list(islice((peer for peer in self.versions if not self.members.is_member(peer)), excess))
        gone += islice((peer for peer in self.versions if self.members.is_member(peer)), excess - len(gone))
        for peer in gone:
            self._drop(peer)

    def _drop(self, peer: str) -> None:
        self._unheard.pop(peer, None)
        if not self.members.is_member(peer):
            self._words.pop(peer, None)
        self.versions.pop(peer, None)
        self._claims.pop(peer, None)

    def _forget_words(self) -> None:
        """Where there are too many, drop those of all who are no members, and of the others the oldest."""
        if len(self._words) > MAX_SOURCES:
            newest = next(reversed(self._words))
            kept = [peer for peer in self._words if self.members.is_member(peer) or peer == newest]
            self._words = {peer: self._words[peer] for peer in kept[-MAX_SOURCES:]}
