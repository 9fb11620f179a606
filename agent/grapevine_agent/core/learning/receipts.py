"""Which base of ours a receiver holds, and what we say of the bases of others: so that a delta can go alone.

    sender ── base + delta ──▶ receiver
           ◀── BaseReceipt ──             it holds that base now
           ── delta alone ──▶             until a new base, or a new session of the receiver

A base that was *written* is not known to have arrived: messages are lost, and receivers restart. So a base
is repeated until its receipt has come. A receiver that gets a delta from a base that it does not hold says so with
a receipt that names none, and the next update brings the base again. A peer of an earlier version gives no
receipts, and gets every base.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from grapevine_agent.core.effects import Publish
from grapevine_proto.errors import WireError
from grapevine_proto.messages import BaseReceipt
from grapevine_proto.topics import InboxTopic

MAX_LACKING = 64  # senders who are told that their base is not held; the others are told another time


@dataclass(kw_only=True)
class Receipts:
    """The receipts of one task that we give."""

    task: str
    peer: str  # ourselves
    _lacking: dict[str, int] = field(default_factory=dict)  # sender → its session

    def give(self, sender: str, session: int, digest: bytes) -> Publish:
        """The base with this digest is held; empty: none of this sender's is."""
        return Publish(
            topic=InboxTopic(sender, self.peer),
            body=BaseReceipt(task=self.task, base_digest=digest),
            receiver_session=session,
        )

    @contextmanager
    def lacking(self, sender: str, session: int) -> Iterator[None]:
        """Where a delta is refused because its base is not held, its sender is told so at the next tick."""
        try:
            yield
        except WireError as error:
            if error.reason == "unknown-base" and len(self._lacking) < MAX_LACKING:
                self._lacking[sender] = session
            raise

    @property
    def are_due(self) -> bool:
        """Whether somebody is to be told."""
        return bool(self._lacking)

    def due(self) -> list[Publish]:
        """What is to be said now."""
        lacking, self._lacking = self._lacking, {}
        return [self.give(sender, session, b"") for sender, session in lacking.items()]
