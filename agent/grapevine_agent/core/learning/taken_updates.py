"""Which updates a server of a group has taken, and its word on them.

A member offers its newest update again until it has the word of a server on it (see `offers`). A word may be lost, so
the same version may come again: it is answered, and not taken twice. Of each sender the newest alone is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.merge.server.interface import MAX_MEMBERS
from grapevine_proto.messages import ModelUpdate, UpdateReceipt
from grapevine_proto.topics import InboxTopic


@dataclass(kw_only=True)
class TakenUpdates:
    """See the module's docstring, of one task."""

    task: str
    peer: str  # ourselves
    _newest: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)  # sender → session, version

    def has(self, sender: str, session: int, update: ModelUpdate) -> bool:
        """Whether this very version of its sender, in this session, was taken, and its sender waits to hear that."""
        return update.wants_receipt and self._newest.get(sender) == (session, update.version)

    def note(self, sender: str, session: int, update: ModelUpdate) -> list[Effect]:
        """An update is taken: our word on it, where its sender waits for one."""
        if not update.wants_receipt:
            return []
        self._newest[sender] = (session, update.version)
        self._newest.move_to_end(sender)
        if len(self._newest) > MAX_MEMBERS:
            self._newest.popitem(last=False)
        return [
            Publish(
                topic=InboxTopic(sender, self.peer),
                body=UpdateReceipt(task=self.task, version=update.version),
                receiver_session=session,
            )
        ]
