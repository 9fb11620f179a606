"""The agent as a device service: the shell around the core.

    broker ─▶ transport ─▶ hearing (quota, verify, decode) ─▶ core ─▶ effects ─┬▶ sign ─▶ outbox ─▶ broker
                                                             ▲                ├▶ trainers (processes, or asked by HTTP)
                                        sensors ─▶ governor ─┘                ├▶ containers of applications
                                                                              └▶ store (disk)

One event loop; for each broker the connection, what arrives from it, and what goes out; beside them the core's timers,
the transfers, and the governor, which reads the device's sensors. Where the owner asks for it, one task more each
records sensors from their topics, speaks to Home Assistant, answers Prometheus, runs containers and looks for brokers.
Commands come over the socket beside it. Nothing large happens in the loop: calls into the core are `turns`, of which
large ones run beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.changes import Changes
from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.brokers import FROM_A_PEER
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.identity import Identity
from grapevine_agent.net.events import Arrived, Connected, Disconnected, Listening, Trying, Will
from grapevine_agent.net.outbox import Waiting
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock, loading, reloading, restoring
from grapevine_agent.service.attachment import Attachment, Attachments, MakeTransport
from grapevine_agent.service.attending import Attending
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.carrying import Carrying
from grapevine_agent.service.containers import Engine
from grapevine_agent.service.discovering import Discovering, Search
from grapevine_agent.service.double import Double
from grapevine_agent.service.figures import Figures, figures_of
from grapevine_agent.service.forwarding import Forwarding
from grapevine_agent.service.governing import Governing
from grapevine_agent.service.hearing import Hearing
from grapevine_agent.service.homeassistant.assistant import home_assistant_of
from grapevine_agent.service.inspector import Inspector
from grapevine_agent.service.meter import Meter
from grapevine_agent.service.metrics.endpoint import endpoint_of
from grapevine_agent.service.numbering import OwnNumbers
from grapevine_agent.service.publishing import Publishing
from grapevine_agent.service.pulse import Pulse, Stops
from grapevine_agent.service.recording import Recording
from grapevine_agent.service.reloading import MakeAgain
from grapevine_agent.service.saving import GOVERNOR, MODELS, Saver, readable
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sensors import SensorFiles, utc_offset_s
from grapevine_agent.service.telling import Telling
from grapevine_agent.service.tidying import Tidying
from grapevine_agent.service.trainers import Trainers
from grapevine_agent.service.turns import Turns
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.service.watching import Watching
from grapevine_agent.store.store import Store
from grapevine_agent.supervision import Supervisor
from grapevine_proto import topics
from grapevine_proto.codec import Received
from grapevine_proto.errors import BrokerError, GrapevineError, WireError
from grapevine_proto.messages import Metrics, ReleasedModel
from grapevine_proto.topics import InboxTopic, PeerTopic, Topic

logger = logging.getLogger(__name__)

GOODBYE_S = 2.0
LONGEST_NAP_S = 5.0
SHORTEST_NAP_S = 0.005
BULK_BYTES = 64_000_000  # of transfers each way, beside which one alone may be larger: a model more in memory
LEAST_PACKET_BYTES = 65_536  # of a broker that was found
LONGEST_TURN_S = 0.005  # for what arrives, before timers, commands and what goes out have theirs


class AgentService:
    """See the module's docstring.

    Args:
        settings: What the core is told.
        identity: Our key.
        store: Our state on disk; opened and closed by the caller.
        transports: Make a connection each, given the function that makes our will.
        root: Topic root.
        trainers: Runs local training; None for a service that does not train.
        max_bytes: Larger payloads are not looked at.
        recording: Records live topics; None where the owner named none.
        config: What the owner wrote, for requests that need it.
        unsaved: What the disk does not take, where it is known already.
        inspector: Looks at the owner's sources; None where nobody asks about them.
        chunk_window: Chunks of a transfer that may be under way.
        search: Where brokers are looked for; None where the owner does not ask for that.
        engine: Runs containers of applications; None where the owner allows none.
        attach: Makes a connection to one that was found; None: those that are found are tried behind the others.
        stops: Where the loop's selector notes how long the loop stands; None where it does not.
        make: What another configuration comes to, for `reload`; None: that is not asked for.
        sensors: Where this device's sensors are.
        meter: Measures what it draws; None: nothing here does.
    """

    def __init__(
        self,
        *,
        settings: CoreSettings,
        identity: Identity,
        store: Store,
        transports: Sequence[MakeTransport],
        root: str,
        trainers: Trainers | None,
        max_bytes: int,
        config: Config,
        recording: Recording | None = None,
        unsaved: Unsaved | None = None,
        inspector: Inspector | None = None,
        chunk_window: int = 4,
        search: Search | None = None,
        attach: Callable[[BrokerUrl], MakeTransport] | None = None,
        stops: Stops | None = None,
        make: MakeAgain | None = None,
        sensors: SensorFiles | None = None,
        meter: Meter | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.config = config
        self._make = make
        self.supervisor = Supervisor()  # nobody, until somebody says otherwise
        self.on_connection: Callable[[], None] = lambda: None  # when a broker took us in, or let us go
        self.root = root
        self.recording = recording
        self.engine = engine
        if engine is not None:
            engine.tell = self._component_told
        self.store = store
        self.identity = identity
        self.trainers = trainers
        self.double = Double()
        self.started_at = clock.now()
        self.telling = Telling(identity.peer_id, self.started_at.wall_ms)
        self.core = AgentCore(settings=settings, rng=np.random.default_rng())
        self.watching = Watching()
        self.unsaved = unsaved or Unsaved()
        self._numbers = OwnNumbers(store, self.unsaved)
        self._sealer = Sealer(identity, self._numbers)
        self.stops = stops or Stops()
        pulse = Pulse(self.stops)
        self._beside = Beside(pulse)
        self.turns = Turns(self._beside, self.perform)
        state_dir, files = config.agent.state_dir, sensors or SensorFiles()
        self.governor = Governing(
            core=self.core,
            turns=self.turns,
            read=lambda trouble: files.readings(state_dir, disk_trouble=trouble),
            why_unsaved=lambda: self.unsaved.reason(MODELS),
            meter=meter,
        )
        self.carrying = Carrying(
            core=self.core,
            turns=self.turns,
            outbox_to=lambda peer: self.attachments.to(peer).outbox,
            publish=self.publish,
            wake=self._wake_sending,
            root=root,
            max_packet_bytes=lambda: self.attachments.max_packet_bytes,
            folder=config.agent.state_dir / "transfers",
            window=chunk_window,
            most_bytes=BULK_BYTES,
            rejected=self._reject,
            in_background=self._in_background,
        )
        self._sealing = Sealing(
            self._sealer, self._beside, goes_apart=self.carrying.goes_apart, hold=self.carrying.hold
        )
        self._saver = Saver(store, self.unsaved, metrics_every_s=settings.save_every_s, pulse=pulse)
        self.tidying = Tidying(self.core, self.turns, store, self._saver, self.started_at)
        if trainers is not None:
            trainers.room_mb = self.core.tasks.reservations.room_mb
            trainers.look = self.turns.look
        self._inspector = inspector
        self.attachments = Attachments(
            [self._attachment(number, each) for number, each in enumerate(transports)], self.core.brokers.route
        )
        self._publishing = Publishing(
            attachments=self.attachments,
            carrying=self.carrying,
            sealer=self._sealer,
            root=root,
            take_own=self._take_own,
            no_room=self._no_room,
            not_sent=self._not_sent,
        )
        self._state_topic = topics.build(root, PeerTopic(identity.peer_id, "state"))
        self.attending = Attending(
            attachments=self.attachments,
            attach=attach,
            make=self._attachment,
            read=self._read,
            left=self._left,
            below=f"{root}/",
            state=self._state_topic,
        )
        use, met = self.attending.use_found, self.attending.met
        self.discovering = Discovering(search, use=use, met=met) if search is not None else None
        self.hearing = Hearing(
            core=self.core,
            turns=self.turns,
            beside=self._beside,
            sealer=self._sealer,
            numbers=self._numbers,
            double=self.double,
            max_bytes=max_bytes,
            hear_piece=self.carrying.hear_piece,
            tell=self.tell,
            has_several=len(transports) > 1,
        )
        self.forwarding = Forwarding(
            gateway=self.core.gateway,
            attachments=self.attachments,
            beside=self._beside,
            root=root,
            peer=identity.peer_id,
            max_bytes=max_bytes,
            bytes_per_s=settings.upload_bytes_per_s,
            is_member=self.core.members.is_member,
            rejected=self._reject,
            may_carry=lambda num_bytes: self.core.governing.governor.may_give(num_bytes, clock.now(), is_member=False),
        )
        self.home_assistant, self.endpoint = home_assistant_of(self), endpoint_of(self)
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()  # set at the first connection

    def _attachment(self, number: int, transport: MakeTransport) -> Attachment:
        return Attachment(
            number,
            transport=transport,
            will=self._make_will,
            double=self.double,
            sealing=self._sealing,
            get_blob=self._saver.get_blob,
            chunk=self.carrying.payload_of,
            goes_apart=self.carrying.goes_apart,
            root=self.root,
            peer=self.identity.peer_id,
            found=self._found,
            dropped=self._dropped,
            sent=self.governor.sent,
        )

    @property
    def rejected(self) -> Counter[str]:
        """What was dropped, by the reason."""
        return self.telling.rejected

    def figures(self) -> Figures:
        """What is shown of this device, by whomever. Call it from `Turns.look`."""
        return figures_of(self, clock.now())

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop` is called, then leave in good order."""
        try:
            await self._serve()
        finally:
            if self.engine is not None:  # last: one that hangs keeps nothing from being saved
                await self.engine.end()

    async def _serve(self) -> None:
        if self._inspector is not None:
            self._inspector.tell(asyncio.get_running_loop(), self._data_judged)
        self._restore()
        async with asyncio.TaskGroup() as group:
            self.attending.begin(group)
            tasks = [
                group.create_task(self._keep_time(), name="timers"),
                group.create_task(self.carrying.run(), name="transfers"),
                group.create_task(self.governor.run(), name="governor"),
            ]
            if self.recording is not None:
                tasks.append(group.create_task(self.recording.run(self.attachments), name="recording"))
            if self.home_assistant is not None:
                tasks.append(group.create_task(self.home_assistant.run(self.attachments), name="home assistant"))
            if self.endpoint is not None:
                tasks.append(group.create_task(self.endpoint.run(), name="metrics"))
            if self.engine is not None:
                tasks.append(group.create_task(self._logged(self.engine.run()), name="containers"))
            if self.discovering is not None:
                tasks.append(group.create_task(self._logged(self.discovering.run()), name="discovery"))
            await self._stop.wait()
            self.attending.no_more()
            await self._leave()
            self.attending.end()
            for task in tasks:
                task.cancel()
        if self.trainers is not None:
            await self.trainers.stop_all()
        for each in self._background:
            each.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)  # a turn is over before its effects are saved
        await self._beside.close()
        if self.recording is not None:
            await self.recording.finish()
        await self._saver.finish()
        self._numbers.retry()

    async def reload(self) -> Changes:
        """Read the configuration again. Raises `ConfigError`, with nothing changed."""
        assert self._make is not None
        self.supervisor.reloading()
        try:
            return await reloading.reload(self, self._make)
        finally:
            self.supervisor.ready_again()

    async def why_not_saved(self, kind: str) -> str:
        """Why something of this kind (see `saving`) is not on disk; empty if it is."""
        return await self._saver.why_not_saved(kind)

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def _restore(self) -> None:
        now, store, peer = clock.now(), self.store, self.identity.peer_id

        def keep(topic: Topic, envelope: bytes, until_ms: int) -> None:
            self.attachments.keep(topics.build(self.root, topic), envelope, until_ms=until_ms)

        kept = readable(lambda: store.setting(GOVERNOR), lambda: None)
        self.core.governing.restore(kept, now, utc_offset_s=utc_offset_s())
        stored = restoring.records(store, peer, now.wall_ms, keep)
        sequences = restoring.sequences_of_others(store, peer)
        self.perform(self.core.start(stored, restoring.consents(store), now, sequences))

    async def _leave(self) -> None:
        """Say goodbye, if there is anybody to say it to, and disconnect without our will being sent."""
        last_words: list[fx.Publish] = []

        def say(effects: Iterable[fx.Effect]) -> None:
            for effect in effects:
                if isinstance(effect, fx.Publish):
                    last_words.append(effect)
                else:
                    self._perform(effect)

        def goodbye(attachment: Attachment) -> list[tuple[str, bytes]]:
            return [
                (topics.build(self.root, each.topic), self._publishing.sealed(each, attachment)) for each in last_words
            ]

        if self.home_assistant is not None:
            await self.home_assistant.goodbye(self.attachments, GOODBYE_S / 2)
        await self.turns.take(self.core.goodbye, num_bytes=self.core.tasks.largest_model_bytes, perform=say)
        await self.attachments.leave(goodbye, GOODBYE_S)

    def _make_will(self, attachment: Attachment) -> Will:
        wall_ms = clock.now().wall_ms
        if not self.attachments.has_session(self._sealer.session, beside=attachment):
            self.double.began(self._sealer.begin_session(wall_ms))
        attachment.session, attachment.connection = self._sealer.session, self._sealer.begin_connection()
        topic, payload = self._sealer.seal_will(wall_ms, attachment.connection)
        return Will(topic=topics.build(self.root, topic), payload=payload, qos=1, retain=True)

    # --- incoming ---------------------------------------------------------------------------------

    async def _read(self, attachment: Attachment) -> None:
        began_s, number = time.monotonic(), attachment.number
        async for event in attachment.transport.events():
            if time.monotonic() - began_s > LONGEST_TURN_S:  # a broker sends all that it retains in one go
                await asyncio.sleep(0)
                began_s = time.monotonic()
            match event:
                case Arrived(topic=topic, payload=payload, retained=retained):
                    if retained:
                        attachment.finding_out.arrived(topic)
                    if self.home_assistant is not None and self.home_assistant.takes(topic):
                        if not attachment.is_found:  # anybody can announce a broker
                            await self.home_assistant.hear(number, topic, payload, retained=retained)
                    elif self.recording is not None and self.recording.takes(topic):
                        if attachment.is_found:
                            continue  # sensors are the owner's, at the owner's brokers
                        self.recording.hear(topic, payload, retained=retained)
                    elif not await self.forwarding.hear(topic, payload, number):
                        await self.hearing.hear(self.root, topic, payload, retained=retained, broker=number)
                case Connected():
                    self._broker_changed(number, event.url, f"MQTT {event.version}", is_connected=True)
                    find_out = attachment.connected(event)
                    if self.recording is not None and not event.url.is_found:
                        self.recording.subscribed(event.refused)
                    if self.home_assistant is not None and not event.url.is_found:
                        self.home_assistant.connected(number, event.refused)
                    self.carrying.connected()
                    await self.turns.take(partial(self._connected, attachment.session, number, event.url.address))
                    self.ready.set()
                    self._in_background(find_out)
                    self.on_connection()
                case Disconnected():
                    self._broker_changed(number, event.url, "" if self._is_leaving else event.reason)
                    attachment.told(event, is_leaving=self._is_leaving)
                    if self.home_assistant is not None:
                        self.home_assistant.lost(number)
                    await self.turns.take(lambda: self.core.lost(clock.now(), number))
                    self.on_connection()
                case Listening() | Trying():
                    attachment.told(event, is_leaving=self._is_leaving)

    def _broker_changed(self, number: int, url: BrokerUrl, why: str, *, is_connected: bool = False) -> None:
        self.tell(ev.BrokerChanged(broker=number, url=str(url), is_connected=is_connected, why=why))

    @property
    def _is_leaving(self) -> bool:
        return self._stop.is_set() or self.attachments.is_resting

    async def _left(self, number: int) -> None:
        def left() -> list[fx.Effect]:
            effects = self.core.lost(clock.now(), number)
            self.core.brokers.forget(number)
            return effects

        await self.turns.take(left)

    def _found(self, number: int, gives: BrokerAbilities) -> None:
        if (attachment := self.attachments.get(number)) is None:
            return
        attachment.reception.found(gives)
        if attachment.is_found:  # anybody can announce one: it sets no limit to the others
            gives = replace(gives, max_packet_bytes=max(gives.max_packet_bytes, LEAST_PACKET_BYTES))
        self._in_background(self.turns.take(lambda: self.core.found(gives, clock.now(), number)))

    def _connected(self, session: int, number: int, url: str) -> list[fx.Effect]:
        return self.core.connected(session, clock.now(), number, url)

    def publish(self, effect: fx.Publish) -> None:
        """Sign and queue one message or record; what is large is signed when its turn comes."""
        self._publishing.publish(effect)

    def _take_own(self, received: Received) -> None:
        self.perform(self.core.receive(received, clock.now()))

    def _no_room(self) -> None:
        self.tell(ev.Rejected(sender=self.identity.peer_id, reason="no-room", detail="too much waits to be sent"))

    def _dropped(self, waiting: Waiting) -> None:
        """A message was not sent in time. It may be none of ours: what is shown to other programs has other topics."""
        if waiting.task:
            self._not_sent(waiting.task, topics.parse(self.root, waiting.topic))

    def _not_sent(self, task: str, topic: Topic) -> None:
        if task and isinstance(topic, InboxTopic):
            self.core.not_sent(task, topic.receiver)

    # --- time -------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            await self.turns.take(lambda: self.core.tick(clock.now()), num_bytes=self.core.tasks.largest_model_bytes)
            for task in self.watching.forgotten(clock.now().monotonic_s):
                await self.turns.take(partial(self.core.unwatch, task))
            self._saver.retry()
            self._numbers.retry()
            self.telling.settle(clock.now())
            for each in self.attachments:
                self.core.brokers.measured(each.number, each.sending.delay_s)
            if self.tidying.is_due(clock.now()):
                self._in_background(self.tidying.make_room(clock.now()))
            # Only what happens from here on can bring the deadline forward.
            self._wake.clear()
            deadline_s = await self.turns.look(self.core.deadline_s)
            wait_s = min(LONGEST_NAP_S, max(SHORTEST_NAP_S, deadline_s - clock.now().monotonic_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, effects: Iterable[fx.Effect]) -> None:
        """Do what the core asked for, in order, and let the timers look again."""
        for effect in effects:
            self._perform(effect)
        self._wake.set()

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Publish():
                self.publish(effect)
            case fx.Relay(broker=number) | fx.SubscribeAt(broker=number) | fx.UnsubscribeAt(broker=number):
                if (attachment := self.attachments.get(number)) is not None:
                    self._perform_at(effect, attachment)
            case fx.Forward():
                self.forwarding.say_again(effect)
            case fx.TakeRecord(topic=topic, envelope=envelope):
                name = topics.build(self.root, topic)
                self._in_background(self.hearing.hear(self.root, name, envelope, retained=True, broker=FROM_A_PEER))
            case fx.Subscribe(filter=below, records=True):
                self.attachments.subscribe_in_turn(f"{self.root}/{below}")
            case fx.Subscribe() | fx.Unsubscribe():
                self._in_background(self._subscribe(effect))
            case fx.FallAsleep():
                self._in_background(self.attachments.rest(self._state_topic, GOODBYE_S))
            case fx.WakeUp():
                self._in_background(self.attachments.resume())
            case fx.Train() | fx.Evaluate() | fx.StartTrainer() | fx.StopTrainer():
                if self.trainers is not None:
                    self.trainers.take(effect, self._training_done)
            case fx.RunContainer() | fx.EndContainer() if self.engine is not None:
                self.engine.take(effect)
            case fx.DropUnsent(task=task):
                self.attachments.drop_task(task)
                self.carrying.drop_task(task)
            case fx.Fetch(received=received):
                self.carrying.fetch(received)
            case fx.GiveChunks():
                self.carrying.give(effect)
            case fx.Refused():
                self.carrying.hear_refusal(effect)
            case fx.LoadTask():
                self._in_background(loading.load(effect, self._saver, self.core, self.turns))
            case fx.Delivered():
                self._deliver(effect)
            case fx.SendBlob(topic=topic):
                if not self._publishing.answer(effect, topic.receiver):
                    self.core.blobs.not_given(effect)
            case ev.Event():
                self.tell(effect)
            case fx.SaveMetrics(metrics=metrics):
                self.watching.hear(self.identity.peer_id, metrics, clock.now().wall_ms)  # our own are not sent to us
                self._saver.save(effect)
            case _:
                self._saver.save(effect)

    async def _subscribe(self, effect: fx.Subscribe | fx.Unsubscribe) -> None:
        """A broker that refuses a shared one is as one without them, until the next connection."""
        share, below = effect.share, effect.filter
        name = topics.shared(self.root, share, below) if share else f"{self.root}/{below}"
        try:
            if isinstance(effect, fx.Subscribe):
                await self.attachments.subscribe((name, effect.qos))
            else:
                await self.attachments.unsubscribe(name)
        except BrokerError:
            for attachment in self.attachments if share else ():
                attachment.finding_out.shares_nothing()
            raise

    def _perform_at(self, effect: fx.Relay | fx.SubscribeAt | fx.UnsubscribeAt, attachment: Attachment) -> None:
        """What is of one broker."""
        match effect:
            case fx.Relay(received=received):
                if not self._publishing.relay(received, attachment):
                    self.core.brokers.erased(attachment.number, received.topic, clock.now().monotonic_s)
            case fx.SubscribeAt(filter=below, qos=qos):
                self._in_background(attachment.subscribe((f"{self.root}/{below}", qos), carried=True))
            case fx.UnsubscribeAt(filter=below):
                self._in_background(attachment.unsubscribe(f"{self.root}/{below}", carried=True))

    def _wake_sending(self) -> None:
        self.attachments.wake()

    def tell(self, event: ev.Event) -> None:
        """Something happened."""
        self.telling.tell(event, clock.now())

    def _reject(self, error: WireError, sender: str) -> None:
        self.hearing.reject(error, sender)

    def _deliver(self, delivered: fx.Delivered) -> None:
        match delivered.body:
            case Metrics() as metrics:
                self.watching.hear(delivered.sender, metrics, clock.now().wall_ms)
            case ReleasedModel() as released:
                self.watching.arrived(delivered.sender, released)

    def _component_told(self, key: str, is_running: bool, why: str) -> None:
        def told() -> list[fx.Effect]:
            return self.core.component_told(key, is_running=is_running, why=why, now=clock.now())

        if not self._stop.is_set():
            self._in_background(self.turns.take(told))

    def _data_judged(self) -> None:
        if not self._stop.is_set():
            largest = self.core.tasks.largest_model_bytes  # whose task it may end
            self._in_background(self.turns.take(lambda: self.core.data_judged(clock.now()), num_bytes=largest))

    def _training_done(self, done: fx.Trained | fx.Evaluated) -> None:
        """Whoever trained goes on; the core hears of it when it has its turn."""
        if isinstance(done, fx.Trained):
            largest = self.core.tasks.largest_model_bytes  # one that failed may end its task, or others are over
            self._in_background(self.turns.take(lambda: self.core.trained(done, clock.now()), num_bytes=largest))
        else:
            self._in_background(self.turns.take(lambda: self.core.evaluated(done, clock.now())))

    async def _logged(self, work: Coroutine[None, None, None]) -> None:
        """What fails here fails for one message or one task; the service goes on."""
        try:
            await work
        except GrapevineError as error:
            logger.log(logging.DEBUG if self._stop.is_set() else logging.WARNING, "%s", error)
        except Exception:
            logger.exception("something failed; the service goes on")

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
