"""The shell of a simulation: real cores, a virtual clock, and a broker in memory.

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
from collections.abc import Iterable

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.service.shell import LONGEST_NAP_S, MESSAGE_DEADLINE_S
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.broker_sessions import Delivery
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.course import Course
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.keys import no_check
from grapevine_lab.simulator.ledger import Ledger
from grapevine_lab.simulator.letters import Letter, opened
from grapevine_lab.simulator.network import Network
from grapevine_lab.simulator.observer import Observer
from grapevine_lab.simulator.post import Post
from grapevine_lab.simulator.work import Work
from grapevine_proto.codec import Received, open_envelope
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.messages import RECORDS, Blob, ReleasedModel, Review, TaskPublication
from grapevine_proto.signing import check_signature
from grapevine_proto.topics import parse_below_root, writer_of

EVALUATION_S = 1e-3  # after which an evaluation of the released model is answered


class World:
    """See the module's docstring.

    Args:
        rng: Of everything that the world draws: what each node gets is drawn when it is added.
        network: With a link for every device, in their order.
        work: Trains and evaluates.
        observer: Is told what the measurements need; it looks at the same population.
    """

    def __init__(self, *, rng: np.random.Generator, network: Network, work: Work, observer: Observer) -> None:
        self.rng = rng
        self.network = network
        self.work = work
        self.observer = observer
        self.population = observer.population
        self.devices = self.population.devices
        self.clock: VirtualClock[ev.Event] = VirtualClock()
        self.post = Post(clock=self.clock, network=network, population=self.population)
        self.num_members = 0  # that are switched on
        self.changed: list[int] = []  # nodes that began a round, came or went, since somebody looked
        self.course = Course()
        self.ledger: Ledger | None = None
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
            case ev.Arrive(node, _, delivery):
                if self.post.arrive(event):
                    self._hear(self.devices[node], delivery)
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
            case ev.Reconnect(node, connection):
                if self.devices[node].connection == connection:
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
            case ev.Heal():
                self.post.heal()
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
        self._came_or_went(device, 1)
        disk = device.disk
        self.do(device, core.start(list(disk.records.values()), dict(disk.consents), now, disk.oldest_first()))
        self.connect(device)

    def switch_off(self, device: Device, *, silent: bool = False) -> None:
        """Take a device's power, without a goodbye; with `silent` the broker never tells."""
        if not device.running:
            return
        self.post.disconnect(device, silent=silent)
        device.running = False
        self._came_or_went(device, -1)
        device.on_s += self.clock.now_s - device.on_since_s
        device.tick_s = math.inf
        if device.ticket:
            self.work.forget(device.ticket)
            device.ticket = 0
        device.core = None

    def _came_or_went(self, device: Device, by: int) -> None:
        self.num_members += by if device.settings.role == "member" else 0
        self.changed.append(device.index)

    def connect(self, device: Device) -> None:
        """A connection, then the core's presence."""
        if device.online or not device.running:
            return
        if not self.post.is_up or self.clock.now_s < device.offline_until_s:
            return
        assert device.core is not None
        self.post.connect(device)
        self.do(device, device.core.connected(device.sealer.session, self.now(device)))

    # --- messages ---------------------------------------------------------------------------------

    def _hear(self, device: Device, delivery: Delivery) -> None:
        """Take what arrived. Anything that is wrong with it is counted, and changes nothing."""
        assert device.core is not None
        now, payload = self.now(device), delivery.payload
        try:
            topic = parse_below_root(delivery.topic)
            held = device.core.records.get(topic)
            if held is not None and held.envelope == payload:
                device.core.heard_again(topic)
                return
            device.quotas.charge(writer_of(topic), len(payload), now.monotonic_s)
            if not device.core.is_worth_reading(topic, len(payload), now):
                return
            received = opened(payload, delivery.topic, self._check, retained=delivery.retained)
            if received.message.sender == device.peer:
                device.sealer.heard(received.message)
                device.numbers.heard(received.message, delivery.topic)
            self.do(device, device.core.receive(received, now))
            if self.ledger is not None:
                self.ledger.took(device, received.message, now.monotonic_s)
        except WireError as error:
            device.rejected[error.reason] += 1

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

    def _perform(self, device: Device, effect: fx.Effect) -> None:
        assert device.core is not None
        now_s = self.clock.now_s
        match effect:
            case fx.Publish():
                self._publish(device, effect)
            case fx.Relay(received=received):
                self._relay(device, received)
            case fx.Subscribe(filter=filter_, qos=qos):
                self.post.subscribe(device, filter_, qos)
            case fx.TakeRecord(topic=carried, envelope=envelope):
                self._hear(
                    device, Delivery(device.peer, carried.below_root(), envelope, 0, True, carried.peer, 0, False)
                )
            case fx.Unsubscribe(filter=filter_):
                self.post.unsubscribe(device, filter_)
            case fx.Train():
                self._train(device, effect)
            case fx.Evaluate(which="best"):
                pass  # the samples never change here
            case fx.Evaluate():
                self.changed.append(device.index)
                if ticket := self.observer.round_began(device, effect, self.now(device)):
                    answer = ev.Evaluated(device.index, ticket, effect)
                    self.clock.at(now_s + EVALUATION_S, answer)
            case fx.DropUnsent(task=task):
                device.outbox.drop_task(task)
            case fx.LoadTask(task=task, weights_digest=digest, donors=donors):
                disk = device.disk
                inherited = next((disk.models[donor] for donor in donors if donor in disk.models), None)
                loaded = device.core.loaded(task, disk.model(task), disk.blobs.get(digest), self.now(device), inherited)
                self.do(device, loaded)
            case fx.SendBlob(topic=topic_, task=task, digest=digest, receiver_session=session):
                if digest in device.disk.blobs:
                    blob = Blob(task=task, digest=digest, content=device.disk.blobs[digest])
                    self._publish(device, fx.Publish(topic=topic_, body=blob, receiver_session=session))
            case fx.SaveModel() | fx.SaveBest():
                self._save(device, effect)
            case fx.SaveBlob(digest=digest, content=content):
                device.disk.blobs[digest] = content
            case fx.SaveRecord(received=received):
                device.disk.put(received)
            case fx.ForgetRecord(received=received, remembered=remembered):
                device.disk.records.pop(received.topic.below_root(), None)
                if remembered is not None and received.message.sender != device.peer:
                    device.disk.sequences[received.topic] = remembered
            case fx.ForgetSequence(topic=forgotten):
                device.disk.sequences.pop(forgotten, None)
            case fx.SaveConsent(task=task, joined=joined):
                device.disk.consents[task] = joined
            case fx.Notify(text=text, level=level) if level != "debug":
                device.log.append(text)

    def _relay(self, device: Device, received: Received) -> None:
        self.post.settle(device)
        topic, deadline_s = received.topic.below_root(), self.clock.now_s + MESSAGE_DEADLINE_S
        device.outbox.answer(topic, received.envelope, deadline_s=deadline_s, retain=True)
        self.post.drain(device)

    def _publish(self, device: Device, effect: fx.Publish) -> None:
        assert device.core is not None
        payload = Letter(device.sealer.seal(effect, self.now(device).wall_ms))
        topic = effect.topic.below_root()
        self.post.settle(device)
        if effect.retain:
            device.outbox.keep(topic, payload)
            if isinstance(effect.body, TaskPublication | Review):
                opened = open_envelope(payload, effect.topic, check=self._check)
                self.do(device, device.core.receive(opened, self.now(device)))
        else:
            assert not isinstance(effect.body, RECORDS)
            deadline_s = self.clock.now_s + MESSAGE_DEADLINE_S
            task = getattr(effect.body, "task", "")
            if isinstance(effect.body, Blob | ReleasedModel):
                device.outbox.answer(topic, payload, deadline_s=deadline_s, task=task)
            else:
                device.outbox.enqueue(topic, payload, deadline_s=deadline_s, qos=effect.qos, task=task)
        self.post.drain(device)

    # --- training ---------------------------------------------------------------------------------

    def _train(self, device: Device, effect: fx.Train) -> None:
        device.ticket = self.work.train(device.seat, effect)
        took_s = effect.num_steps * device.step_s
        if device.exponential:
            assert device.core is not None
            took_s = float(device.core.rng.exponential(took_s))
        self.clock.at(
            self.clock.now_s + took_s,
            ev.Trained(device.index, device.ticket, effect.task, effect.num_steps, took_s),
        )

    def _trained(self, event: ev.Trained) -> None:
        device = self.devices[event.node]
        if device.ticket != event.ticket or device.core is None:
            return  # it was switched off meanwhile
        device.ticket = 0
        device.training_s += event.took_s
        result = self.work.trained(event.ticket)
        assert result is not None
        if isinstance(result, TaskError):
            done = fx.Trained(task=event.task, error=str(result))
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

    def _save(self, device: Device, effect: fx.SaveModel | fx.SaveBest) -> None:
        disk, task = device.disk, effect.task
        if isinstance(effect, fx.SaveBest):
            disk.bests[task] = fx.SavedModel(vectors=effect.vectors, counters=effect.counters, figures=effect.figures)
            return
        if self.ledger is not None:
            self.ledger.saves(disk.models.get(task), effect, self.clock.now_s)
        disk.models[task] = fx.SavedModel(vectors=effect.vectors, counters=effect.counters)

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
