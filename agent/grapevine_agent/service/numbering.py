"""The numbers of our own records and sessions: on disk before they are used, and growing without a disk too.

A peer believes a record only if its number is higher than the last one's. So none may be given twice, by a service
that lost its disk, or its state, or its clock: the next one is above the clock, above what is on disk, above what
this process has given, and above what a broker still has of us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from grapevine_agent.service.unsaved import Unsaved
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import RECORDS, Message, PeerState, ServerAdvert

KIND = "sequences"
SESSION = "session"  # no topic is named so
MOST = 1 << 53  # more was never given: see `store.database.LARGEST_SEQUENCE`


class Memory(Protocol):
    """What `Store` remembers of sequences."""

    def next_session(self, now_ms: int) -> int: ...  # noqa: D102

    def next_sequence(self, topic: str, now_ms: int) -> int: ...  # noqa: D102

    def last_sequence(self, topic: str) -> int: ...  # noqa: D102

    def keep_sequences(self, sequences: Mapping[str, int]) -> None: ...  # noqa: D102


class OwnNumbers:
    """See the module's docstring. Called from the event loop alone."""

    def __init__(self, store: Memory, unsaved: Unsaved) -> None:
        self._store = store
        self._unsaved = unsaved
        self._last: dict[str, int] = {}  # of our own topics: given here, or heard
        self._on_disk: dict[str, int] = {}  # as it was before the disk failed, for topics that are new since
        self._waiting: dict[str, int] = {}  # given, and not on disk

    def next_session(self, now_ms: int) -> int:
        """A session number larger than all that came before."""
        return self._next(SESSION, now_ms)

    def next_sequence(self, topic: str, now_ms: int) -> int:
        """The sequence of our next record on `topic`."""
        return self._next(topic, now_ms)

    def heard(self, message: Message, topic: str) -> None:
        """A broker has a record of ours: a service that lost its state goes on above it, from the next session on."""
        self._at_least(SESSION, message.session)
        if isinstance(message.body, RECORDS) and not isinstance(message.body, PeerState | ServerAdvert):
            self._at_least(topic, message.sequence)

    def retry(self) -> None:
        """Write what waits, if the pause is over."""
        if not self._waiting or not self._unsaved.may_try(KIND):
            return
        try:
            self._store.keep_sequences(self._waiting)
        except StoreError as error:
            self._unsaved.failed(KIND, error)
        else:
            self._waiting.clear()
            self._unsaved.saved(KIND)

    def _at_least(self, topic: str, number: int) -> None:
        if number < MOST:
            self._last[topic] = max(number, self._last.get(topic, -1))

    def _next(self, topic: str, now_ms: int) -> int:
        self.retry()
        floor = max(0, now_ms, self._last.get(topic, -1) + 1)
        number = None
        if self._unsaved.may_try(KIND):
            try:
                number = self._store.next_sequence(topic, floor)
            except StoreError as error:
                self._unsaved.failed(KIND, error)
            else:
                self._unsaved.saved(KIND)
        if number is None:
            number = max(floor, self._known(topic) + 1)
            self._waiting[topic] = number
        self._last[topic] = number
        return number

    def _known(self, topic: str) -> int:
        """What the disk has, asked once for each topic: a disk that takes nothing often still gives."""
        if topic not in self._on_disk:
            try:
                self._on_disk[topic] = self._store.last_sequence(topic)
            except StoreError:
                self._on_disk[topic] = -1
        return self._on_disk[topic]
