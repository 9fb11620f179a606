"""What the service has to say, sent to a broker that is late, deaf, or forgets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.scripted_broker import Published, ScriptedBroker

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core import effects as fx
from grapevine_agent.service import clock
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.shell import AgentService
from grapevine_proto.topics import InboxTopic

ANSWER_S = 0.4
DEADLINE_S = 20.0
TASK, DIGEST = "7" * 64, "1" * 64
pytestmark = pytest.mark.parametrize("version", ["3.1.1", "5"])


@asynccontextmanager
async def serving(folder: Path, url: str, answer_s: float = ANSWER_S) -> AsyncIterator[AgentService]:
    """A whole service without trainers that is connected to `url`, and leaves in good order."""
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{folder / "state"}"\n[mqtt]\nbrokers = ["{url}"]\nroot = "t"\n')
    with assembled(load_config(path, {})) as service:
        service.attachments[0].transport._answer_s = answer_s
        service.attachments[0].transport._backoff_s = (0.05, 0.2)
        running = asyncio.create_task(service.run())
        try:
            await asyncio.wait_for(service.ready.wait(), DEADLINE_S)
            yield service
        finally:
            service.stop()
            await asyncio.wait_for(running, DEADLINE_S)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


def put(service: AgentService, topic: str, payload: bytes = b"", *, for_s: float = 15.0, **options: object) -> None:
    deadline_s = clock.now().monotonic_s + for_s
    service.attachments[0].outbox.enqueue(topic, payload, deadline_s=deadline_s, **options)  # type: ignore[arg-type]
    service.attachments[0].sending.wake()


def payloads(broker: ScriptedBroker, topic: str, connection: int | None = None) -> list[bytes]:
    return [each.payload for each in broker.published if each.topic == topic and connection in (None, each.connection)]


async def test_a_hundred_messages_do_not_take_a_hundred_round_trips(tmp_path: Path, version: str) -> None:
    async with ScriptedBroker(delay_s=0.1) as broker, serving(tmp_path, broker.url(version)) as service:
        began_s = time.monotonic()
        for number in range(100):
            put(service, f"m/{number}")
        await until(lambda: not len(service.attachments[0].outbox))
        assert time.monotonic() - began_s < 4.0
        assert [each.topic for each in broker.published if each.topic.startswith("m/")] == [
            f"m/{number}" for number in range(100)
        ]


async def test_after_a_lost_acknowledgement_records_and_messages_go_again_and_the_service_goes_on(
    tmp_path: Path, version: str
) -> None:
    def withholds(each: Published) -> bool:
        return each.connection == 0 and each.topic in ("record", "message", "late")

    async with ScriptedBroker(withholds=withholds) as broker, serving(tmp_path, broker.url(version)) as service:
        service.attachments[0].outbox.keep("record", b"old")
        put(service, "message", b"m")
        put(service, "late", b"l", for_s=0.1)
        put(service, "other", b"o")
        await until(lambda: payloads(broker, "record"))
        service.attachments[0].outbox.keep("record", b"new")
        await until(lambda: broker.num_connections == 2 and payloads(broker, "message", 1))
        await until(lambda: not len(service.attachments[0].outbox))
        assert payloads(broker, "record", 1) == [b"new"]
        assert payloads(broker, "message") == [b"m", b"m"]
        assert payloads(broker, "late") == [b"l"]  # a second time it would have been out of date
        assert payloads(broker, "other") == [b"o"]  # that one was acknowledged
        assert len([topic for topic in broker.topics(1) if topic.endswith("/state")]) == 1
        put(service, "after", b"a")
        await until(lambda: payloads(broker, "after"))


async def test_heartbeats_go_while_every_update_waits_for_its_acknowledgement(tmp_path: Path, version: str) -> None:
    async with (
        ScriptedBroker(withholds=lambda each: each.topic == "update") as broker,
        serving(tmp_path, broker.url(version), answer_s=60.0) as service,
    ):
        await until(lambda: not len(service.attachments[0].outbox))
        for _ in range(100):
            put(service, "update")
        await until(lambda: len(payloads(broker, "update")) == 64)
        put(service, "heartbeat", b"h", qos=0)
        await until(lambda: payloads(broker, "heartbeat"))
        assert len(payloads(broker, "update")) == 64


async def test_records_of_one_topic_arrive_in_the_order_in_which_they_were_written(
    tmp_path: Path, version: str
) -> None:
    async with ScriptedBroker(delay_s=0.02) as broker, serving(tmp_path, broker.url(version)) as service:
        for number in range(200):
            service.attachments[0].outbox.keep("record", b"%03d" % number)
            service.attachments[0].sending.wake()
            await asyncio.sleep(0.001)
        await until(lambda: not len(service.attachments[0].outbox))
        found = payloads(broker, "record")
        assert found == sorted(found)
        assert found[-1] == b"199"
        assert len(found) > 20  # the second did not wait for the first's acknowledgement


async def test_what_belongs_to_a_task_that_was_left_does_not_go_again(tmp_path: Path, version: str) -> None:
    async with (
        ScriptedBroker(withholds=lambda each: each.connection == 0 and each.topic in ("left", "kept")) as broker,
        serving(tmp_path, broker.url(version)) as service,
    ):
        put(service, "left", task=TASK)
        put(service, "kept", task="8" * 64)
        await until(lambda: payloads(broker, "kept"))
        service.perform([fx.DropUnsent(task=TASK)])
        await until(lambda: payloads(broker, "kept", 1))
        await until(lambda: not len(service.attachments[0].outbox))
        assert len(payloads(broker, "left")) == 1


async def test_the_goodbye_is_the_last_word(tmp_path: Path, version: str) -> None:
    async with ScriptedBroker(delay_s=0.05) as broker:
        async with serving(tmp_path, broker.url(version)) as service:
            for number in range(150):
                put(service, f"m/{number}")
            state = f"t/peer/{service.identity.peer_id}/state"
            service.attachments[0].outbox.keep(state, b"online")
        assert broker.published[-1].topic == state
        assert broker.published[-1].payload != b"online"
        assert broker.published[-1].retain
        assert payloads(broker, state)[-2:-1] == [b"online"]
        assert broker.goodbyes == 1


async def test_a_broker_that_acknowledges_nothing_does_not_hold_up_leaving(tmp_path: Path, version: str) -> None:
    async with ScriptedBroker(withholds=lambda _each: True) as broker:
        async with serving(tmp_path, broker.url(version), answer_s=60.0) as service:
            put(service, "m")
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 8.0
        assert broker.goodbyes == 1


async def test_blobs_are_read_one_at_a_time_and_wait_together(tmp_path: Path, version: str) -> None:
    async with ScriptedBroker(delay_s=0.1) as broker, serving(tmp_path, broker.url(version)) as service:
        reading = most = 0

        async def get(digest: str) -> bytes:
            nonlocal reading, most
            reading, most = reading + 1, max(most, reading + 1)
            await asyncio.sleep(0.005)
            reading -= 1
            return digest.encode()

        service.attachments[0].answers._get_blob = get
        await until(lambda: not len(service.attachments[0].outbox))
        began_s = time.monotonic()
        for number in range(30):
            topic = InboxTopic(f"a{number:019d}", service.identity.peer_id)
            digest = f"{number:064d}"
            service.perform([fx.SendBlob(topic=topic, task=TASK, digest=digest, num_bytes=1_000, receiver_session=5)])
        await until(lambda: not len(service.attachments[0].outbox))
        assert time.monotonic() - began_s < 2.0
        assert most == 1
        assert len([topic for topic in broker.topics(0) if "/inbox/" in topic]) == 30
        assert service.attachments[0].answers._content is None


async def test_a_service_that_ends_by_force_leaves_no_publish_behind(tmp_path: Path, version: str) -> None:
    async with ScriptedBroker(withholds=lambda _each: True) as broker:
        path = tmp_path / "agent.toml"
        path.write_text(
            f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[mqtt]\nbrokers = ["{broker.url(version)}"]\nroot = "t"\n'
        )
        with assembled(load_config(path, {})) as service:
            running = asyncio.create_task(service.run())
            await asyncio.wait_for(service.ready.wait(), DEADLINE_S)
            put(service, "m")
            await until(lambda: payloads(broker, "m"))
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            assert not [task for task in asyncio.all_tasks() if "Sending" in repr(task)]
