"""What an earlier life of this agent left in its store. What cannot be read is left out, and the rest counts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from grapevine_agent.service.saving import readable, readable_each
from grapevine_agent.store.store import Store
from grapevine_proto import topics
from grapevine_proto.codec import Received, is_authentic, reopen_envelope
from grapevine_proto.errors import StoreError, WireError
from grapevine_proto.topics import Topic, is_lasting

logger = logging.getLogger(__name__)


def consents(store: Store) -> dict[str, bool]:
    """By task whether it was joined, of those that were joined or left by name."""
    return {task: state == "joined" for task, state in readable(store.memberships, dict[str, str]).items()}


def sequences_of_others(store: Store, peer: str) -> dict[Topic, int]:
    """The newest sequence of each record of another peer that ran out, the oldest first."""
    found: dict[Topic, int] = {}
    for name, number in readable(store.newest_sequences, dict[str, int]).items():
        with contextlib.suppress(WireError):  # a name that was damaged
            if topics.writer_of(topic := topics.parse_below_root(name)) != peer:
                found[topic] = number
    return dict(reversed(found.items()))


def records(store: Store, peer: str, wall_ms: int, keep: Callable[[Topic, bytes, int], None]) -> Iterator[Received]:
    """The records, one by one, reviews first, since they say which manifests matter; `keep` is given what is ours.

    With it comes when it runs out. One that is no record any more is dropped from the store.
    """
    for stored in readable_each(store.each_record):
        try:
            topic = topics.parse_below_root(stored.topic)
            received = reopen_envelope(stored.envelope, topic)
        except WireError as error:
            logger.warning("stored record on %s is dropped: %s", stored.topic, error)
            with contextlib.suppress(StoreError):  # the next start drops it again
                store.delete_record(stored.topic)
            continue
        expired = 0 < stored.expires_at_ms < wall_ms
        is_ours = received.message.sender == peer and is_lasting(topic)  # what of our own is said at every connection
        if is_ours and not expired and is_authentic(received):
            keep(topic, stored.envelope, stored.expires_at_ms)
        yield received
