"""Messages that pass: what is said once, to one peer or to all, and retained by nobody.

A message is checked first (`check`): whether it has run out, is for us and for our present session, and comes for the
first time. Then it is read (`read`), and whoever it concerns takes it. Records are the other half: see `agent`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.learning.serving import counting_refusals
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.overlay.probes import Probes
from grapevine_agent.core.overlay.record_exchange import RecordExchange
from grapevine_agent.core.tasks.blob_requests import BlobRequests
from grapevine_agent.core.tasks.bulks import Bulks
from grapevine_agent.core.tasks.model_requests import ModelRequests
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto import messages as m
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.replay import ReplayGuard
from grapevine_proto.topics import GroupTopic, InboxTopic


@dataclass(kw_only=True)
class Passing:
    """See the module's docstring. `watched`: tasks whose metrics the owner wants to see."""

    peer: str
    brokers: Brokers
    members: Members
    presence: Presence
    probes: Probes
    exchange: RecordExchange
    tasks: TaskLife
    models: ModelRequests
    bulks: Bulks
    blobs: BlobRequests
    watched: Collection[str]
    replays: ReplayGuard = field(default_factory=ReplayGuard)

    def check(self, received: Received, now: Moment) -> None:
        """Raise `WireError` unless this is to be read, now and once."""
        message = received.message
        if 0 < message.expires_at_ms < now.wall_ms:
            raise WireError("expired", received.topic.below_root())
        if isinstance(received.topic, InboxTopic):
            if received.topic.receiver != self.peer:
                raise WireError("topic", f"addressed to {received.topic.receiver}")
            if not self.presence.has_session(message.receiver_session):
                raise WireError("old-session", f"says our session is {message.receiver_session}")
        if isinstance(received.topic, GroupTopic):
            self._check_group(received.topic, message.session)
        self.replays.check(message, wall_ms=now.wall_ms, is_known=self.members.is_member(message.sender))

    def _check_group(self, topic: GroupTopic, session: int) -> None:
        """What is said to a group names no session of its receiver's: its sender's newest one stands for that."""
        aggregator = self.tasks.aggregating.get(topic.task)
        if aggregator is None:
            raise WireError("not-joined", f"an update of {topic.task} to the group {topic.group}")
        if aggregator.settings.server_group != topic.group:
            raise WireError("topic", f"addressed to the group {topic.group}")
        if session != self.members.session_of(topic.sender):
            raise WireError("old-session", f"{topic.sender} says to {topic.group} that its session is {session}")

    def read(self, received: Received, now: Moment) -> list[Effect]:
        """Give it to whom it concerns. Raises `WireError` if it is to be dropped."""
        sender, session = received.message.sender, received.message.session
        self.members.hear(sender, now.monotonic_s)
        match received.message.body:
            case m.Heartbeat() as heartbeat:
                return self._hear_heartbeat(sender, session, heartbeat, now)
            case m.ModelUpdate() as update:
                return self._take_update(sender, session, update, now)
            case m.ServerModel(task=task) as model:
                learner = self.tasks.learning.get(task)
                if learner is None:
                    raise WireError("not-joined", f"a server's model of {task}")
                effects = learner.accept_server_model(sender, model, now, session)
                vectors = (model.full, model.buffers)
                return [self._received(sender, task, "server-model", vectors, model.model_version, model.age), *effects]
            case m.BaseReceipt(task=task) as receipt:
                if (learner := self.tasks.learning.get(task)) is not None:
                    learner.writer.hear_receipt(sender, receipt.base_digest, session)
                return []
            case m.UpdateReceipt(task=task) as taken:
                if (learner := self.tasks.learning.get(task)) is not None:
                    learner.sending.offers.receipt(sender, taken.version, session)
                return []
            case m.BlobRequest() as request:
                return self.blobs.answer(sender, session, request, now)
            case m.Blob() as blob:
                effects = self.tasks.take_blob(sender, blob, now)
                return [self._received(sender, blob.task, "weights", (memoryview(blob.content),)), *effects]
            case m.ModelRequest() as asked:
                return self.models.answer(sender, session, asked, now)
            case m.ReleasedModel() as released:
                effects = self.models.take(sender, released, now)
                if released.refusal:
                    return effects
                vectors = (released.full, released.buffers)
                task, version, age = released.task, released.version, released.age
                return [self._received(sender, task, "released-model", vectors, version, age), *effects]
            case m.Apart() as apart if received.bulk is not None:
                self.bulks.take(sender, apart, received.bulk, now, session)
                return [fx.Fetch(received=received)]
            case m.ChunkRequest() as wanted:
                if self.tasks.governor.is_spent:
                    raise WireError("over-quota", f"{sender} asks for chunks, and today's bytes are spent")
                return [fx.GiveChunks(topic=InboxTopic(sender, self.peer), request=wanted, receiver_session=session)]
            case m.ChunkRefusal() as refusal:
                return [fx.Refused(sender=sender, refusal=refusal)]
            case m.Probe() | m.ProbeRequest() | m.ProbeAnswer() as said:
                if isinstance(said, m.ProbeAnswer) and not said.peer:
                    self.brokers.ways.answered(sender, said.nonce, said.hops, now.monotonic_s)
                return self.probes.take(sender, session, said, now.monotonic_s, hops=received.hops)
            case m.RecordDigests() | m.RecordRequest() | m.RecordBatch() as told:
                return self.exchange.take(sender, session, told, now.monotonic_s)
            case m.Metrics(task=task) as metrics if task in self.watched:
                return [fx.Delivered(sender=sender, body=metrics)]
        return []

    def _hear_heartbeat(self, sender: str, session: int, heartbeat: m.Heartbeat, now: Moment) -> list[Effect]:
        told, followed = {p.task for p in heartbeat.progress}, {*self.tasks.learning, *self.watched}
        ours = {task for task in told if task in followed or self.tasks.book.is_own(task)}
        if unknown := told - self.tasks.book.entries.keys():
            self.exchange.hear_of_tasks(sender, session, sorted(unknown), now.monotonic_s)
        self.members.hear_heartbeat(sender, heartbeat, now.monotonic_s, session=session, ours=ours)
        return [e for learner in self.tasks.learning.values() for e in learner.hear_life(sender, now)]

    def _take_update(self, sender: str, session: int, update: m.ModelUpdate, now: Moment) -> list[Effect]:
        task = update.task
        taker = self.tasks.learning.get(task) or self.tasks.aggregating.get(task)
        if taker is None:
            if self.tasks.is_beginning(task):
                return []  # we are announced, and it will be sent again
            raise WireError("not-joined", f"an update of {task}")
        with counting_refusals(self.tasks.aggregating.get(task)):
            effects = taker.accept(sender, update, now, session)
        self.members.hear_update(sender, task, now.monotonic_s, session=session)
        vectors = (update.full, update.base, update.delta, update.buffers)
        return [self._received(sender, task, "update", vectors, update.version, update.age), *effects]

    def _received(
        self,
        sender: str,
        task: str,
        what: ev.Arrival,
        vectors: Iterable[m.Written | memoryview | None],
        version: int | None = None,
        age: int | None = None,
    ) -> ev.Received:
        entry = self.tasks.book.entries.get(task)
        return ev.Received(
            task=task,
            label=entry.brief.label if entry is not None else "",
            sender=sender,
            what=what,
            num_bytes=sum(vector.nbytes for vector in vectors if vector is not None),
            version=version,
            age=age,
        )
