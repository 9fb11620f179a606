"""Blobs and released models on their way out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.clock import now
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sending import Sending
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, parse

TASK, ONE, TWO = "7" * 64, "1" * 64, "2" * 64
MOST = 1_000_000  # bytes of a packet


class Holder:
    """Our key."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()

    @property
    def peer_id(self) -> str:
        return self.key.peer_id


class Counting:
    """Numbers for the sealer."""

    def next_session(self, now_ms: int) -> int:
        return now_ms

    def next_sequence(self, topic: str, now_ms: int) -> int:
        return now_ms


class Shelf:
    """Blobs that count how often they are read."""

    def __init__(self, *digests: str) -> None:
        self.blobs = {digest: digest.encode() * 20 for digest in digests}
        self.num_reads = 0

    async def get(self, digest: str) -> bytes | None:
        self.num_reads += 1
        return self.blobs.get(digest)


def answers_of(shelf: Shelf, **given: Any) -> tuple[Answers, Outbox, str]:
    outbox, holder = Outbox(), Holder()
    sealer = Sealer(holder, Counting())
    sealer.begin_session(1)
    sealing = Sealing(sealer, Beside())
    made = {"get_blob": shelf.get, "root": "g/v1", **given}
    return Answers(outbox=outbox, sealing=sealing, **made), outbox, holder.peer_id


def send_blob(us: str, asker: int, digest: str = ONE) -> fx.SendBlob:
    topic = InboxTopic(f"a{asker:019d}", us)
    return fx.SendBlob(topic=topic, task=TASK, digest=digest, num_bytes=1_000, receiver_session=5)


async def sent(answers: Answers, outbox: Outbox) -> list[tuple[Waiting, bytes | None]]:
    found: list[tuple[Waiting, bytes | None]] = []
    while (waiting := outbox.take(now().monotonic_s)) is not None:
        payload = await answers.payload_of(waiting) if waiting.order is not None else waiting.payload
        found.append((waiting, None if payload is None else bytes(payload)))
        outbox.sent(waiting)
        answers.sent()
    return found


async def test_all_who_wait_for_the_same_blob_are_served_from_one_read() -> None:
    shelf = Shelf(ONE)
    answers, outbox, us = answers_of(shelf)
    for asker in range(100):
        answers.queue(send_blob(us, asker))
    assert shelf.num_reads == 0  # nothing is in memory before its turn
    found = await sent(answers, outbox)
    assert shelf.num_reads == 1
    for waiting, payload in found:
        assert payload is not None
        message = open_envelope(payload, parse("g/v1", waiting.topic)).message
        assert message.body == m.Blob(task=TASK, digest=ONE, content=shelf.blobs[ONE])
        assert message.receiver_session == 5
    assert len(found) == 100


async def test_a_blob_that_nobody_waits_for_any_more_is_let_go() -> None:
    shelf = Shelf(ONE, TWO)
    answers, outbox, us = answers_of(shelf)
    for digest in (ONE, ONE, TWO):
        answers.queue(send_blob(us, shelf.num_reads, digest))
        await sent(answers, outbox)
    assert shelf.num_reads == 3
    assert answers._content is None


async def test_a_blob_that_is_not_there_is_not_sent() -> None:
    answers, outbox, us = answers_of(Shelf())
    answers.queue(send_blob(us, 0))
    assert [payload for _, payload in await sent(answers, outbox)] == [None]


class Line:
    """A connection that takes everything at once. `said`: the topics."""

    connected_to = "a broker"

    def __init__(self) -> None:
        self.said: list[str] = []

    async def publish(self, topic: str, _payload: object, **_how: object) -> None:
        self.said.append(topic)


async def test_a_blob_that_is_never_read_is_given_up_and_what_is_behind_it_goes() -> None:
    shelf, line, ends = Shelf(ONE, TWO), Line(), asyncio.Event()

    async def get(digest: str) -> bytes | None:
        if digest == ONE:
            shelf.num_reads += 1
            await ends.wait()
        return await shelf.get(digest)

    answers, outbox, us = answers_of(shelf, get_blob=get, read_within_s=0.05)
    sending = Sending(outbox=outbox, transport=line, answers=answers, sealing=answers._sealing)  # type: ignore[arg-type]
    running = asyncio.create_task(sending.run())
    answers.queue(send_blob(us, 0))
    answers.queue(send_blob(us, 1))
    answers.queue(fx.Publish(topic=InboxTopic("b" * 20, us), body=m.ReleasedModel(task=TASK), receiver_session=3))
    sending.connected(20)
    async with asyncio.timeout(10):
        while len(outbox):
            await asyncio.sleep(0.01)
    assert [topic.split("/")[3] for topic in line.said] == ["b" * 20]
    assert shelf.num_reads == 1  # one thread waits for the disk, and no other
    ends.set()
    await asyncio.sleep(0.01)
    answers.queue(send_blob(us, 2, TWO))
    sending.wake()
    async with asyncio.timeout(10):
        while len(outbox):
            await asyncio.sleep(0.01)
    assert len(line.said) == 2
    running.cancel()


async def test_a_released_model_waits_behind_updates_and_is_signed_when_it_goes() -> None:
    answers, outbox, us = answers_of(Shelf())
    model = m.ReleasedModel(task=TASK, full=np.ones(4, np.float32))
    answers.queue(fx.Publish(topic=InboxTopic("a" * 20, us), body=model, receiver_session=3))
    outbox.enqueue("update", b"update", deadline_s=now().monotonic_s + 10)
    (first, _), (second, payload) = await sent(answers, outbox)
    assert first.topic == "update"
    assert second.payload == b""
    assert payload is not None
    body = open_envelope(payload, parse("g/v1", second.topic)).message.body
    assert isinstance(body, m.ReleasedModel)
    assert m.plain(body.full).tolist() == [1.0] * 4


async def test_what_travels_apart_takes_no_room_in_the_outbox() -> None:
    answers, outbox, us = answers_of(Shelf(ONE), goes_apart=lambda num_bytes, _: num_bytes > MOST)
    for number in range(20):
        assert answers.queue(replace(send_blob(us, number), num_bytes=100 * MOST))
    assert outbox.num_waiting == 20
