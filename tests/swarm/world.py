"""Real agent cores joined by a virtual clock and a broker in memory.

Every message is really signed, sent as bytes, verified and decoded. Only time, the network between
the cores and the moment at which a trainer answers are of this world's making.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.application import ApplicationSpec, Component
from grapevine_proto.application_codec import application_id, encode_application
from grapevine_proto.codec import Received, open_envelope, seal
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.messages import RECORDS, Blob, Message, PeerState, Vector
from grapevine_proto.signing import SigningKey, signed_bytes, verify
from grapevine_proto.topics import PeerTopic, parse_below_root

EPOCH_MS = 1_750_000_000_000
LATENCY_S = 0.01
FOUND_AFTER_S = 2.0  # after a connection, what the broker can is known

Trained = tuple[Vector, Vector, float, int]  # parameters, buffers, loss, samples processed


class Trainer:
    """What a node trains with. This one learns nothing; tests give their own. A TaskError is a failure."""

    dataset_size = 32

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        return parameters, buffers, 0.0, num_steps

    def evaluate(self, parameters: Vector, buffers: Vector) -> tuple[float, float, int]:
        return 0.0, 0.0, 1


@dataclass(eq=False)
class Node:
    _core: AgentCore
    key: SigningKey
    trainer: Trainer
    train_s: float
    filters: set[str] = field(default_factory=set)
    shares: dict[str, str] = field(default_factory=dict)  # filter → the name under which it is shared
    session: int = 0
    sequence: int = 0
    up: bool = True
    asleep: bool = False  # up, and without a connection, as its core wants it
    waiting: dict[str, fx.Publish] = field(default_factory=dict)  # records of its own that go at the next connection
    latency_s: float = LATENCY_S  # of what comes to it
    num_read: int = 0  # messages that were verified
    blobs: dict[str, bytes] = field(default_factory=dict)
    saved: dict[str, fx.SavedModel] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)  # reasons
    accuracies: list[tuple[float, float]] = field(default_factory=list)  # of the released model, over time
    log: list[str] = field(default_factory=list)
    delivered: list[fx.Delivered] = field(default_factory=list)
    _deadline_s: float | None = None  # of its core, as long as nobody has touched that

    @property
    def core(self) -> AgentCore:
        """Whoever asks for it may change when it has something to do next."""
        self._deadline_s = None
        return self._core

    def deadline_s(self) -> float:
        """When its core has something to do next. Of a crowd nearly all are as they were at the event before."""
        if self._deadline_s is None:
            self._deadline_s = self._core.deadline_s()
        return self._deadline_s

    def forget_deadline(self) -> None:
        self._deadline_s = None

    @property
    def peer(self) -> str:
        return self.key.peer_id

    def hears(self, topic: str) -> bool:
        """Whether it has subscribed to a topic."""
        return topic in self.filters or any(matches(each, topic) for each in self.filters if "+" in each)


@lru_cache(maxsize=1 << 14)
def matches(filter_: str, topic: str) -> bool:
    """MQTT 4.7: + stands for one level."""
    wanted, levels = filter_.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(w in ("+", level) for w, level in zip(wanted, levels, strict=True))


_verified = lru_cache(maxsize=1 << 12)(verify)  # remembers no refusal


def check_signature(public_key: bytes, signature: bytes, topic: str, message: bytes | memoryview) -> None:
    """As the agent does, with the same answer: whoever reads the same bytes later is spared the arithmetic."""
    _verified(public_key, signature, signed_bytes(topic, message))


class World:
    """Nodes, a broker that retains, and time."""

    def __init__(
        self, seed: int = 0, *, wildcards_retain: bool = True, shares: bool = False, loss: float = 0.0
    ) -> None:
        """`wildcards_retain`: a subscription with + brings what is retained; RabbitMQ's do not. `shares`: MQTT 5.

        `loss` of what is not retained, on the way to the broker and again on the way from it.
        """
        self.loss = loss
        self.clock_ahead_ms = 0  # everybody's wall clock
        self._wildcards_retain = wildcards_retain
        self._shares = shares
        self.num_shared: Counter[str] = Counter()  # messages that a node got because it was its turn
        self.now_s = 0.0
        self.rng = np.random.default_rng(seed)
        self._losses = np.random.default_rng(seed + 1)
        self.nodes: list[Node] = []
        self.retained: dict[str, bytes] = {}
        self.num_messages = 0
        self.num_carried = 0  # records that a peer gave another
        self.letters: Counter[tuple[str, str]] = Counter()  # how many were put into an inbox: (receiver, sender)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def moment(self) -> Moment:
        return Moment(monotonic_s=self.now_s, wall_ms=EPOCH_MS + self.clock_ahead_ms + int(self.now_s * 1000))

    def at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), do))

    # --- nodes ------------------------------------------------------------------------------------

    def key(self) -> SigningKey:
        """A key that is the same in every run with the same seed."""
        return SigningKey(self.rng.bytes(32))

    def add(
        self,
        settings: CoreSettings,
        key: SigningKey,
        *,
        trainer: Trainer | None = None,
        train_s: float = 0.05,
        saved: dict[str, fx.SavedModel] | None = None,
        records: list[Received] | None = None,
        instead_of: Node | None = None,
    ) -> Node:
        """`instead_of`: the same peer's process of before, which is gone; its numbers go on."""
        core = AgentCore(settings=settings, rng=np.random.default_rng(int(self.rng.integers(2**32))))
        node = Node(core, key, trainer or Trainer(), train_s, saved=saved or {})
        if instead_of is not None:
            self.nodes.remove(instead_of)
            node.session, node.sequence, instead_of.up = instead_of.session, instead_of.sequence, False
        self.nodes.append(node)
        self.perform(node, core.start(records or [], {}, self.moment()))
        self.connect(node)
        return node

    def connect(self, node: Node) -> None:
        """A broker takes it in, for the first time or after `lose`."""
        node.up = True
        node.session = max(node.session + 1, self.moment().wall_ms + next(self._order))
        node.sequence = max(node.sequence, self.moment().wall_ms)  # unix milliseconds, as the service counts
        for filter_ in sorted(node.filters):
            self._send_retained(node, filter_)
        self.perform(node, node.core.connected(node.session, self.moment()))
        held, node.waiting = node.waiting, {}
        for effect in held.values():
            self._publish(node, effect)
        if not self._wildcards_retain or self._shares:
            self.at(self.now_s + FOUND_AFTER_S, lambda: self._tell_of_broker(node))

    def lose(self, node: Node) -> None:
        """Its line is dead; nobody is told. It does nothing meanwhile."""
        node.up = False

    def _send_retained(self, node: Node, filter_: str) -> None:
        everything = list(self.retained) if self._wildcards_retain else []
        names = everything if "+" in filter_ else [filter_] if filter_ in self.retained else []
        for topic in names:
            if matches(filter_, topic):
                self._deliver(node, topic, self.retained[topic], retained=True)

    def _tell_of_broker(self, node: Node) -> None:
        if node.up:
            self.perform(node, node.core.found(self._abilities(), self.moment()))

    def _abilities(self) -> BrokerAbilities:
        return BrokerAbilities(wildcard=self._wildcards_retain, shared=self._shares)

    def kill(self, node: Node) -> None:
        """The process is gone, and what waited for it; the broker publishes its will."""
        node.up = False
        node.shares.clear()
        self._publish(node, fx.Publish(topic=PeerTopic(node.peer, "state"), body=PeerState(online=False), retain=True))

    def publish_task(self, node: Node, manifest: TaskManifest, weights: bytes) -> str:
        task, effects = node.core.publish_task(encode_manifest(manifest), weights, 0)
        self.perform(node, effects)
        return task

    def approve(self, node: Node, task: str, *, approved: bool = True, valid_s: float = 1e6) -> None:
        valid_until_ms = self.moment().wall_ms + int(valid_s * 1000)
        self.perform(node, node.core.review(task, approved=approved, reason="", valid_until_ms=valid_until_ms))

    def apply(self, node: Node, *components: Component, name: str = "lakeside") -> str:
        """Have it sign an application of these; the application's id."""
        spec = encode_application(ApplicationSpec(name=name, author=node.peer, components=components))
        self.perform(node, node.core.apply(spec, name))
        return application_id(spec)

    # --- time -------------------------------------------------------------------------------------

    def run(self, for_s: float) -> None:
        """Let time pass."""
        end_s = self.now_s + for_s
        for node in self.nodes:
            node.forget_deadline()  # a test may hold a part of its core
        while True:
            due = {node: node.deadline_s() for node in self.nodes if node.up}
            next_tick_s = min(due.values(), default=np.inf)
            next_event_s = self._events[0][0] if self._events else np.inf
            next_s = max(self.now_s, min(next_tick_s, next_event_s))
            if next_s > end_s:
                self.now_s = end_s
                return
            self.now_s = next_s
            if next_event_s <= next_tick_s:
                heapq.heappop(self._events)[2]()
                continue
            for node, deadline_s in due.items():
                if node.up and deadline_s <= self.now_s:
                    self.perform(node, node.core.tick(self.moment()))

    # --- strangers --------------------------------------------------------------------------------

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Something that no node says."""
        self._broadcast(topic, payload, retain=retain)

    def listens(self, topic: str) -> bool:
        """Whether anybody has subscribed to a topic."""
        return any(node.up and node.hears(topic) for node in self.nodes)

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, node: Node, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            self._perform(node, effect)

    def _perform(self, node: Node, effect: fx.Effect) -> None:
        match effect:
            case fx.Publish():
                self._publish(node, effect)
            case fx.Relay(received=received):
                self._broadcast(received.topic.below_root(), received.envelope, retain=True)
            case fx.Subscribe(filter=filter_, share=share) if share:
                if self._shares:
                    node.shares[filter_] = share
            case fx.Unsubscribe(filter=filter_, share=share) if share:
                node.shares.pop(filter_, None)
            case fx.Subscribe(filter=filter_):
                node.filters.add(filter_)
                self._send_retained(node, filter_)
            case fx.TakeRecord(topic=carried, envelope=envelope):
                self.num_carried += 1
                self._deliver(node, carried.below_root(), envelope, retained=True)
            case fx.Unsubscribe(filter=filter_):
                node.filters.discard(filter_)
            case fx.Train():
                self.at(self.now_s + node.train_s, lambda: self._train(node, effect))
            case fx.Evaluate():
                self.at(self.now_s, lambda: self._evaluate(node, effect))
            case fx.LoadTask(task=task, weights_digest=digest, donors=donors):
                inherited = next((node.saved[donor] for donor in donors if donor in node.saved), None)
                loaded = (node.saved.get(task), node.blobs.get(digest))
                self.perform(node, node.core.loaded(task, *loaded, self.moment(), inherited))
            case fx.Delivered():
                node.delivered.append(effect)
            case fx.SaveModel(task=task, vectors=vectors, counters=counters):
                best = node.saved[task].best if task in node.saved else None
                node.saved[task] = fx.SavedModel(vectors=vectors, counters=counters, best=best)
            case fx.SaveBest(task=task, vectors=vectors, counters=counters, figures=figures):
                best = fx.SavedModel(vectors=vectors, counters=counters, figures=figures)
                node.saved[task] = replace(node.saved[task], best=best)
            case fx.SaveBlob(digest=digest, content=content):
                node.blobs[digest] = content
            case fx.SendBlob(topic=topic, task=task, digest=digest, receiver_session=session):
                if digest in node.blobs:
                    blob = Blob(task=task, digest=digest, content=node.blobs[digest])
                    self._publish(node, fx.Publish(topic=topic, body=blob, receiver_session=session))
            case fx.FallAsleep():
                node.asleep = True
            case fx.WakeUp():
                node.asleep = False
                self.connect(node)
            case ev.Event() if effect.level != "debug":
                node.log.append(effect.text)

    def _publish(self, node: Node, effect: fx.Publish) -> None:
        if node.asleep:
            if effect.retain:
                node.waiting[effect.topic.below_root()] = effect
            return
        node.sequence += 1
        message = Message(
            sender=node.peer,
            session=node.session,
            sequence=node.sequence,
            body=effect.body,
            created_at_ms=self.moment().wall_ms,
            expires_at_ms=effect.expires_at_ms,
            receiver_session=effect.receiver_session,
        )
        payload = seal(message, effect.topic, node.key)
        if isinstance(effect.body, RECORDS):
            self._hear(node, effect.topic.below_root(), payload, retained=False)
        self._broadcast(effect.topic.below_root(), payload, retain=effect.retain)

    def _broadcast(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        if topic.startswith("inbox/"):
            self.letters[topic.split("/")[1], topic.split("/")[2]] += 1
        if not retain and self._loses():
            return
        for node in self.nodes:
            if node.up and not node.asleep and node.hears(topic) and (retain or not self._loses()):
                self._deliver(node, topic, payload, retained=False)
        self._give_to_one(topic, payload)

    def _give_to_one(self, topic: str, payload: bytes) -> None:
        """As brokers do with a shared subscription. Of a node whose line is dead they do not know that."""
        names = sorted({share for node in self.nodes for each, share in node.shares.items() if matches(each, topic)})
        for name in names:
            sharing = [
                node for node in self.nodes if any(s == name and matches(f, topic) for f, s in node.shares.items())
            ]
            node = min(sharing, key=lambda each: self.num_shared[each.peer])
            self.num_shared[node.peer] += 1
            if node.up:
                self._deliver(node, topic, payload, retained=False)

    def _loses(self) -> bool:
        return self.loss > 0 and self._losses.random() < self.loss

    def _deliver(self, node: Node, topic: str, payload: bytes, *, retained: bool) -> None:
        self.at(self.now_s + node.latency_s, lambda: self._hear(node, topic, payload, retained=retained))

    def _hear(self, node: Node, topic: str, payload: bytes, *, retained: bool) -> None:
        if not node.up or node.asleep:
            return
        self.num_messages += 1
        try:
            parsed = parse_below_root(topic)
            if not node.core.is_worth_reading(parsed, len(payload), self.moment()):
                return
            node.num_read += 1
            received = open_envelope(payload, parsed, retained=retained, check=check_signature)
            self.perform(node, node.core.receive(received, self.moment()))
        except WireError as error:
            node.dropped.append(error.reason)

    def _train(self, node: Node, asked: fx.Train) -> None:
        if not node.up:
            return
        try:
            parameters, buffers, loss, num_samples = node.trainer.train(
                asked.parameters, asked.buffers, asked.num_steps
            )
        except TaskError as error:
            failed = fx.Trained(task=asked.task, error=str(error))
            self.perform(node, node.core.trained(failed, self.moment()))
            return
        result = fx.Trained(
            task=asked.task,
            parameters=parameters,
            buffers=buffers,
            num_steps=asked.num_steps,
            num_samples=num_samples,
            dataset_size=node.trainer.dataset_size,
            loss=loss,
            seconds=node.train_s,
        )
        self.perform(node, node.core.trained(result, self.moment()))

    def _evaluate(self, node: Node, asked: fx.Evaluate) -> None:
        if not node.up:
            return
        try:
            loss, metric, count = node.trainer.evaluate(asked.parameters, asked.buffers)
        except TaskError as error:
            failed = fx.Evaluated(task=asked.task, round=asked.round, error=str(error), of=asked)
            self.perform(node, node.core.evaluated(failed, self.moment()))
            return
        if asked.which == "latest":
            node.accuracies.append((self.now_s, metric))
        evaluation = fx.Evaluated(
            task=asked.task, round=asked.round, loss=loss, metric=metric, num_evaluated=count, of=asked
        )
        self.perform(node, node.core.evaluated(evaluation, self.moment()))
