"""Giving a task's initial weights to who asks for them.

Asked are those who published the task or take part in it, by whoever has said who it is; the answer is only
ever what the task's manifest names, and its number is bounded (see `overlay.answers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from grapevine_agent.core.effects import Effect, SendBlob
from grapevine_agent.core.events import Sent
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.answers import BLOBS, AnswerQuota, at_once
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.messages import BlobRequest
from grapevine_proto.topics import InboxTopic


@dataclass(kw_only=True)
class BlobRequests:
    """See the module's docstring."""

    peer: str  # ourselves
    members: Members
    tasks: TaskLife
    quota: AnswerQuota

    def answer(self, sender: str, session: int, request: BlobRequest, now: Moment) -> list[Effect]:
        """Answer a verified request. Raises `WireError` if it is not to be answered."""
        entry = self.tasks.book.entries.get(request.task)
        takes_part = request.task in self.tasks.learning or request.task in self.tasks.aggregating
        if entry is None or entry.retracted or not (takes_part or entry.brief.publisher == self.peer):
            raise WireError("not-joined", f"a request for the weights of {request.task}")
        try:
            weights = entry.head.initial_weights
        except TaskError as error:
            raise WireError("malformed", str(error)) from None
        if request.digest != weights.digest:
            raise WireError("digest", f"{sender} asks for {request.digest}, which is not of its task")
        if not self.members.is_known(sender):
            raise WireError("stranger", f"{sender} asks for weights and has not said who it is")
        is_member, thing = self.members.is_member(sender), _thing(weights.digest)
        self.quota.charge(sender, thing, weights.num_bytes, now.monotonic_s, pace=BLOBS, is_member=is_member)
        first = at_once(weights.num_bytes)
        if not self.tasks.governor.may_give(weights.num_bytes, now, is_member=is_member, at_once=first):
            self.quota.put_back(sender, thing, weights.num_bytes, pace=BLOBS, is_member=is_member)
            raise WireError("over-quota", f"{sender} asks for weights, and today's bytes are spent")
        return [
            SendBlob(
                topic=InboxTopic(sender, self.peer),
                task=request.task,
                digest=weights.digest,
                num_bytes=weights.num_bytes,
                receiver_session=session,
            ),
            Sent(
                task=request.task,
                label=entry.brief.label,
                receiver=sender,
                what="weights",
                num_bytes=weights.num_bytes,
            ),
        ]

    def not_given(self, order: SendBlob) -> None:
        """An answer had no room on its way out: who asked for it may ask again at once."""
        asker = order.topic.receiver
        is_member, thing = self.members.is_member(asker), _thing(order.digest)
        self.quota.put_back(asker, thing, order.num_bytes, pace=BLOBS, is_member=is_member)


def _thing(digest: str) -> str:
    return f"the blob {digest}"
