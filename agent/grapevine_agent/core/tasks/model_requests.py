"""Released models, asked for and given: what `grapevine task pull` rests on, and what newcomers begin with.

    who wants it ── ModelRequest ──▶ a member, or a server, of the task
                 ◀── ReleasedModel ── its released model, or why it does not give it

Members gossip their working models to whoever announces the task, so a member's released model is no
secret from other members; beside them the task's publisher may have it. An owner may widen that to
anybody, or close it (`agent.give_models`). A request costs its receiver a whole message, so answers are
bounded (see `overlay.answers`), and one is counted before anything is done for it. What is encoded of a model is kept
until there is another one: one model goes to many.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field, replace

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.encodings import Encodings, allowed_encodings, written
from grapevine_agent.core.learning.intake import Intake
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.reports import released_of
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.answers import MODELS, AnswerQuota, at_once
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto.encoding import SIZES, Encoding
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.messages import Encoded, ModelRequest, ReleasedModel, Vector, Which, Written, plain
from grapevine_proto.topics import InboxTopic
from grapevine_tasks.layout import ModelLayout

SPENT = "this peer has sent today what its owner lets it send (governor.upload_mb_per_day); ask it tomorrow"
WAIT_S = 60.0  # an answer that comes later was not asked for


class _Kept:
    """What was made of a vector, which may be gone by now. `encoded` is None if it goes as it lies."""

    def __init__(self, vector: Vector | None, encoded: Encoded | None) -> None:
        self._vector = weakref.ref(vector) if vector is not None else None
        self.encoded = encoded

    def __reduce__(self) -> tuple[type[_Kept], tuple[Vector | None, Encoded | None]]:
        """A checkpoint of the simulator holds the vector itself: whoever else holds it gets the same one again."""
        return _Kept, (self.vector, self.encoded)

    @property
    def vector(self) -> Vector | None:
        """None: nobody holds it any more."""
        return self._vector() if self._vector is not None else None


@dataclass(kw_only=True)
class ModelRequests:
    """See the module's docstring."""

    settings: CoreSettings
    members: Members
    tasks: TaskLife
    quota: AnswerQuota
    _asked: dict[tuple[str, str], float] = field(default_factory=dict)  # peer, task → until when
    _kept: dict[tuple[str, Which, int, str], _Kept] = field(default_factory=dict)  # task, which, cluster, what

    # --- giving -----------------------------------------------------------------------------------

    def answer(self, sender: str, session: int, request: ModelRequest, now: Moment) -> list[Effect]:
        """Answer a verified request. Raises `WireError` if its sender asks too often."""
        taking_part = self.tasks.learning.get(request.task) or self.tasks.aggregating.get(request.task)
        refusal = self._refusal(sender, request.task)
        if refusal:
            body = ReleasedModel(task=request.task, refusal=refusal)
        else:
            body = self.own(request.task, request.cluster, request.which)
        encodings = taking_part.encodings if taking_part is not None else Encodings()
        key = (body.task, body.which, body.cluster)  # a request may name any cluster
        vectors = {
            "full": (plain(body.full), encodings.released),
            "buffers": (plain(body.buffers), encodings.buffers),
        }
        num_bytes = math.ceil(sum(self._num_bytes((*key, what), *each) for what, each in vectors.items()))
        is_member = self.members.is_member(sender)
        thing = f"the {request.which} model of {request.task}"
        self.quota.charge(sender, thing, num_bytes, now.monotonic_s, pace=MODELS, is_member=is_member)
        governor, first = self.tasks.governor, at_once(num_bytes)
        if num_bytes and not governor.may_give(num_bytes, now, is_member=is_member, at_once=first):
            # Nothing of its bytes; that it is told so counts as an answer.
            self.quota.put_back(sender, thing, num_bytes, pace=MODELS, is_member=is_member)
            self.quota.charge(sender, thing, 0, now.monotonic_s, pace=MODELS, is_member=is_member)
            body = ReleasedModel(task=request.task, refusal=SPENT)
            return [fx.Publish(topic=InboxTopic(sender, self.settings.peer), body=body, receiver_session=session)]
        sent = {what: self._written((*key, what), *each) for what, each in vectors.items()}
        return [
            fx.Publish(
                topic=InboxTopic(sender, self.settings.peer),
                body=replace(body, full=sent["full"], buffers=sent["buffers"]),
                receiver_session=session,
            ),
            *self._told(sender, request.task, num_bytes),
        ]

    def _told(self, receiver: str, task: str, num_bytes: int) -> list[Effect]:
        entry = self.tasks.book.entries.get(task)
        if not num_bytes or entry is None:
            return []  # a refusal
        label = entry.brief.label
        return [ev.Sent(task=task, label=label, receiver=receiver, what="released-model", num_bytes=num_bytes)]

    def _num_bytes(self, key: tuple[str, Which, int, str], vector: Vector, encoding: Encoding) -> float:
        """What a vector travels in: about, until it was encoded."""
        kept = self._kept.get(key)
        if kept is not None and kept.vector is vector:
            return vector.nbytes if kept.encoded is None else kept.encoded.nbytes
        return SIZES[encoding.name] * vector.size

    def _written(self, key: tuple[str, Which, int, str], vector: Vector, encoding: Encoding) -> Written:
        kept = self._kept.get(key)
        if kept is not None and kept.vector is vector:
            return vector if kept.encoded is None else kept.encoded
        sent = written(vector, encoding)
        self._kept = {other: each for other, each in self._kept.items() if each.vector is not None}
        self._kept[key] = _Kept(vector, sent if isinstance(sent, Encoded) else None)
        return sent

    def _refusal(self, sender: str, task: str) -> str:
        taking_part = self.tasks.learning.get(task) or self.tasks.aggregating.get(task)
        if taking_part is None:
            return "this peer does not take part in the task"
        if self.settings.give_models == "anyone":
            return ""
        if self.settings.give_models == "nobody":
            return "this peer's owner gives its models to nobody (agent.give_models)"
        manifest = taking_part.manifest
        # Who asks is there, and need not have been heard before: that it takes part is its own word in any case.
        allowed = sender in (manifest.publisher, *manifest.servers) or self.members.says_it_takes_part(sender, task)
        return "" if allowed else "this peer gives its model to the task's publisher and members only"

    def own(self, task: str, cluster: int = 0, which: Which = "latest") -> ReleasedModel:
        """The model that this agent would give, or a refusal that says why there is none.

        A member that has measured none gives its latest one for its best; a server has no samples to measure on.
        """
        taking_part = self.tasks.learning.get(task) or self.tasks.aggregating.get(task)
        match taking_part:
            case Learning() as learner:
                return released_of(learner, which)
            case Aggregator() as aggregator:
                return aggregator.released(cluster)
        return ReleasedModel(task=task, refusal="this peer does not take part in the task")

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, peer: str, task: str, cluster: int, now: Moment, which: Which = "latest") -> list[Effect]:
        """Ask a peer for its model; the answer comes as a `Delivered` effect."""
        self._asked = {key: until_s for key, until_s in self._asked.items() if until_s > now.monotonic_s}
        self._asked[peer, task] = now.monotonic_s + WAIT_S
        return [
            fx.Publish(
                topic=InboxTopic(peer, self.settings.peer),
                body=ModelRequest(task=task, cluster=cluster, which=which),
                receiver_session=self.members.session_of(peer),
            )
        ]

    def is_asked(self, peer: str, task: str, now: Moment) -> bool:
        """Whether a peer was asked for its model, and has time still."""
        return self._asked.get((peer, task), 0.0) >= now.monotonic_s

    def bytes_expected(self, peer: str, task: str, now: Moment) -> int:
        """About what the model takes, decoded, that a peer was asked for; 0: none was asked for."""
        entry = self.tasks.book.entries.get(task)
        if entry is None or not (self.is_asked(peer, task, now) or self.tasks.waits_for_model(peer, task)):
            return 0
        try:
            return max(self.tasks.model_bytes(task), entry.head.initial_weights.num_bytes)
        except TaskError:
            return 0

    def coming(self, peer: str, task: str) -> None:
        """The model of a peer that was asked for is on its way, and may take its time."""
        self._asked[peer, task] = math.inf

    def not_coming(self, peer: str, task: str) -> bool:
        """What was on its way from a peer will not come. Whether the owner has asked for it."""
        return self._asked.pop((peer, task), None) is not None

    def take(self, sender: str, released: ReleasedModel, now: Moment) -> list[Effect]:
        """What was asked for. Raises `WireError` if it was not, or does not fit the task's program."""
        begun = []
        if self.tasks.waits_for_model(sender, released.task):
            begun = self.tasks.take_released(sender, released, now)
            if (sender, released.task) not in self._asked:
                return begun
        until_s = self._asked.get((sender, released.task), 0.0)
        entry = self.tasks.book.entries.get(released.task)
        if until_s < now.monotonic_s or entry is None:
            raise WireError("not-asked", f"a released model of {released.task}")
        if not released.refusal:
            try:
                layout = ModelLayout.of(entry.manifest.program)
            except TaskError as error:
                raise WireError("bad-program", str(error)) from None
            intake = Intake(layout=layout, allowed=allowed_encodings(entry.manifest.merging))
            full, buffers = intake.model(sender, released.full, released.buffers)
            released = replace(released, full=full, buffers=buffers)
        del self._asked[sender, released.task]
        return [*begun, fx.Delivered(sender=sender, body=released)]
