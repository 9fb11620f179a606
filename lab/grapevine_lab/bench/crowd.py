"""Peers that are known: real keys, signed records, heartbeats, and an answer to what is said to them.

They share one connection, so that 200 of them cost the machine little. They do not train: to a
member's update they answer with an update of the same size, and to a request for weights with the
weights.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.codec import Received, open_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic
from grapevine_tasks.built import BuiltTask, finish_manifest

NUM_REVIEWERS = 2
PUBLISH_AT_ONCE = 16
HOUR_MS = 3_600_000


@dataclass(kw_only=True)
class Crowd:
    """See the module's docstring. The first peer publishes `built`, the next two approve it, all are members."""

    transport: Transport
    root: str
    built: BuiltTask
    heartbeat_s: float
    keys: Sequence[SigningKey]
    num_updates: int = 0  # that were said to them
    sessions: dict[str, int] = field(default_factory=dict)  # of whoever has said something to them
    on_receipt: Callable[[str, str], None] = lambda _receiver, _sender: None  # an update of a peer is taken
    _session: int = field(default_factory=lambda: clock.now().wall_ms)
    _sequence: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._by_id = {key.peer_id: key for key in self.keys}
        now_ms = clock.now().wall_ms
        manifest = finish_manifest(self.built.draft, publisher=self.keys[0].peer_id, now_ms=now_ms)
        self._manifest = encode_manifest(manifest)
        self.task = task_id(self._manifest)

    @property
    def reviewers(self) -> list[str]:
        """Who approves the task."""
        return [key.peer_id for key in self.keys[1 : 1 + NUM_REVIEWERS]]

    async def announce(self) -> None:
        """Publish all records, and return when the broker has them."""
        room = asyncio.Semaphore(PUBLISH_AT_ONCE)

        async def record(key: SigningKey, topic: Topic, body: m.Body) -> None:
            async with room:
                await self.say(key, topic, body, retain=True)

        task, publisher = self.task, self.keys[0]
        announcement = m.PeerAnnouncement(name="a peer of the benchmark", profile="generic", cores=4, tasks=(task,))
        verdict = m.Review(task=task, approved=True, valid_until_ms=clock.now().wall_ms + HOUR_MS)
        async with asyncio.TaskGroup() as group:
            for key in self.keys:
                group.create_task(record(key, PeerTopic(key.peer_id, "announcement"), announcement))
                group.create_task(record(key, PeerTopic(key.peer_id, "state"), m.PeerState(online=True)))
            publication = m.TaskPublication(manifest=self._manifest)
            group.create_task(record(publisher, TaskTopic(publisher.peer_id, task, "manifest"), publication))
            for key in self.keys[1 : 1 + NUM_REVIEWERS]:
                group.create_task(record(key, TaskTopic(key.peer_id, task, "review"), verdict))

    async def beat(self) -> None:
        """Send everybody's heartbeats, evenly spread over the interval, for ever."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        for key in itertools.cycle(self.keys):
            progress = (m.TaskProgress(task=self.task, version=1, age=1),)
            await self.say(key, PeerTopic(key.peer_id, "heartbeat"), m.Heartbeat(progress=progress), qos=0)
            due_s += self.heartbeat_s / len(self.keys)
            await asyncio.sleep(due_s - loop.time())

    async def answer(self) -> None:
        """Answer what is said to the peers, for ever."""
        async for event in self.transport.events():
            if isinstance(event, Arrived) and (received := self._to_us(event)) is not None:
                await self._answer(received)

    def _to_us(self, event: Arrived) -> Received | None:
        try:
            topic = topics.parse(self.root, event.topic)
            is_ours = isinstance(topic, InboxTopic) and topic.receiver in self._by_id
            return open_envelope(event.payload, topic) if is_ours else None
        except WireError:
            return None

    async def _answer(self, received: Received) -> None:
        sender, topic = received.message.sender, received.topic
        assert isinstance(topic, InboxTopic)
        back, session = InboxTopic(sender, topic.receiver), received.message.session
        key = self._by_id[topic.receiver]
        self.sessions[sender] = session
        match received.message.body:
            case m.BlobRequest(task=task, digest=digest):
                blob = m.Blob(task=task, digest=digest, content=self.built.weights)
                await self.say(key, back, blob, receiver_session=session)
            case m.ModelUpdate() as update:
                self.num_updates += 1
                await self.say(key, back, update, receiver_session=session)
            case m.UpdateReceipt():
                self.on_receipt(topic.receiver, sender)

    async def say(
        self,
        key: SigningKey,
        topic: Topic,
        body: m.Body,
        *,
        qos: int = 1,
        retain: bool = False,
        receiver_session: int = 0,
    ) -> None:
        """Publish what one of them says."""
        message = m.Message(
            sender=key.peer_id,
            session=self._session,
            sequence=next(self._sequence),
            body=body,
            created_at_ms=clock.now().wall_ms,
            receiver_session=receiver_session,
        )
        name = topics.build(self.root, topic)
        await self.transport.publish(name, seal(message, topic, key), qos=qos, retain=retain)


@asynccontextmanager
async def crowd_on(
    url: str, root: str, built: BuiltTask, *, num_peers: int, heartbeat_s: float, is_there: bool = True
) -> AsyncIterator[Crowd]:
    """A crowd that is connected, announced, and alive until the end of the `with`; or, not `is_there`, says nothing."""
    transport = Transport([BrokerUrl.parse(url)], client_id="grapevine-bench-crowd")
    await transport.subscribe((f"{root}/inbox/+/+", 1))
    keys = [SigningKey.generate() for _ in range(num_peers)]
    crowd = Crowd(transport=transport, root=root, built=built, heartbeat_s=heartbeat_s, keys=keys)
    running = asyncio.create_task(transport.run())
    try:
        async for event in transport.events():
            if isinstance(event, Connected):
                break
        if is_there:
            await crowd.announce()
        life = [asyncio.create_task(work) for work in ((crowd.beat(), crowd.answer()) if is_there else ())]
        try:
            yield crowd
            for task in life:
                if task.done():
                    task.result()  # it should have gone on: what was measured was no crowd
        finally:
            for task in life:
                task.cancel()
            await asyncio.gather(*life, return_exceptions=True)
    finally:
        await transport.disconnect()
        await running
