"""The shell of a simulation: real cores, a virtual clock, and brokers in memory.

It does for every core what the service does for one (compare `grapevine_agent.service.shell`), in the same
order and with the same pieces: sealer, outbox, quota, codec, core. Sockets, threads and disks are
replaced by events on the clock:

    effect Publish ─▶ sealer ─▶ outbox ─▶ link up ─▶ Left ─▶ broker ─▶ link down ─▶ Arrive ─▶ codec ─▶ core
                                   ▲─────────────────────────┘ the acknowledgement, a round trip later
    effect Train ─▶ Work ─▶ Trained ─▶ core
    core.deadline_s() ─▶ Tick ─▶ core

A message to many is decoded once. Nothing depends on the order of sets or on the wall clock, so a run
with the same seed is the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.events import BrokerChanged, Event, rejection
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.service.publishing import MESSAGE_DEADLINE_S
from grapevine_agent.service.shell import GOODBYE_S, LONGEST_NAP_S
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.attachment import Attachment
from grapevine_lab.simulator.broker_sessions import Delivery
from grapevine_lab.simulator.brokers import ONE, BridgePlan, BrokerPlan
from grapevine_lab.simulator.carrying import Carrying
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.course import Course
from grapevine_lab.simulator.device import TAKEN, Device
from grapevine_lab.simulator.hostile import Hostile
from grapevine_lab.simulator.keys import no_check
from grapevine_lab.simulator.ledger import Ledger
from grapevine_lab.simulator.letters import Letter, opened
from grapevine_lab.simulator.network import Network
from grapevine_lab.simulator.observer import Observer
from grapevine_lab.simulator.post import Post
from grapevine_lab.simulator.sensing import Sensing
from grapevine_lab.simulator.surroundings import SurroundingsPlan
from grapevine_lab.simulator.telling import Telling
from grapevine_lab.simulator.work import Work
from grapevine_proto.codec import Received, open_envelope, with_hops
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.messages import RECORDS, Blob, ModelUpdate, PeerState, ReleasedModel, Review, TaskPublication
from grapevine_proto.signing import check_signature
from grapevine_proto.topics import (
    ChunkTopic,
    InboxTopic,
    PeerTopic,
    Topic,
    parse_below_root,
    parse_chunk_below_root,
    writer_of,
)

EVALUATION_S = 1e-3  # after which an evaluation of the released model is answered


class World:
    """See the module's docstring.

    Args:
        rng: Of everything that the world draws: what each node gets is drawn when it is added.
        network: With a link for every device, in their order.
        work: Trains and evaluates.
        observer: Is told what the measurements need; it looks at the same population.
        brokers: Those that there are.
        bridges: Between them.
        chunk_window: Chunks of a transfer that a device has under way, where a broker has a packet limit.
        surroundings: What devices' governors are told; None: nothing is.
    """

    def __init__(
        self,
        *,
        rng: np.random.Generator,
        network: Network,
        work: Work,
        observer: Observer,
        brokers: Sequence[BrokerPlan] = ONE,
        bridges: Sequence[BridgePlan] = (),
        chunk_window: int = 4,
        surroundings: SurroundingsPlan | None = None,
    ) -> None:
        self.rng = rng
        self.network = network
        self.work = work
        self.observer = observer
        self.population = observer.population
        self.devices = self.population.devices
        self.clock: VirtualClock[ev.Event] = VirtualClock()
        self.post = Post(
            clock=self.clock, network=network, population=self.population, brokers=brokers, bridges=bridges
        )
        has_limits = any(plan.packet_limit_bytes for plan in brokers)
        self.carrying = self.post.maker = Carrying(self, chunk_window) if has_limits else None
        self.sensing = Sensing(surroundings) if surroundings is not None else None
        self.num_members = 0  # that are switched on
        self.changed: list[int] = []  # nodes that began a round, came or went, since somebody looked
        self.course = Course()
        self.ledger: Ledger | None = None
        self.telling: Telling | None = None  # of what happens; None: nobody wants to know
        self._check = check_signature if network.plan.signatures else no_check

    def add(self, device: Device, *, start_s: float = 0.0) -> None:
        """Take a device in, and switch it on at `start_s`."""
        self.population.add(device)
        self.clock.at(start_s, ev.Boot(device.index))

    # --- time -------------------------------------------------------------------------------------

    def step(self) -> None:
        """Let the next thing happen."""
        self._happen(self.clock.take())

    def run(self, until_s: float) -> None:
        """Let everything happen that happens until `until_s`."""
        while self.clock.next_s() <= until_s:
            self.step()
        self.clock.now_s = max(self.clock.now_s, until_s)

    def _happen(self, event: ev.Event) -> None:
        match event:
            case ev.Arrive(node, _, delivery, number):
                if self.post.arrive(event):
                    self._hear(self.devices[node], delivery, number)
            case ev.Tick(node, stamp):
                device = self.devices[node]
                if device.running and stamp == device.tick_stamp:
                    assert device.core is not None
                    device.tick_s = math.inf
                    self.do(device, device.core.tick(self.now(device)))
            case ev.Left():
                self.post.left(event)
            case ev.Trained():
                self._trained(event)
            case ev.Evaluated():
                self._evaluated(event)
            case ev.Drain():
                self.post.drained(event)
            case ev.Acknowledged():
                self.post.acknowledged(event)
            case ev.Overdue():
                self.post.overdue(event)
            case ev.Reconnect(node, connection, number):
                if self.devices[node].attachments[number].connection == connection:
                    self.connect(self.devices[node])
            case ev.Boot(node):
                self.boot(self.devices[node])
            case ev.Off(node):
                self.switch_off(self.devices[node])
            case ev.Join(node):
                self.devices[node].offline_until_s = self.clock.now_s
                self.connect(self.devices[node])
            case ev.Drop(node):
                self.devices[node].offline_until_s = math.inf
                self.post.disconnect(self.devices[node])
            case ev.Doze(node):
                self._doze(self.devices[node])
            case ev.Heal():
                self.post.heal()
            case ev.Lost(node, connection, number):
                self._lost(self.devices[node], connection, number)
            case ev.Crossed():
                self.post.crossed(event)
            case ev.Rejoin(number):
                self.post.join(number)
            case ev.Carry():
                assert self.carrying is not None
                self.carrying.carry(event)
            case _:
                self._take_course(event)

    def _take_course(self, event: ev.Event) -> None:
        """What only long runs have."""
        match event:
            case ev.Begin(number):
                self.course.begin(number, self)
            case ev.End(number):
                self.course.end(number, self)
            case ev.Say(number):
                self.course.say(number, self)
            case ev.Retry(node):
                self.connect(self.devices[node])
            case ev.Right(node):
                self.devices[node].wall.set(self.clock.now_s, ahead_s=0.0)
                self.look_at_clock(self.devices[node])
            case ev.Sense():  # and governed ones
                self._sense(event)
            case ev.Census():
                assert self.ledger is not None
                self.ledger.look(self.clock.now_s)
                self.clock.at(self.clock.now_s + self.ledger.plan.look_every_s, ev.Census())

    def now(self, device: Device) -> Moment:
        """What a device takes for now."""
        return device.wall.moment(self.clock.moment())

    def look_at_clock(self, device: Device) -> None:
        """A device's clock was set. Its service wakes up some seconds later at most, and its core looks soon after.

        Where the scenario has it look at its owner's data less often than a device does, this look is not put off.
        """
        if device.core is not None:
            device.core.steward._look_at_s = min(
                device.core.steward._look_at_s, self.clock.now_s + CoreSettings.look_every_s
            )
            device.tick_s = min(device.tick_s, self.clock.now_s + LONGEST_NAP_S)
            device.tick_stamp += 1
            self.clock.at(device.tick_s, ev.Tick(device.index, device.tick_stamp))

    # --- devices come and go ----------------------------------------------------------------------

    def boot(self, device: Device) -> None:
        """Switch a device on, with what its disk holds."""
        if device.running:
            return
        now = self.now(device)
        core = device.boot(np.random.default_rng(int(self.rng.integers(2**63))), now.wall_ms)
        device.on_since_s = self.clock.now_s
        if self.carrying is not None:
            self.carrying.begin(device)
        self._came_or_went(device, 1)
        disk = device.disk
        core.governing.restore(disk.governor, now)
        self.do(device, core.start(list(disk.records.values()), dict(disk.consents), now, disk.oldest_first()))
        self.connect(device)
        if self.sensing is not None and self.sensing.takes(device):
            self._sense(self.sensing.booted(device))

    def _sense(self, event: ev.Sense) -> None:
        """A device reads its sensors, and does as its governor then says."""
        device = self.devices[event.node]
        assert self.sensing is not None
        if device.core is None or not self.sensing.is_of_now(event):
            return
        readings = self.sensing.look(device, self.clock.now_s)
        self.do(device, device.core.governed(readings, self.now(device)))
        self.clock.at(self.clock.now_s + self.sensing.plan.look_every_s, event)

    def switch_off(self, device: Device, *, silent: bool = False) -> None:
        """Take a device's power, without a goodbye; with `silent` the broker never tells."""
        if not device.running:
            return
        self.post.disconnect(device, silent=silent)
        device.running = False
        self._came_or_went(device, -1)
        device.on_s += self.clock.now_s - device.on_since_s
        device.tick_s = math.inf
        self._stop_training(device)
        if self.carrying is not None:
            self.carrying.end(device)
        device.core = None

    def _stop_trainer(self, device: Device, task: str) -> None:
        """A governor ends a step, which has taken time and energy so far. What a task's end stops is not answered."""
        if device.learner(task) is not None:
            device.training_s = device.training_until(self.clock.now_s)
            self._stop_training(device)

    def _stop_training(self, device: Device) -> None:
        """What is under way is thrown away."""
        if device.ticket:
            self.work.forget(device.ticket)
            device.ticket = 0

    def _came_or_went(self, device: Device, by: int) -> None:
        self.num_members += by if device.settings.role == "member" else 0
        self.changed.append(device.index)

    def connect(self, device: Device) -> None:
        """A connection to each broker within reach, then the core's presence there."""
        if not device.running or self.clock.now_s < device.offline_until_s:
            return
        assert device.core is not None
        for each in device.attachments:
            if each.online:
                continue
            if not self.post.is_within_reach(device, each):
                each.limit.not_reached()
                continue
            self.post.connect(device, each)
            self._broker_changed(device, each, "MQTT 5", is_connected=True)
            if device.is_at_several:
                device.core.brokers.measured(each.number, self.post.round_trip_s(device, each))
            self.do(device, device.core.connected(each.session, self.now(device), each.number))
            if self.carrying is not None:
                self.carrying.connected(device, each)

    def _doze(self, device: Device) -> None:
        """A device sleeps: it has had time to say so, and its brokers send no will."""
        if device.core is None or not device.core.sleep.is_asleep:
            return
        device.offline_until_s = math.inf
        self.post.disconnect(device, silent=True)
        for each in device.attachments:
            each.outbox.forget(PeerTopic(device.peer, "state").below_root())

    def _wake(self, device: Device) -> None:
        self.post.disconnect(device, silent=True)  # if it had only begun to sleep
        device.offline_until_s = self.clock.now_s
        self.connect(device)

    def _lost(self, device: Device, connection: int, number: int) -> None:
        """A device notices that one of its brokers is away, unless it has it again."""
        if device.core is not None and device.attachments[number].connection == connection:
            self._broker_changed(device, device.attachments[number], "the broker is away", is_connected=False)
            self.do(device, device.core.lost(self.now(device), number))

    def _broker_changed(self, device: Device, attachment: Attachment, why: str, *, is_connected: bool) -> None:
        if self.telling is not None:
            url = f"mqtt://{self.post.hubs[attachment.broker].plan.name}"
            self.tell(device, BrokerChanged(broker=attachment.number, url=url, is_connected=is_connected, why=why))

    # --- messages ---------------------------------------------------------------------------------

    def _hear(self, device: Device, delivery: Delivery, number: int) -> None:
        """Take what a broker brought. Anything that is wrong with it is counted, and changes nothing."""
        assert device.core is not None
        now, payload = self.now(device), delivery.payload
        try:
            if self.carrying is not None and (chunk := parse_chunk_below_root(delivery.topic)) is not None:
                self._hear_chunk(device, self.carrying, chunk, delivery, number)
                return
            topic = parse_below_root(delivery.topic)
            if device.core.gateway.is_open and self._carry(device, topic, delivery, number):
                return
            held = device.core.held(topic, number)
            if held is not None and held.envelope == payload:
                device.core.heard_again(topic, number)
                return
            device.quotas.charge(writer_of(topic), len(payload), now.monotonic_s)
            if not device.core.is_worth_reading(topic, len(payload), now):
                return
            received = opened(payload, delivery.topic, self._check, retained=delivery.retained)
            if received.message.sender == device.peer:
                device.sealer.heard(received.message)
                device.numbers.heard(received.message, delivery.topic)
            self.do(device, device.core.receive(received, now, number))
            if isinstance(received.message.body, ModelUpdate):
                self._note_update(device, received.message.sender, TAKEN)
            if self.ledger is not None:
                self.ledger.took(device, received.message, now.monotonic_s)
        except WireError as error:
            device.rejected[error.reason] += 1
            if delivery.topic.startswith("inbox/"):
                self._note_update(device, _writer_of(delivery.topic), error.reason)
            if self.telling is not None:
                self.tell(device, rejection(error, _writer_of(delivery.topic)))

    def _note_update(self, device: Device, sender: str, what: str) -> None:
        """What a device did with somebody's update."""
        index = self.population.index_of(sender)
        is_hostile = index >= 0 and self.devices[index].hostile is not None
        device.updates["hostile" if is_hostile else "honest", what] += 1

    def _hear_chunk(
        self, device: Device, carrying: Carrying, chunk: ChunkTopic, delivery: Delivery, number: int
    ) -> None:
        """A chunk is taken, or carried on by a gateway."""
        assert device.core is not None
        if chunk.receiver == device.peer:
            carrying.hear_piece(device, chunk, delivery.payload)
        elif device.core.gateway.is_open:
            ways = device.forwarding.ways_of_chunk(device.core, chunk, delivery.payload, number, self.clock.now_s)
            for way in ways:
                self._send_by(device, device.attachments[way], delivery.topic, delivery.payload, qos=1)

    def _carry(self, device: Device, topic: Topic, delivery: Delivery, number: int) -> bool:
        """What a gateway carries on. Whether it was for somebody else alone."""
        assert device.core is not None
        now_s, to_one = self.now(device).monotonic_s, isinstance(topic, InboxTopic)
        ways = device.forwarding.carried(device.core, topic, delivery.payload, number, now_s, self._check)
        for way, payload in ways:
            self._send_by(device, device.attachments[way], delivery.topic, payload, qos=int(to_one))
        return isinstance(topic, InboxTopic) and topic.receiver != device.peer

    def _send_by(
        self, device: Device, attachment: Attachment, topic: str, payload: bytes, *, qos: int, retain: bool = False
    ) -> None:
        self.post.settle(attachment)
        deadline_s = self.clock.now_s + MESSAGE_DEADLINE_S
        attachment.outbox.enqueue(topic, payload, deadline_s=deadline_s, qos=qos, retain=retain)
        self.post.drain(device, attachment)

    # --- effects ----------------------------------------------------------------------------------

    def do(self, device: Device, effects: Iterable[fx.Effect]) -> None:
        """Do what a core asked for, and wind its timer."""
        for effect in effects:
            self._perform(device, effect)
            if self.ledger is not None:
                self.ledger.did(device, effect, self.clock.now_s)
        assert device.core is not None
        due_s = device.core.deadline_s()
        if due_s != device.tick_s:
            device.tick_s = due_s
            device.tick_stamp += 1
            if due_s < math.inf:
                self.clock.at(due_s, ev.Tick(device.index, device.tick_stamp))

    def tell(self, device: Device, event: Event) -> None:
        """Something happened at a node: its log has the newest of what is no mere detail."""
        if event.level != "debug":
            device.log.append(event)
        if self.telling is not None:
            self.telling.tell(device.peer, event, self.clock.moment().wall_ms)

    def _perform(self, device: Device, effect: fx.Effect) -> None:
        assert device.core is not None
        now_s = self.clock.now_s
        match effect:
            case fx.Publish():
                self.publish(device, effect)
            case fx.Relay() | fx.Forward() | fx.SubscribeAt() | fx.UnsubscribeAt():
                self._perform_at(device, effect)
            case fx.Subscribe(filter=filter_, qos=qos):
                for each in device.attachments:
                    self.post.subscribe(device, each, filter_, qos)
            case fx.Unsubscribe(filter=filter_):
                for each in device.attachments:
                    self.post.unsubscribe(device, each, filter_)
            case fx.FallAsleep():
                self.clock.at(now_s + GOODBYE_S, ev.Doze(device.index))
            case fx.WakeUp():
                self._wake(device)
            case fx.TakeRecord(topic=carried, envelope=envelope):
                said = Delivery(device.peer, carried.below_root(), envelope, 0, True, carried.peer, 0, False)
                self._hear(device, said, 0)
            case fx.Train():
                self._train(device, effect)
            case fx.StopTrainer(task=task):
                self._stop_trainer(device, task)
            case fx.Evaluate(which=which) if which != "best":  # the samples never change here
                self._evaluate(device, effect)
            case fx.DropUnsent(task=task):
                for each in device.attachments:
                    each.outbox.drop_task(task)
                if self.carrying is not None:
                    self.carrying.drop_task(device, task)
            case fx.Fetch() | fx.GiveChunks() | fx.Refused() if self.carrying is not None:
                self.carrying.perform(device, effect)
            case fx.LoadTask(task=task, weights_digest=digest, donors=donors):
                disk = device.disk
                inherited = next((disk.models[donor] for donor in donors if donor in disk.models), None)
                loaded = device.core.loaded(task, disk.model(task), disk.blobs.get(digest), self.now(device), inherited)
                self.do(device, loaded)
            case fx.SendBlob(topic=topic_, task=task, digest=digest, receiver_session=session):
                if digest in device.disk.blobs:
                    blob = Blob(task=task, digest=digest, content=device.disk.blobs[digest])
                    self.publish(device, fx.Publish(topic=topic_, body=blob, receiver_session=session))
            case fx.SaveModel(task=task):
                if self.ledger is not None:
                    self.ledger.saves(device.disk.models.get(task), effect, now_s)
                device.disk.keep(effect, device.peer)
            case (
                fx.SaveBest()
                | fx.SaveBlob()
                | fx.SaveRecord()
                | fx.ForgetRecord()
                | fx.ForgetSequence()
                | fx.SaveConsent()
                | fx.SaveGovernor()
            ):
                device.disk.keep(effect, device.peer)
            case Event():
                self.tell(device, effect)

    def _perform_at(self, device: Device, effect: fx.Relay | fx.Forward | fx.SubscribeAt | fx.UnsubscribeAt) -> None:
        """What is for one of its brokers."""
        attachment = device.attachments[effect.broker]
        match effect:
            case fx.Relay(received=received):
                self._relay(device, received, attachment)
            case fx.Forward(topic=topic, payload=envelope, hops=hops, retain=retain):
                payload = Letter(bytes(with_hops(envelope, hops)))
                device.forwarding.said(payload)
                self._send_by(device, attachment, topic.below_root(), payload, qos=1, retain=retain)
            case fx.SubscribeAt(filter=filter_, qos=qos):
                self.post.subscribe(device, attachment, filter_, qos, carried=True)
            case fx.UnsubscribeAt(filter=filter_):
                self.post.unsubscribe(device, attachment, filter_, carried=True)

    def _relay(self, device: Device, received: Received, attachment: Attachment) -> None:
        self.post.settle(attachment)
        topic, deadline_s = received.topic.below_root(), self.clock.now_s + MESSAGE_DEADLINE_S
        attachment.outbox.answer(topic, received.envelope, deadline_s=deadline_s, retain=True)
        self.post.drain(device, attachment)

    def publish(self, device: Device, effect: fx.Publish) -> None:
        """Queue it: for one peer by one broker, for everybody by all."""
        if device.hostile is not None and isinstance(effect.body, ModelUpdate):
            said = self._said_by(device, device.hostile, effect.body)
            if said is None:
                return
            effect = replace(effect, body=said)
        to_one = effect.topic.receiver if isinstance(effect.topic, InboxTopic) else ""
        ways = (device.to(to_one),) if to_one else tuple(device.attachments)
        if effect.by is not None:
            ways = tuple(each for each in device.attachments if each.number == effect.by)
        if isinstance(effect.body, PeerState) and device.is_at_several:
            for each in ways:
                self._keep_state(device, each, effect, effect.body)
            return
        if self.carrying is not None and self.carrying.publish(device, effect, ways):
            return
        assert device.core is not None
        payload = Letter(device.sealer.seal(effect, self.now(device).wall_ms))
        topic = effect.topic.below_root()
        for each in ways:
            self.post.settle(each)
            self._queue(each, effect, topic, payload)
        if effect.retain and isinstance(effect.body, TaskPublication | Review):
            opened = open_envelope(payload, effect.topic, check=self._check)
            self.do(device, device.core.receive(opened, self.now(device)))
        for each in ways:
            self.post.drain(device, each)

    def _said_by(self, device: Device, hostile: Hostile, update: ModelUpdate) -> ModelUpdate | None:
        own = device.learner(update.task)
        assert own is not None
        learners = self.population.learners(update.task)
        honest = [learner.model.parameters for other, learner in learners if other.hostile is None]
        return hostile.says(update, own, honest, self.clock.now_s)

    def _keep_state(self, device: Device, attachment: Attachment, effect: fx.Publish, state: PeerState) -> None:
        """Whether a device is there, as it is said at one of several brokers."""
        attachment.said = max(attachment.said, state.connection)
        effect = replace(effect, body=replace(state, connection=attachment.said))
        self.post.settle(attachment)
        payload = Letter(device.sealer.seal(effect, self.now(device).wall_ms))
        attachment.outbox.keep(effect.topic.below_root(), payload)
        self.post.drain(device, attachment)

    def _queue(self, attachment: Attachment, effect: fx.Publish, topic: str, payload: Letter) -> None:
        if effect.retain:
            attachment.outbox.keep(topic, payload)
            return
        assert not isinstance(effect.body, RECORDS)
        deadline_s = self.clock.now_s + MESSAGE_DEADLINE_S
        task = getattr(effect.body, "task", "")
        if isinstance(effect.body, Blob | ReleasedModel):
            attachment.outbox.answer(topic, payload, deadline_s=deadline_s, task=task)
        else:
            attachment.outbox.enqueue(topic, payload, deadline_s=deadline_s, qos=effect.qos, task=task)

    # --- training ---------------------------------------------------------------------------------

    def _train(self, device: Device, effect: fx.Train) -> None:
        device.ticket = self.work.train(device.seat, effect)
        device.training_since_s = self.clock.now_s
        took_s = effect.num_steps * device.step_s
        if device.exponential:
            assert device.core is not None
            took_s = float(device.core.rng.exponential(took_s))
        self.clock.at(
            self.clock.now_s + took_s,
            ev.Trained(device.index, device.ticket, effect.task, effect.num_steps, took_s),
        )

    def _evaluate(self, device: Device, effect: fx.Evaluate) -> None:
        self.changed.append(device.index)
        began = self.observer.round_began if effect.which == "latest" else self.observer.shadowed
        if ticket := began(device, effect, self.now(device)):
            self.clock.at(self.clock.now_s + EVALUATION_S, ev.Evaluated(device.index, ticket, effect))

    def _trained(self, event: ev.Trained) -> None:
        device = self.devices[event.node]
        if device.ticket != event.ticket or device.core is None:
            return  # it was switched off meanwhile
        device.ticket = 0
        device.training_s += event.took_s
        result = self.work.trained(event.ticket)
        assert result is not None
        if isinstance(result, TaskError):
            done = fx.Trained(task=event.task, error=str(result), seconds=event.took_s)
        else:
            done = fx.Trained(
                task=event.task,
                parameters=result.parameters,
                buffers=result.buffers,
                num_steps=event.num_steps,
                num_samples=result.num_samples,
                dataset_size=self.work.dataset_size(device.seat),
                loss=result.loss,
                seconds=event.took_s,
            )
        effects = device.core.trained(done, self.now(device))
        self.observer.round_ended(device, event.task, self.now(device))
        self.do(device, effects)

    def _evaluated(self, event: ev.Evaluated) -> None:
        device = self.devices[event.node]
        found = self.work.evaluated(event.ticket)
        if found is None or device.core is None:
            return
        done = fx.Evaluated(
            task=event.asked.task,
            round=event.asked.round,
            loss=found.loss,
            metric=found.metric,
            num_evaluated=found.num_samples,
            of=event.asked,
        )
        self.do(device, device.core.evaluated(done, self.now(device)))


def _writer_of(topic: str) -> str:
    """Who alone may write on a topic; empty where it is none of ours."""
    try:
        return writer_of(parse_below_root(topic))
    except WireError:
        return ""
