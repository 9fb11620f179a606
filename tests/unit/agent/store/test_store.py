import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.store import database
from grapevine_agent.store.blobs import Blobs
from grapevine_agent.store.database import METRICS_KEPT, StoredRecord
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.store import Store
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Metrics


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


def record(sequence: int = 1, topic: str = "peer/a/announcement", expires_at_ms: int = 0) -> StoredRecord:
    envelope = b"\x00\xff as signed %d" % sequence
    return StoredRecord(topic=topic, author="a", sequence=sequence, expires_at_ms=expires_at_ms, envelope=envelope)


def model(version: int, size: int = 1000) -> StoredModel:
    vectors = {"working": np.full(size, version, np.float32), "buffers": np.empty(0, np.float32)}
    return StoredModel(vectors=vectors, metadata={"version": version, "digest": "ab", "share": 0.5})


def line(task: str = "t", round_number: int = 0) -> Metrics:
    return Metrics(task=task, round=round_number, age=1, loss=0.5, metric=0.9, num_evaluated=10)


def version_of(loaded: StoredModel | None) -> int:
    """The version of a model, after checking that its vector is of that version."""
    assert loaded is not None
    version = loaded.metadata["version"]
    assert isinstance(version, int)
    np.testing.assert_array_equal(loaded.vectors["working"], np.float32(version))
    return version


# --- records and sequences ------------------------------------------------------------------------


def test_records_come_back_as_the_bytes_that_were_received(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.put_record(record(7, expires_at_ms=9))
    with Store.open(tmp_path) as store:
        assert store.records() == [record(7, expires_at_ms=9)]
        store.delete_record("peer/a/announcement")
        store.delete_record("peer/a/announcement")
        assert store.records() == []


def test_the_highest_sequence_of_a_topic_stays(store: Store) -> None:
    assert store.put_record(record(5))
    assert not store.put_record(record(4))
    assert store.put_record(record(6))
    store.put_record(record(1, topic="peer/b/announcement"))
    assert [stored.sequence for stored in store.records()] == [6, 1]


def test_the_sequence_of_a_verdict_outlives_its_record_and_the_process(tmp_path: Path) -> None:
    topic = "peer/a/task/t/review"
    with Store.open(tmp_path) as store:
        store.put_record(record(7, topic=topic))
        store.forget_record(topic, 7)
        store.forget_record(topic, 3)
        store.next_sequence("peer/us/announcement", 9)
        assert store.records() == []
    with Store.open(tmp_path) as store:
        assert store.newest_sequences() == {topic: 7}


def test_a_sequence_that_made_room_for_others_is_forgotten_and_no_other_is(store: Store) -> None:
    topics = [f"peer/them/task/{number}/review" for number in range(3)]
    for topic in topics:
        store.forget_record(topic, 7)
    store.next_sequence("peer/us/announcement", 9)
    store.forget_sequence(topics[1])
    assert store.newest_sequences() == {topics[0]: 7, topics[2]: 7}
    assert store.next_sequence("peer/us/announcement", 0) == 10


def test_expired_records_are_forgotten(store: Store) -> None:
    for topic, expires_at_ms in (("a", 0), ("b", 100), ("c", 101)):
        store.put_record(record(topic=topic, expires_at_ms=expires_at_ms))
    assert store.delete_expired_records(100) == 1
    assert [stored.topic for stored in store.records()] == ["a", "c"]


def test_a_sequence_beyond_what_can_be_held_is_refused(store: Store) -> None:
    for sequence in (-1, 2**63, 2**64):
        with pytest.raises(StoreError, match="sequence"):
            store.put_record(record(sequence))
    assert store.put_record(record(2**63 - 1))


def test_sequences_rise_by_the_clock_or_else_by_one(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert [store.next_sequence("t", now_ms) for now_ms in (1000, 1000, 999, 5000)] == [1000, 1001, 1002, 5000]
        assert store.next_sequence("other", 1) == 1
    with Store.open(tmp_path) as store:
        assert store.next_sequence("t", 0) == 5001
        assert [store.next_session(10), store.next_session(5)] == [10, 11]


def test_many_threads_never_get_one_sequence_twice(store: Store) -> None:
    taken: list[int] = []

    def take() -> None:
        taken.extend(store.next_sequence("t", 1) for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 201))


# --- memberships, metrics, settings ---------------------------------------------------------------


def test_decisions_on_tasks_are_remembered_until_forgotten(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.set_membership("t", "joined", 1)
        store.set_membership("u", "declined", 2)
        store.set_membership("t", "left", 3)
        store.add_metrics("a", 1, line())
        store.save_model("t", model(1))
    with Store.open(tmp_path) as store:
        assert store.memberships() == {"u": "declined", "t": "left"}
        store.forget_task("t")
        assert store.memberships() == {"u": "declined"}
        assert store.metrics("t") == []
        assert store.load_model("t") is None


def test_the_newest_metrics_come_oldest_first(store: Store) -> None:
    for number in range(5):
        store.add_metrics("a", number * 10, line(round_number=number))
    store.add_metrics("b", 1, line("other"))
    entries = store.metrics("t", 3)
    assert [entry.metrics.round for entry in entries] == [2, 3, 4]
    assert (entries[0].peer, entries[0].at_ms) == ("a", 20)
    assert entries[0].metrics == line(round_number=2)


def test_odd_numbers_in_metrics_are_kept(store: Store) -> None:
    odd = Metrics(task="t", round=1, age=2**63, loss=float("nan"), metric=float(np.float32(0.1)), num_evaluated=0)
    store.add_metrics("a", 1, odd)
    (entry,) = store.metrics("t")
    assert entry.metrics.loss is not None
    assert np.isnan(entry.metrics.loss)
    assert entry.metrics.age == 2**63


def test_the_history_of_all_tasks_together_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "METRICS_KEPT_IN_ALL", 300)
    for number in range(1024):
        store.add_metrics("self", number, line(f"{number // 100}"))
    held = {task: len(store.metrics(f"{task}", 1_000)) for task in range(11)}
    assert sum(held.values()) == 300
    assert [task for task, number in held.items() if number] == [7, 8, 9, 10]  # the newest


def test_the_history_of_metrics_is_bounded(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for number in range(METRICS_KEPT + 1000):
            store.add_metrics("a", number, line(round_number=number))
        store.add_metrics("a", 0, line("other"))
        assert store.metrics("t", 1)[0].metrics.round == METRICS_KEPT + 999
    with sqlite3.connect(tmp_path / "grapevine.db") as connection:
        (held,) = connection.execute("SELECT count(*) FROM metrics WHERE task = 't'").fetchone()
    connection.close()
    assert METRICS_KEPT <= held < METRICS_KEPT + 256


def test_settings_are_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.setting("paused") is None
        store.set_setting("paused", "yes")
        store.set_setting("paused", "no")
    with Store.open(tmp_path) as store:
        assert store.setting("paused") == "no"


# --- models ---------------------------------------------------------------------------------------


def test_a_model_comes_back_with_its_types(tmp_path: Path) -> None:
    saved = StoredModel(
        vectors={"working": np.arange(5, dtype=np.float32)[::2], "buffers": np.empty(0, np.float32)},
        metadata={"age": 2**60, "task": "7", "loss": 0.25},
    )
    with Store.open(tmp_path) as store:
        store.save_model("task-1", saved)
    with Store.open(tmp_path) as store:
        loaded = store.load_model("task-1")
        assert store.model_tasks() == ["task-1"]
        assert store.load_model("other") is None
    assert loaded is not None
    assert loaded.metadata == saved.metadata
    assert loaded.vectors["working"].tolist() == [0, 2, 4]
    assert loaded.vectors["buffers"].shape == (0,)
    assert loaded.vectors["working"].dtype == np.float32


@pytest.mark.parametrize("harm", ["cut", "flip-vector", "flip-fact", "empty", "lost"])
def test_a_damaged_model_gives_way_to_the_previous_one(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    current = tmp_path / "models/t/current.safetensors"
    with Store.open(tmp_path) as store:
        for version in (1, 2, 3):
            store.save_model("t", model(version))
        content = bytearray(current.read_bytes())
        match harm:
            case "cut":
                current.write_bytes(content[:-100])
            case "flip-vector":
                content[-1] ^= 1
                current.write_bytes(content)
            case "flip-fact":
                current.write_bytes(content.replace(b'version\\": 3', b'version\\": 9'))
            case "empty":
                current.write_bytes(b"")
            case "lost":
                current.unlink()
        assert version_of(store.load_model("t")) == 2
        assert ("is damaged" in caplog.text) == (harm != "lost")
        # And the damaged one never takes the good one's place.
        store.save_model("t", model(4))
        assert version_of(store.load_model("t")) == 4
        current.write_bytes(b"again")
        assert version_of(store.load_model("t")) == 2


def test_with_both_models_damaged_there_is_none(store: Store, tmp_path: Path) -> None:
    store.save_model("t", model(1))
    store.save_model("t", model(2))
    for name in ("current", "previous"):
        (tmp_path / f"state/models/t/{name}.safetensors").write_bytes(b"x")
    assert store.load_model("t") is None
    assert len(list((tmp_path / "state/models/t").glob("*.corrupt-*"))) == 2


@pytest.mark.parametrize("task", ["", "..", "a/b", "UPPER", "a" * 65, "a\x00", "a\n", "."])
def test_a_task_id_never_leaves_its_folder(store: Store, task: str) -> None:
    with pytest.raises(StoreError, match="task id"):
        store.save_model(task, model(1))
    with pytest.raises(StoreError, match="task id"):
        store.load_model(task)
    with pytest.raises(StoreError, match="task id"):
        store.forget_task(task)


def test_only_float32_vectors_are_saved(store: Store) -> None:
    for vector in (np.zeros(3), np.zeros((3, 1), np.float32)):
        with pytest.raises(ValueError, match="give a float32 vector"):
            store.save_model("t", StoredModel(vectors={"working": vector}))  # type: ignore[dict-item]


# --- blobs ----------------------------------------------------------------------------------------


def test_blobs_are_found_by_their_digest(store: Store) -> None:
    digest = store.put_blob(b"weights")
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert store.put_blob(b"weights") == digest
    assert store.get_blob(digest) == b"weights"
    for other in ("0" * 64, "../../etc/passwd", "", digest.upper()):
        assert store.get_blob(other) is None


def test_a_damaged_blob_is_not_given_out_and_can_be_put_again(store: Store, tmp_path: Path) -> None:
    digest = store.put_blob(b"weights")
    path = tmp_path / "state/blobs" / digest
    path.write_bytes(b"w3ights")
    assert store.get_blob(digest) is None
    assert not path.exists()
    path.write_bytes(b"w3ights")
    assert store.put_blob(b"weights") == digest
    assert store.get_blob(digest) == b"weights"


def test_the_blob_unused_for_longest_makes_room(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, cap_bytes=30)
    first, second, third = (blobs.put(bytes([number]) * 10) for number in (1, 2, 3))
    for age, digest in enumerate((second, third, first)):
        os.utime(tmp_path / digest, (age, age))
    fourth = blobs.put(b"\x04" * 10)
    assert [blobs.get(digest) is not None for digest in (first, second, third, fourth)] == [True, False, True, True]
    with pytest.raises(StoreError, match="31 bytes are more than the 30"):
        blobs.put(bytes(31))


# --- the folder -----------------------------------------------------------------------------------


def test_two_services_never_share_a_folder(tmp_path: Path) -> None:
    with Store.open(tmp_path):
        with pytest.raises(StoreError, match=f"{tmp_path}: is in use by process {os.getpid()}"):
            Store.open(tmp_path)
        program = (
            "import sys, pathlib\nfrom grapevine_agent.store.store import Store\n"
            "try: Store.open(pathlib.Path(sys.argv[1]))\nexcept Exception as error: print(error)"
        )
        said = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert f"in use by process {os.getpid()}" in said.stdout
    Store.open(tmp_path).close()


@pytest.mark.parametrize("content", [b"this is no database " * 500, b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_database_is_moved_aside_and_never_overwritten(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "grapevine.db").write_bytes(content)
    with Store.open(tmp_path) as store:
        assert store.records() == []
        store.put_record(record())
    assert "was damaged" in caplog.text
    (aside,) = tmp_path.glob("grapevine.db.corrupt-*")
    assert aside.read_bytes() == content
    with Store.open(tmp_path) as store:
        assert store.records() == [record()]


def test_damage_inside_the_database_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "grapevine.db"
    with Store.open(tmp_path) as store:
        for number in range(300):
            store.put_record(record(topic=f"peer/{number}/announcement"))
    content = bytearray(path.read_bytes())
    content[8192 : len(content) - 4096] = random.Random(1).randbytes(len(content) - 12288)
    path.write_bytes(content)
    with Store.open(tmp_path) as store:
        kept = store.records()
    assert 0 < len(kept) < 300
    assert all(each == record(topic=each.topic) for each in kept)
    assert len(list(tmp_path.glob("grapevine.db.corrupt-*"))) == 1


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "grapevine.db")
    connection.execute("PRAGMA user_version = 99")
    connection.execute(f"PRAGMA application_id = {0x47560000 + 99}")  # as that version would write it
    connection.close()
    with pytest.raises(StoreError, match="newer Grapevine"):
        Store.open(tmp_path)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="GRAPEVINE_STATE_DIR"):
        Store.open(tmp_path / "file" / "state")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.records()


WRITER = """
import itertools, pathlib, sys, time
import numpy as np
from grapevine_agent.store.database import StoredRecord
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
start = int(sys.argv[2])
for version in itertools.count(start):
    sequence = store.next_sequence("own", 0)
    envelope = b"%d" % version
    store.put_record(StoredRecord(topic="t", author="a", sequence=version, expires_at_ms=0, envelope=envelope))
    vectors = {"working": np.full(50_000, version, np.float32)}
    store.save_model("t", StoredModel(vectors=vectors, metadata={"version": version}))
    store.put_blob(b"%d" % version * 1000)
    print(version, sequence, flush=True)
"""


def test_a_kill_at_any_instant_loses_only_the_call_in_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(7)
    version, sequence = 0, 0
    for _ in range(5):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(version + 1)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            written = iter(writer.stdout)
            next(written)  # it runs
            killer = threading.Timer(chance.uniform(0.0, 0.15), writer.send_signal, (signal.SIGKILL,))
            killer.start()
            # A last line without its end was not acknowledged.
            *_, last = [f"{version + 1} {sequence + 1}\n", *(text for text in written if text.endswith("\n"))]
            killer.join()
        version, sequence = map(int, last.split())
        with Store.open(tmp_path) as store:
            assert version_of(store.load_model("t")) in (version, version + 1)
            (held,) = store.records()
            assert held.sequence in (version, version + 1)
            assert held.envelope == b"%d" % held.sequence
            assert store.get_blob(hashlib.sha256(b"%d" % version * 1000).hexdigest()) is not None
            after = store.next_sequence("own", 0)
            assert after in (sequence + 1, sequence + 2)
            version, sequence = version + 1, after
        leftovers = [path for path in tmp_path.rglob("*") if ".tmp-" in path.name]
        assert leftovers == []
    assert caplog.text == ""  # nothing was damaged, nothing moved aside
    assert version > 5
