"""A service with a large model: what is large goes on beside the loop, and the rest meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks import model_requests
from grapevine_agent.net.events import Arrived
from grapevine_agent.net.transport import Transport
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service import clock
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.reloading import Made
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.store import Store
from grapevine_agent.training.trainer import TrainerLimits
from grapevine_broker import start_broker
from grapevine_lab.bench.loop_member import KEYS, ROOT, member
from grapevine_lab.simulator.keys import Holder, Numbering
from grapevine_proto import messages as m
from grapevine_proto.bulk import Bulk
from grapevine_proto.codec import Received, open_envelope, seal
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.encodings import encode
from grapevine_proto.messages import Encoded, Message, Written
from grapevine_proto.parts import LARGE, Parts
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, build

DEADLINE_S = 60.0
NUM_PARAMETERS = 90_000
PEER = KEYS[1]


@asynccontextmanager
async def learning(folder: Path, strategy: str = "age-weighted") -> AsyncIterator[AgentService]:
    """A service on a broker of its own that has begun to learn a model of 360 kB."""
    with start_broker("embedded") as broker:
        async with asyncio.timeout(DEADLINE_S), member(0, folder, broker.url, NUM_PARAMETERS, strategy) as service:
            while not service.core.tasks.learning:
                await asyncio.sleep(0.01)
            yield service


def update(
    service: AgentService, sequence: int = 1, encoded: Encoded | None = None, **fields: Any
) -> tuple[str, bytes]:
    """What a member says of its model: topic and payload."""
    ((task, learner),) = service.core.tasks.learning.items()
    full: Written = learner.model.parameters + np.float32(0.01) if encoded is None else encoded
    body = m.ModelUpdate(task=task, window=1, version=sequence, age=20, experience=60, samples=60, full=full)
    return sealed(service, body, sequence, **fields)


def sealed(service: AgentService, body: m.Body, sequence: int = 1, **fields: Any) -> tuple[str, bytes]:
    """What a member says: topic and payload."""
    message = Message(
        sender=PEER.peer_id,
        session=7,
        sequence=sequence,
        body=body,
        created_at_ms=1,
        receiver_session=service._sealer.session,
        **fields,
    )
    topic = InboxTopic(service.identity.peer_id, PEER.peer_id)
    return build(ROOT, topic), seal(message, topic, PEER)


class Gate:
    """A merge that waits to be let on."""

    def __init__(self, service: AgentService) -> None:
        self.began, self.opens = threading.Event(), threading.Event()
        self.thread = 0
        (merging,) = (learner.merging for learner in service.core.tasks.learning.values())
        merge = merging.strategy.merge

        def gated(**given: Any) -> Any:
            self.thread = threading.get_ident()
            self.began.set()
            assert self.opens.wait(DEADLINE_S)
            return merge(**given)

        merging.strategy = replace(merging.strategy, merge=gated)

    async def until_it_began(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0.001)


def merges(service: AgentService) -> int:
    return sum(learner.merging.num_merged for learner in service.core.tasks.learning.values())


async def test_the_owner_is_answered_and_messages_leave_while_a_large_update_is_merged(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        gate = Gate(service)
        hearing = asyncio.create_task(service.hearing.hear(ROOT, *update(service), retained=False))
        await gate.until_it_began()
        assert gate.thread != threading.get_ident()
        requests = Requests(service)
        status = await requests.answer({"method": "status"})
        assert status["longest_stop_ms"] >= 0
        assert (status["tasks"][0]["merges"], merges(service)) == (0, 0)
        (task,) = (line["id"] for line in status["tasks"])
        assert (await requests.answer({"method": "task", "params": {"task": task}}))["joined"]
        service.attachments[0].outbox.enqueue(f"{ROOT}/other", b"x", deadline_s=clock.now().monotonic_s + DEADLINE_S)
        service.attachments[0].sending.wake()
        while len(service.attachments[0].outbox):  # until the broker has acknowledged it
            await asyncio.sleep(0.005)
        leaving = asyncio.create_task(requests.answer({"method": "consent", "params": {"task": task, "joined": False}}))
        await asyncio.sleep(0.05)
        assert not leaving.done()  # who changes something waits for its turn
        assert not hearing.done()
        gate.opens.set()
        await hearing
        assert not (await leaving)["joined"]


async def test_few_bytes_that_stand_for_a_large_model_are_worked_on_beside_the_loop(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        gate, encoding = Gate(service), ENCODINGS["int8+zstd"]
        (merging,) = (learner.merging for learner in service.core.tasks.learning.values())
        merging.intake.allowed = frozenset({encoding})
        small = Encoded(encoding, encode(np.zeros(NUM_PARAMETERS, np.float32), encoding))
        topic, payload = update(service, encoded=small)
        assert len(payload) < 1_000
        gate.opens.set()
        await service.hearing.hear(ROOT, topic, payload, retained=False)
        assert merges(service) == 1
        assert gate.thread != threading.get_ident()


async def test_a_large_model_that_is_asked_for_is_encoded_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def written(vector: m.Vector, *_: Any) -> m.Vector:
        threads.append(threading.get_ident())
        return vector

    monkeypatch.setattr(model_requests, "written", written)
    async with learning(tmp_path) as service:
        (task,) = service.core.tasks.learning
        service.core.members.hear_announcement(PEER.peer_id, m.PeerAnnouncement(tasks=(task,)))
        await service.hearing.hear(ROOT, *sealed(service, m.ModelRequest(task=task)), retained=False)
        assert not service.rejected
    assert threads
    assert threading.get_ident() not in threads


async def test_what_comes_in_during_a_turn_is_heard_after_it_in_order(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        gate = Gate(service)
        name, payload = update(service)
        client = Transport([service.attachments[0].transport.connected_to], client_id="sender")  # type: ignore[list-item]
        running = asyncio.create_task(client.run())
        while client.connected_to is None:
            await asyncio.sleep(0.005)
        await client.publish(name, payload)
        await gate.until_it_began()
        for _ in range(3):
            await client.publish(name, payload)  # replayed, and 360 kB each
        assert service.rejected == {}
        gate.opens.set()
        while service.rejected["replayed"] < 3:
            await asyncio.sleep(0.005)
        assert merges(service) == 1
        await client.disconnect()
        await running


async def test_a_service_that_is_stopped_during_a_turn_ends_after_it_and_saves_what_it_made(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        gate = Gate(service)
        (learner,) = service.core.tasks.learning.values()
        await service.trainers.stop_all()  # type: ignore[union-attr]  # or a step might end after the goodbye
        hearing = asyncio.create_task(service.hearing.hear(ROOT, *update(service), retained=False))
        await gate.until_it_began()
        service._in_background(asyncio.sleep(3_600))
        service.stop()
        await asyncio.sleep(0.05)
        assert service.attachments[0].transport.connected_to is not None
        gate.opens.set()
        await hearing
    assert merges(service) == 1
    assert not service._background  # nothing comes to the core any more
    with Store.open(tmp_path) as store:
        saved = store.load_model(learner.task)
    assert saved is not None
    assert np.array_equal(saved.vectors["parameters"], learner.model.parameters)


async def test_what_is_wrong_with_a_large_message_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        (learner,) = service.core.tasks.learning.values()
        name, payload = update(service)
        for changed, reason in (
            (payload[:-1] + bytes((payload[-1] ^ 1,)), "bad-signature"),
            (payload[: len(payload) // 2], "malformed"),
            (payload + payload, "malformed"),
        ):
            await service.hearing.hear(ROOT, name, memoryview(changed), retained=False)
            assert service.rejected.pop(reason) == 1, reason
        learner.merging.intake.layout = replace(learner.layout, parameters=learner.layout.parameters[:1])
        await service.hearing.hear(ROOT, name, payload, retained=False)
        assert service.rejected.pop("wrong-shape") == 1
        assert (merges(service), dict(service.rejected)) == (0, {})


async def test_what_can_end_a_task_looks_at_its_model_beside_the_loop(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        (task,) = service.core.tasks.learning
        threads: dict[str, int] = {}

        def noting(name: str, *_: Any) -> list[fx.Effect]:
            threads[name] = threading.get_ident()
            return []

        await service.trainers.stop_all()  # type: ignore[union-attr]
        for name in ("data_judged", "trained", "set_settings", "set_consent"):
            setattr(service.core, name, partial(noting, name))
        service._data_judged()
        service._training_done(fx.Trained(task=task, error="the trainer ended"))
        requests = Requests(service)
        service.trainers = None  # which a reload would tell of its sources
        service._make = lambda _config: Made(settings=service.core.settings, sources=(), limits=TrainerLimits())
        await requests.answer({"method": "trust"})
        await requests.answer({"method": "consent", "params": {"task": task, "joined": False}})
        while len(threads) < 4:
            await asyncio.sleep(0.005)
        assert threading.get_ident() not in threads.values()


# --- leaving --------------------------------------------------------------------------------------


async def test_large_messages_leave_in_order_with_their_numbers_and_nothing_overtakes_them(tmp_path: Path) -> None:
    async with learning(tmp_path) as service:
        reader = Transport([service.attachments[0].transport.connected_to], client_id="reader")  # type: ignore[list-item]
        await reader.subscribe((f"{ROOT}/inbox/{'b' * 20}/#", 1))
        running = asyncio.create_task(reader.run())
        while reader.connected_to is None:
            await asyncio.sleep(0.005)
        topic = InboxTopic("b" * 20, service.identity.peer_id)
        bodies: list[m.Body] = []
        for number in range(6):
            full = np.full(LARGE // 4, number, np.float32)
            bodies.append(
                m.ModelUpdate(task=str(number) * 64, window=1, version=1, age=1, experience=1, samples=1, full=full)
            )
            bodies.append(m.BlobRequest(task=str(number) * 64, digest="1" * 64))
        # A few large ones may wait whatever they take, so they are said in two goes.
        for some in (bodies[:6], bodies[6:]):
            service.perform([fx.Publish(topic=topic, body=body) for body in some])
            while len(service.attachments[0].outbox):
                await asyncio.sleep(0.005)
        heard: list[Message] = []
        async for event in reader.events():
            if isinstance(event, Arrived):
                heard.append(open_envelope(event.payload, topic).message)
                if len(heard) == len(bodies):
                    break
        assert [type(each.body) for each in heard] == [type(body) for body in bodies]
        assert [each.body.task for each in heard] == [body.task for body in bodies]  # type: ignore[union-attr]
        numbers = [each.sequence for each in heard]
        assert numbers[0::2] == sorted(numbers[0::2])
        assert len(set(numbers)) == len(numbers)
        await reader.disconnect()
        await running


async def test_what_is_large_is_sealed_beside_the_loop_in_parts_and_what_is_small_in_it_at_once() -> None:
    threads: list[int] = []

    class Key(SigningKey):
        def sign_message(self, topic: str, *message: bytes | memoryview) -> bytes:
            threads.append(threading.get_ident())
            return super().sign_message(topic, *message)

    beside = Beside()
    sealing = Sealing(Sealer(Holder(Key.generate()), Numbering()), beside)
    topic = InboxTopic("b" * 20, "a" * 20)
    for size, kind in ((8, bytes), (LARGE, Parts)):
        body = m.ReleasedModel(task="7" * 64, full=np.ones(size, np.float32))
        assert isinstance(await sealing.payload_of(fx.Publish(topic=topic, body=body)), kind)
    await beside.close()
    assert threads[0] == threading.get_ident() != threads[1]


async def test_a_task_that_ends_while_something_of_it_is_fetched_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with learning(tmp_path) as service:
        told: list[tuple[str, str]] = []

        def not_fetched(received: Received, why: str, _now: Moment) -> list[fx.Effect]:
            told.append((received.message.sender, why))
            return []

        monkeypatch.setattr(service.core, "not_fetched", not_fetched)
        (task,) = service.core.tasks.learning
        message = Message(
            sender=PEER.peer_id, session=7, sequence=1, body=m.Apart(kind=m.ReleasedModel, task=task, rest=b"")
        )
        bulk = Bulk(digest=bytes(32), num_bytes=1_000_000, fields=(3,), lengths=(1_000_000,))
        topic = InboxTopic(service.identity.peer_id, PEER.peer_id)
        service.carrying.fetch(Received(message=message, topic=topic, envelope=b"", bulk=bulk))
        service.carrying.drop_task(task)
        while not told:
            await asyncio.sleep(0.005)
        assert told == [(PEER.peer_id, "it is not wanted any more")]


async def test_a_bulk_that_finds_no_room_goes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with learning(tmp_path) as service:
        ((task, learner),) = service.core.tasks.learning.items()
        told = learner.sending.told
        body = m.ModelUpdate(
            task=task, window=1, version=1, age=1, experience=1, samples=1, full=np.ones(200_000, np.float32)
        )
        publish = fx.Publish(topic=InboxTopic(PEER.peer_id, service.identity.peer_id), body=body)
        told.sent(learner.model, PEER.peer_id, 1, clock.now().monotonic_s)
        monkeypatch.setattr(service.carrying, "may_send", lambda _: False)
        service.publish(publish)
        assert service.rejected["no-room"] == 1
        lacking = told.lacking(learner.model, [(PEER.peer_id, 1)], clock.now().monotonic_s)
        assert lacking == [PEER.peer_id]
