"""A disk that takes nothing: the newest waits in memory, is told once, and is written when there is room."""

import asyncio
import errno
import logging
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.disks import SmallDisk, small_disk

from grapevine_agent.core import effects as fx
from grapevine_agent.data.recordings import Row, describe
from grapevine_agent.data.source import RECORDINGS_FILE, DataSource, RecordingPlan
from grapevine_agent.identity import first_identity
from grapevine_agent.service import saving, unsaved
from grapevine_agent.service.numbering import MOST, OwnNumbers
from grapevine_agent.service.recording import Recording
from grapevine_agent.service.saving import DECISIONS, METRICS, MODELS, RECORDS, WEIGHTS, Saver
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.unsaved import Unsaved, reason_of
from grapevine_agent.store.store import Store
from grapevine_proto.codec import Received, open_envelope, seal
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Message, Metrics, PeerState, Review
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic, TaskTopic

KEY = SigningKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsaved, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(unsaved, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", num_kb=512) as made:
        yield made


def received(sequence: int, task: str = "ab") -> Received:
    topic = TaskTopic(KEY.peer_id, task, "review")
    body = Review(task=task, approved=True, reason="r" * 200, valid_until_ms=2**50)
    message = Message(
        sender=KEY.peer_id,
        session=1,
        sequence=sequence,
        body=body,
        created_at_ms=1,
        expires_at_ms=0,
        receiver_session=0,
    )
    return open_envelope(seal(message, topic, KEY), topic, retained=True)


def model(version: int, size: int = 2000) -> fx.SaveModel:
    return fx.SaveModel(task="t", vectors={"parameters": np.full(size, version, np.float32)}, counters={"age": version})


def metrics(number: int) -> fx.SaveMetrics:
    return fx.SaveMetrics(metrics=Metrics(task="t", round=number, age=1, loss=0.5, metric=0.9, num_evaluated=1))


async def until(saver: Saver, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        saver.retry()
        await asyncio.sleep(0.01)


async def settled(saver: Saver) -> None:
    """After everything that was queued has been tried."""
    await saver.load_model("none")


@contextmanager
def no_growth() -> Iterator[None]:
    """No file may grow: each write ends in EFBIG, as on a disk that is over its quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- the saver ------------------------------------------------------------------------------------


async def test_on_a_full_disk_the_newest_of_each_thing_waits_and_is_written_later(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state = disk.path / "state"
    with Store.open(state) as store:
        told = Unsaved()
        saver = Saver(store, told)
        saver.save(model(1))
        await settled(saver)
        assert told.lines() == []
        disk.fill()
        while not {MODELS, RECORDS, WEIGHTS, DECISIONS, METRICS} <= {line["kind"] for line in told.lines()}:
            for number in range(2, 12):  # a log of SQLite's has room for the first ones
                saver.save(model(number))
                saver.save(fx.SaveRecord(received=received(number)))
                saver.save(fx.SaveBlob(digest="ab" * 32, content=b"w" * 20_000))
                saver.save(fx.SaveConsent(task="t", joined=number == 11))
                saver.save(metrics(number))
                await settled(saver)
        assert {line["reason"] for line in told.lines()} == {"No space left on device"}
        for kind in (MODELS, RECORDS, WEIGHTS, DECISIONS, METRICS):
            assert sum(f"{kind} are not saved" in line for line in caplog.messages) == 1
        in_memory = await saver.load_model("t")
        assert in_memory is not None
        assert in_memory.counters["age"] == 11
        assert await saver.get_blob("ab" * 32) == b"w" * 20_000
        disk.free()
        await until(saver, lambda: not told.lines())
        assert sum("are saved again" in line for line in caplog.messages) == 5
        saved = store.load_model("t")
        assert saved is not None
        assert saved.metadata["age"] == 11
        assert [record.sequence for record in store.records()] == [11]
        assert store.memberships() == {"t": "joined"}
        assert store.metrics("t")[-1].metrics.round == 11
        await saver.finish()
        assert "are lost" not in caplog.text


async def test_only_what_does_not_fit_waits(disk: SmallDisk) -> None:
    with Store.open(disk.path / "state") as store:
        told = Unsaved()
        saver = Saver(store, told)
        saver.save(model(1, size=400_000))  # 1.6 MB on a disk of 0.5
        saver.save(fx.SaveRecord(received=received(1)))
        await settled(saver)
        assert [(line["kind"], line["reason"]) for line in told.lines()] == [(MODELS, "No space left on device")]
        assert len(store.records()) == 1
        await saver.finish()


async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_WAITING_METRICS", 5)
    monkeypatch.setattr(saving, "MOST_WAITING_BYTES", 1000)
    with Store.open(tmp_path) as store:
        saver = Saver(store, Unsaved())
        with no_growth():
            for number in range(40):
                saver.save(metrics(number))
                saver.save(fx.SaveBlob(digest=f"{number:064x}", content=b"w" * 400))
                saver.save(model(number))
                saver.save(fx.SaveRecord(received=received(number, task="cd")))
                saver.save(fx.ForgetRecord(received=received(number, task="cd"), remembered=number))
            await settled(saver)
            kinds = [kind for kind, _ in saver._waiting]
        assert {kind: kinds.count(kind) for kind in kinds} == {METRICS: 5, WEIGHTS: 2, MODELS: 1, RECORDS: 1}
        await saver.finish()
        assert saver._waiting == {}
        assert [entry.metrics.round for entry in store.metrics("t")] == [35, 36, 37, 38, 39]
        assert store.newest_sequences() == {f"peer/{KEY.peer_id}/task/cd/review": 39}


async def test_a_quota_is_met_as_a_full_disk_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(tmp_path) as store:
        told = Unsaved()
        saver = Saver(store, told)
        with no_growth():
            saver.save(model(1))
            saver.save(fx.SaveConsent(task="t", joined=False))
            await settled(saver)
            assert [line["kind"] for line in told.lines()] == [MODELS, DECISIONS]
            assert told.lines()[0]["reason"] == os.strerror(errno.EFBIG)
        await until(saver, lambda: not told.lines())
        assert store.memberships() == {"t": "left"}
        assert store.load_model("t") is not None
        await saver.finish()


async def test_what_is_lost_at_the_end_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store, Unsaved())
        with no_growth():
            saver.save(model(1))
            await saver.finish()
    assert "1 of these were not saved and are lost: models" in caplog.text


async def test_an_error_that_is_no_disks_is_logged_and_not_tried_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store, Unsaved())
        saver.save(fx.SaveModel(task="t", vectors={"x": np.zeros(3)}, counters={}))  # type: ignore[dict-item]
        await settled(saver)
        assert "models: not saved" in caplog.text
        assert saver._waiting == {}
        await saver.finish()


async def test_a_saved_model_with_a_counter_that_none_has_is_not_used(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        saver.save(fx.SaveModel(task="t", vectors={"x": np.zeros(3, np.float32)}, counters={"age": -1}))
        await settled(saver)
        await until(saver, lambda: not saver._waiting)
        assert await saver.load_model("t") is None
        await saver.finish()


# --- numbers --------------------------------------------------------------------------------------


def test_sequences_grow_on_a_full_disk_and_after_it(
    tmp_path: Path, disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state, told = disk.path / "state", Unsaved()
    with Store.open(state) as store:
        numbers = OwnNumbers(store, told)
        given = [numbers.next_sequence("a", 5000)]
        store.keep_sequences({"b": 9000})  # of an earlier life
        disk.fill()
        while not told.lines():
            given.append(numbers.next_sequence("a", 5000))
        # The clock may even go back.
        given += [numbers.next_sequence("a", clock_ms) for clock_ms in (5000, 10, 0, 6000, 6000)]
        assert numbers.next_sequence("b", 0) == 9001  # as the disk, which still gives, has it
        session = numbers.next_session(7)
        assert numbers.next_session(7) == session + 1
        assert given == sorted(set(given))
        assert sum("sequences are not saved" in line for line in caplog.messages) == 1
        disk.free()
        deadline = time.monotonic() + 10
        while told.lines():
            assert time.monotonic() < deadline
            numbers.retry()
    with Store.open(state) as store:
        again = OwnNumbers(store, Unsaved())
        assert again.next_sequence("a", 0) == max(given) + 1
        assert again.next_sequence("b", 0) == 9002
        assert again.next_session(0) == session + 2


def test_a_peer_that_lost_its_state_and_its_clock_goes_on_above_what_a_broker_has(tmp_path: Path) -> None:
    topic = f"peer/{KEY.peer_id}/task/ab/review"
    with Store.open(tmp_path) as store:
        numbers = OwnNumbers(store, Unsaved())
        for sequence in (1_795_000_000_000, 3):
            numbers.heard(replace(received(sequence).message, session=1_795_000_000_500), topic)
        numbers.heard(received(MOST).message, "b")  # nobody gave that: it would leave no room above it
        assert numbers.next_sequence(topic, 60_000) == 1_795_000_000_001
        assert numbers.next_sequence("b", 60_000) == 60_000
        assert numbers.next_session(60_000) == 1_795_000_000_501
    with Store.open(tmp_path) as store:
        assert store.next_sequence(topic, 0) == 1_795_000_000_002


def test_what_the_clock_numbers_goes_on_above_what_a_broker_has(tmp_path: Path) -> None:
    identity = first_identity(tmp_path)
    with Store.open(tmp_path) as store:
        sealer = Sealer(identity, OwnNumbers(store, Unsaved()))
        topic = PeerTopic(identity.peer_id, "state")
        online = fx.Publish(topic=topic, body=PeerState(online=True), retain=True)
        sealer.begin_session(5)
        echo = open_envelope(sealer.seal(online, 1_795_000_000_000), topic, retained=True)
    (tmp_path / "grapevine.db").unlink()
    with Store.open(tmp_path) as store:
        again = Sealer(identity, OwnNumbers(store, Unsaved()))
        again.heard(echo.message)
        sealed = open_envelope(again.seal(online, 60_000), topic, retained=True)
        assert sealed.message.sequence == 1_795_000_000_001


def test_a_sequence_that_was_damaged_to_the_largest_number_is_not_counted_on_from(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.keep_sequences({"a": 2**63 - 1})
        assert store.last_sequence("a") == -1
        assert store.next_sequence("a", 5000) == 5000
        assert store.next_sequence("a", 0) == 5001


# --- recordings -----------------------------------------------------------------------------------


async def test_recorded_rows_wait_for_a_disk_that_takes_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = RecordingPlan(topic="home/+", every_s=10, hold_s=60)
    path = tmp_path / RECORDINGS_FILE
    columns = (("t", "$.t"),)
    source = DataSource(name="rooms", kind="climate", path=path, format="mqtt", columns=columns, recording=plan)
    told = Unsaved()
    recording = Recording(tmp_path, [source], told)

    async def record(slot: int) -> None:
        recording._waiting += [
            Row(source="rooms", topic="home/a", slot=int(time.time()) + 10 * slot, run=0, numbers=(1.0,))
        ]
        await recording._flush()

    with no_growth():
        for slot in range(3):
            await record(slot)
    assert [line["kind"] for line in told.lines()] == ["recordings"]
    assert sum("recordings are not saved" in line for line in caplog.messages) == 1
    await record(3)
    assert told.lines() == []
    await recording.finish()
    assert describe(source, None).facts["rows"] == 4


# --- words ----------------------------------------------------------------------------------------


def test_reasons_are_the_systems_own_words(tmp_path: Path) -> None:
    def raised(cause: BaseException) -> StoreError:
        try:
            raise StoreError("long text") from cause
        except StoreError as error:
            return error

    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    read_only = sqlite3.OperationalError("attempt to write a readonly database")
    read_only.sqlite_errorcode = sqlite3.SQLITE_READONLY_DIRECTORY
    assert reason_of(raised(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))) == "Disk quota exceeded"
    assert reason_of(raised(full)) == "No space left on device"
    assert reason_of(raised(read_only)) == "Read-only file system"
    assert reason_of(StoreError("alone")) == "alone"
