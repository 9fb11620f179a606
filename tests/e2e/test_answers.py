"""Strangers who ask for large answers, on a real broker."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.conftest import Client, Connect, SharedBroker
from tests.e2e.household import Village, household, village, wait_for
from tests.swarm.digits import built_digits

from grapevine_agent.core.overlay.answers import BLOBS
from grapevine_agent.net.events import Arrived
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic, Topic

pytestmark = [pytest.mark.timeout(240), pytest.mark.mosquitto]

NUM_REQUESTS = 100


@dataclass
class Stranger:
    """A key with a connection of its own."""

    client: Client
    root: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    num_bytes_sent: int = 0
    _sequence: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def say(self, topic: Topic, body: m.Body, *, retain: bool = False, receiver_session: int = 0) -> None:
        message = m.Message(
            sender=self.key.peer_id,
            session=1,
            sequence=next(self._sequence),
            body=body,
            created_at_ms=int(time.time() * 1000),
            receiver_session=receiver_session,
        )
        payload = seal(message, topic, self.key)
        self.num_bytes_sent += len(payload)
        await self.client.transport.publish(topics.build(self.root, topic), payload, retain=retain)

    async def blobs_within(self, seconds: float) -> list[bytes]:
        """The payloads that come into its inbox."""
        payloads: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    arrived = await self.client.next(Arrived)
                    topic = topics.parse(self.root, arrived.topic)
                    if isinstance(topic, InboxTopic):
                        assert isinstance(open_envelope(arrived.payload, topic).message.body, m.Blob)
                        payloads.append(bytes(arrived.payload))
        except TimeoutError:
            return payloads


async def stranger_to(town: Village, connect: Connect) -> tuple[Stranger, int, str]:
    """A stranger, the first learner's session, and the digest of the task's weights."""
    home, learner = town.home, town.learners[0]
    key = SigningKey.generate()
    state = PeerTopic(learner.peer, "state")
    names = (
        f"{home.root}/inbox/{key.peer_id}/+",
        topics.build(home.root, state),
        f"{home.root}/{topics.every_task('manifest')}",
    )
    client = await connect(home.url, subscribe=names)
    session, digest = 0, ""
    while not session or not digest:
        arrived = await client.next(Arrived)
        topic = topics.parse(home.root, arrived.topic)
        match open_envelope(arrived.payload, topic).message:
            case m.Message(body=m.PeerState(), session=heard):
                session = heard
            case m.Message(body=m.TaskPublication(manifest=manifest)):
                digest = decode_manifest(manifest).initial_weights.digest
    return Stranger(client, home.root, key), session, digest


async def test_a_stranger_that_asks_a_hundred_times_gets_the_quota_and_updates_pass(
    broker: SharedBroker, tmp_path: Path, connect: Connect
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = await asyncio.to_thread(village, home)
        await asyncio.to_thread(town.join)
        giver, other = town.learners
        stranger, session, digest = await stranger_to(town, connect)
        await stranger.say(PeerTopic(stranger.key.peer_id, "announcement"), m.PeerAnnouncement(), retain=True)
        merges = other.task(town.task)["merges"]

        stranger.num_bytes_sent = 0
        request = m.BlobRequest(task=town.task, digest=digest)
        started_s = time.monotonic()
        for _ in range(NUM_REQUESTS):
            await stranger.say(InboxTopic(giver.peer, stranger.key.peer_id), request, receiver_session=session)
        payloads = await stranger.blobs_within(5.0)
        waited_s = time.monotonic() - started_s

        num_bytes = sum(map(len, payloads))
        assert 1 <= len(payloads) <= BLOBS.burst + waited_s / BLOBS.every_s
        assert all(len(payload) > len(built_digits().weights) for payload in payloads)
        assert num_bytes < 2 * stranger.num_bytes_sent
        refused = giver.status()["rejected"]["over-quota"]  # type: ignore[index]
        assert refused >= NUM_REQUESTS - BLOBS.burst - waited_s / BLOBS.every_s
        wait_for(lambda: other.task(town.task)["merges"] > merges, why="updates pass in between")
