"""What a service makes of what it kept, and of all that a broker sends in one go; with a store, without a broker."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_agent.identity import Identity
from grapevine_agent.net.events import Arrived, Event
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.database import StoredRecord
from grapevine_agent.store.store import Store
from grapevine_lab.bench import floods
from grapevine_proto.codec import reopen_envelope
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic, parse_below_root

ROOT = "grapevine/v1"
OWN, REVIEWER, *STRANGERS = [SigningKey(bytes([number] * 32)) for number in range(1, 7)]


class Quiet:
    """A transport that is never connected and has these events."""

    connected_to = None
    max_packet_bytes = 1_000_000
    is_attempting = False
    brokers = (BrokerUrl.parse("mqtt://nowhere.example"),)

    def __init__(self, arriving: list[Event]) -> None:
        self.arriving = arriving

    async def subscribe(self, *filters: tuple[str, int]) -> None: ...

    def subscribe_in_turn(self, *filters: str) -> None: ...

    async def unsubscribe(self, *filters: str) -> None: ...

    async def events(self) -> AsyncIterator[Event]:
        for event in self.arriving:
            yield event


@contextmanager
def service(folder: Path, *arriving: Event) -> Iterator[AgentService]:
    """A service with its state in this folder, started as far as its disk goes."""
    policy = ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)))
    with Store.open(folder) as store:
        transport: Callable[..., Any] = lambda _will: Quiet(list(arriving))  # noqa: E731
        started = AgentService(
            settings=CoreSettings(peer=OWN.peer_id, review=policy),
            identity=Identity(OWN, folder / "identity.pem"),
            store=store,
            transports=[transport],
            root=ROOT,
            trainers=None,
            max_bytes=1_000_000,
            config=load_config(None, {}),
        )
        yield started
        asyncio.run(started._saver.finish())


def task(key: SigningKey, name: str) -> tuple[TaskTopic, bytes]:
    encoded = encode_manifest(floods.manifest(key.peer_id, name=name))
    topic = TaskTopic(key.peer_id, task_id(encoded), "manifest")
    return topic, floods.sealed(key, topic, TaskPublication(manifest=encoded))


def verdict(key: SigningKey, of: str) -> tuple[TaskTopic, bytes]:
    topic = TaskTopic(key.peer_id, of, "review")
    until_ms = clock.now().wall_ms + 3_600_000
    body = Review(task=of, approved=False, reason="leaks", valid_until_ms=until_ms)
    return topic, floods.sealed(key, topic, body, expires_at_ms=until_ms)


def keep(folder: Path, *records: tuple[TaskTopic, bytes]) -> None:
    with Store.open(folder) as store:
        for topic, envelope in records:
            store.put_record(
                StoredRecord(
                    topic=topic.below_root(), author=topic.peer, sequence=1, expires_at_ms=0, envelope=envelope
                )
            )


def start(started: AgentService) -> None:
    async def run() -> None:
        started._restore()
        await asyncio.gather(*started._background)
        await asyncio.get_running_loop().run_in_executor(started._saver._thread, int)  # behind all that is to be saved

    asyncio.run(run())


def test_what_was_kept_is_there_again_and_own_records_are_announced(tmp_path: Path) -> None:
    records = [task(key, f"{number}") for number, key in enumerate((OWN, *STRANGERS))]
    records += [verdict(REVIEWER, records[1][0].task), verdict(OWN, records[2][0].task)]
    keep(tmp_path, *records)
    with service(tmp_path) as started:
        start(started)
        core = started.core
        assert len(core.book.entries) == 5
        assert core.judgement(core.book.entries[records[1][0].task], clock.now()).standing == "rejected"
        due = started.attachments[0].outbox._due
        assert due.keys() == {f"{ROOT}/{topic.below_root()}" for topic in (records[0][0], records[-1][0])}
        unverified = [each for each in core.records if not each.verified]
        assert {each.message.sender for each in unverified} <= {key.peer_id for key in STRANGERS}
        assert len(unverified) == 2  # of the other two somebody has spoken whose word counts


@pytest.mark.parametrize("seed", range(25))
def test_bytes_that_were_damaged_on_disk_raise_nothing_and_are_believed_of_nobody(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    records = [task(key, f"{number}") for number, key in enumerate((OWN, REVIEWER, *STRANGERS))]
    records += [verdict(key, records[2][0].task) for key in (OWN, REVIEWER, *STRANGERS)]
    damaged = []
    for topic, envelope in records:
        content = bytearray(envelope)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.append((topic, bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])))
    keep(tmp_path, *damaged)
    with service(tmp_path) as started:
        start(started)
        held = list(started.core.records)
        ours = {OWN.peer_id, REVIEWER.peer_id}
        true = dict(records)
        assert all(each.envelope == true[each.topic] for each in held if each.message.sender in ours)  # type: ignore[index]
        left = {stored.topic for stored in started.store.records()}
        assert left == {each.topic.below_root() for each in held}
        for each in held:
            started.perform([fx.Relay(received=each)])
        relayed = {waiting.payload for waiting in started.attachments[0].outbox._answers}
        assert relayed <= set(true.values())
        for topic, envelope in records:  # the broker has the true ones
            asyncio.run(started.hearing.hear(ROOT, f"{ROOT}/{topic.below_root()}", envelope, retained=True))
        assert dict(records) == {each.topic: each.envelope for each in started.core.records}


def test_a_record_that_changed_on_disk_is_not_given_back_to_a_broker(tmp_path: Path) -> None:
    topic, envelope = task(STRANGERS[0], "true")
    with service(tmp_path) as started:
        for last in (envelope[-1] ^ 1, envelope[-1]):
            received = reopen_envelope(envelope[:-1] + bytes([last]), topic)
            started.perform([fx.Relay(received=received)])
        assert [waiting.payload for waiting in started.attachments[0].outbox._answers] == [envelope]


def test_a_burst_of_retained_messages_leaves_turns_for_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving = [
        Arrived(topic=f"{ROOT}/{topic.below_root()}", payload=payload, retained=True)
        for topic, payload in (task(STRANGERS[number % 4], f"{number}") for number in range(120))
    ]
    ticking = itertools.count()
    monkeypatch.setattr(
        "grapevine_agent.service.shell.time.monotonic", lambda: next(ticking) * 1e-3
    )  # a millisecond each
    heard_at_turns: list[int] = []

    async def run(started: AgentService) -> None:
        reading = asyncio.create_task(started._read(started.attachments[0]))
        while not reading.done():
            await asyncio.sleep(0)
            heard_at_turns.append(len(started.core.records))
        await reading

    with service(tmp_path, *arriving) as started:
        asyncio.run(run(started))
        assert len(started.core.records) == 120
    steps = [later - earlier for earlier, later in itertools.pairwise([0, *heard_at_turns])]
    assert max(steps) <= 7  # of five milliseconds, at a millisecond each
    assert len(heard_at_turns) >= 120 / 7


def test_records_are_read_from_the_disk_a_few_at_a_time_and_reviews_first(tmp_path: Path) -> None:
    topics = [TaskTopic("a" * 20, f"{number:064d}", leaf) for number in range(30) for leaf in ("manifest", "review")]
    keep(tmp_path, *((topic, b"x" * 200_000) for topic in topics))
    with Store.open(tmp_path) as store:
        read: list[int] = []
        plain = store._database._file.read

        def counting(query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
            rows = plain(query, values)
            read.append(sum(len(row[4]) for row in rows))
            return rows

        store._database._file.read = counting  # type: ignore[method-assign]
        found = [parse_below_root(stored.topic) for stored in store.each_record()]
    assert set(found) == set(topics)
    assert [topic.leaf for topic in found] == ["review"] * 30 + ["manifest"] * 30  # type: ignore[union-attr]
    assert max(read) <= 2_200_000
    assert sum(read) == 60 * 200_000
