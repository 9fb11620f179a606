"""Whatever a worn disk does to the state folder, the agent starts, says what it did, and goes on."""

import asyncio
import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tests.disks import small_disk
from tests.unit.agent.store.damage import HARMED, TASKS, Folder, make_folder, start_and_use, trial

from grapevine_agent.store.database import StoredRecord
from grapevine_agent.store.models import StoredModel, _checksum
from grapevine_agent.store.store import Store
from grapevine_proto.errors import StoreError


@pytest.fixture(scope="module", params=[True, False], ids=["killed", "closed"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return make_folder(tmp_path_factory.mktemp("template") / "folder", killed=request.param)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return make_folder(tmp_path_factory.mktemp("template") / "folder", killed=False)


@pytest.fixture
def folder(closed: Folder, tmp_path: Path) -> Folder:
    shutil.copytree(closed.path, tmp_path / "place")
    return Folder(tmp_path / "place", closed.peer, closed.records, closed.own, closed.blob)


def record(number: int) -> StoredRecord:
    return StoredRecord(topic=f"peer/{number}/x", author="a", sequence=1, expires_at_ms=0, envelope=b"e" * 900)


# --- by chance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dict.fromkeys(HARMED))
def test_no_harm_to_a_file_keeps_the_agent_from_starting_or_makes_it_another_peer(
    template: Folder, tmp_path: Path, name: str
) -> None:
    chance = random.Random(f"{name} 7")
    for _ in range(6):
        trial(template, tmp_path / "trial", name, chance)  # raises what leaves; `refused` only for another key


def test_what_is_readable_of_a_damaged_database_is_kept(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    path = folder.path / "state/grapevine.db"
    connection = sqlite3.connect(path)
    one = next(iter(folder.records))
    connection.execute("UPDATE records SET author = CAST(x'ff' AS TEXT) WHERE topic = ?", (one,))
    connection.commit()
    connection.close()
    outcome = asyncio.run(start_and_use(folder))
    assert outcome.aside
    assert (outcome.lost_records, outcome.lost_sequences, outcome.lost_decisions) == (1, 0, 0)
    assert "was damaged (a row of records holds something else" in caplog.text
    assert f"{len(folder.records) - 1} records, " in caplog.text


@pytest.mark.parametrize("killed", [True, False])
def test_a_lost_first_page_costs_no_row(tmp_path: Path, killed: bool) -> None:
    folder = make_folder(tmp_path / "place", killed=killed)
    for name in ("grapevine.db", "recordings.db"):
        path = folder.path / "state" / name
        path.write_bytes(random.Random(1).randbytes(4096) + path.read_bytes()[4096:])
    outcome = asyncio.run(start_and_use(folder))
    lost = (outcome.lost_records, outcome.lost_sequences, outcome.lost_decisions, outcome.lost_rows)
    assert lost == (0, 0, 0, 0)


@pytest.mark.parametrize("killed", [True, False])
def test_a_database_that_was_emptied_is_told_and_read_from_its_log(
    tmp_path: Path, killed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(tmp_path / "place", killed=killed)
    (folder.path / "state/grapevine.db").write_bytes(b"")
    outcome = asyncio.run(start_and_use(folder))
    if killed:
        assert "is empty, and its log is not" in caplog.text
        assert outcome.lost_records < len(folder.records)
        assert (outcome.lost_sequences, outcome.lost_decisions) == (0, 0)
    else:
        assert "grapevine.db was empty, and is begun anew" in caplog.text


# --- what SQLite lets pass ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE records SET sequence = 'text'",
        "UPDATE records SET sequence = -1",
        "UPDATE records SET envelope = 'text'",
        "UPDATE records SET topic = CAST(x'80' AS TEXT) WHERE topic = (SELECT max(topic) FROM records)",
        "UPDATE sequences SET sequence = 1.5",
        "UPDATE sequences SET topic = x'00' WHERE topic = (SELECT max(topic) FROM sequences)",
        "UPDATE memberships SET state = x'ff'",
        "UPDATE memberships SET changed_at_ms = 'soon'",
        "UPDATE settings SET value = x'ff'",
        "DROP TABLE memberships",
        "ALTER TABLE records RENAME COLUMN author TO writer",
        "CREATE TABLE more (x)",
        "DROP INDEX metrics_by_task",
    ],
)
def test_a_database_with_other_content_than_it_was_given_is_replaced(folder: Folder, harm: str) -> None:
    connection = sqlite3.connect(folder.path / "state/grapevine.db")
    connection.execute(harm)
    connection.commit()
    connection.close()
    outcome = asyncio.run(start_and_use(folder))
    assert outcome.aside
    lost = {"UPDATE sequences SET sequence = 1.5": 2}.get(harm, int("UPDATE sequences" in harm))
    assert outcome.lost_sequences == lost  # those that were harmed: they go on from the clock


def test_broken_lines_of_history_are_passed_over(folder: Folder) -> None:
    connection = sqlite3.connect(folder.path / "state/grapevine.db")
    for line in ("'{}'", "'[1]'", "x'ff'", "CAST(x'ff' AS TEXT)", "'nonsense'", "17"):
        connection.execute(f"INSERT INTO metrics (task, peer, at_ms, line) VALUES ('{TASKS[0]}', 'x', 1, {line})")
    connection.execute(f"INSERT INTO metrics (task, peer, at_ms, line) VALUES ('{TASKS[0]}', 'x', 'soon', '{{}}')")
    connection.commit()
    connection.close()
    with Store.open(folder.path / "state") as store:
        assert len(store.metrics(TASKS[0])) == 20
    assert not list((folder.path / "state").glob("*.corrupt-*"))


@pytest.mark.parametrize(("version", "mark"), [(0, None), (3, None), (-7, None), (None, 0), (None, 12345)])
def test_a_damaged_version_is_put_right(folder: Folder, version: int | None, mark: int | None) -> None:
    path = folder.path / "state/grapevine.db"
    for pragma, value in (("user_version", version), ("application_id", mark)):
        if value is not None:
            connection = sqlite3.connect(path)
            connection.execute(f"PRAGMA {pragma} = {value}")
            connection.close()
    outcome = asyncio.run(start_and_use(folder))
    assert not outcome.aside
    assert (outcome.lost_records, outcome.lost_decisions) == (0, 0)


def test_a_row_that_is_no_row_costs_no_recordings(folder: Folder) -> None:
    connection = sqlite3.connect(folder.path / "state/recordings.db")
    for slot, (numbers, label) in enumerate(
        [("[1e999]", "x"), ("{}", "x"), ("nonsense", None), ("[[1]]", None), (b"\xff", None), ("[1]", b"\xff")]
    ):
        row = ("room", "t", slot, 0, numbers, label)
        connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO rows VALUES ('room', CAST(x'80' AS TEXT), 'soon', 'late', '[1]', NULL)")
    connection.commit()
    connection.close()
    outcome = asyncio.run(start_and_use(folder))
    assert not outcome.aside
    assert outcome.lost_rows == -6  # they are counted, and not loaded


def test_recordings_of_another_schema_are_moved_aside(folder: Folder) -> None:
    path = folder.path / "state/recordings.db"
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE rows (source, something)")
    connection.close()
    assert asyncio.run(start_and_use(folder)).lost_rows == 400
    assert list(path.parent.glob("recordings.db.corrupt-*"))


# --- other things in their place ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grapevine.db", "grapevine.db-wal", "recordings.db"])
def test_a_pipe_where_a_database_belongs_is_got_over(folder: Folder, name: str) -> None:
    path = folder.path / "state" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    asyncio.run(start_and_use(folder))


@pytest.mark.parametrize(
    "name",
    [
        "grapevine.db",
        "grapevine.db-wal",
        "grapevine.db-shm",
        "recordings.db",
        "recordings.db-shm",
        "service.lock",
        "identity.peer",
        "trust.toml",
        f"models/{TASKS[0]}/current.safetensors",
        f"models/{TASKS[0]}/previous.safetensors",
        "blobs/BLOB",
    ],
)
def test_a_folder_where_a_file_belongs_is_got_over(folder: Folder, name: str) -> None:
    path = folder.path / "state" / name.replace("BLOB", folder.blob)
    path.unlink(missing_ok=True)
    path.mkdir()
    asyncio.run(start_and_use(folder))


@pytest.mark.parametrize("name", ["models", "blobs", f"models/{TASKS[0]}", "models/new"])
def test_a_file_where_a_folder_belongs_is_got_over(folder: Folder, name: str) -> None:
    path = folder.path / "state" / name
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("no folder")
    asyncio.run(start_and_use(folder))
    assert path.is_dir() or name == f"models/{TASKS[0]}"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_the_log_of_another_database_costs_nothing_that_is_in_the_file(
    folder: Folder, tmp_path: Path, suffix: str
) -> None:
    killed = make_folder(tmp_path / "other", killed=True)
    source = "-wal" if suffix == "-journal" else suffix
    other = killed.path / f"state/grapevine.db{source}"
    content = other.read_bytes() if other.exists() else random.Random(1).randbytes(32_768)
    (folder.path / f"state/grapevine.db{suffix}").write_bytes(content)
    if suffix == "-wal":  # every page of the other is in it: what is read then is the other's, to the last row
        from grapevine_agent.identity import read_identity

        with Store.open(folder.path / "state") as store:
            assert store.remembered_peer() in (killed.peer, read_identity(folder.path / "state").peer_id)
    else:
        outcome = asyncio.run(start_and_use(folder))
        assert (outcome.lost_records, outcome.lost_sequences, outcome.lost_decisions) == (0, 0, 0)


def test_only_the_newest_specimens_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "grapevine.db").write_bytes(b"no database %d" % number * 500)
        os.utime(tmp_path / "grapevine.db", (number, number))
        Store.open(tmp_path).close()
    kept = sorted(tmp_path.glob("grapevine.db.corrupt-*"))
    assert len(kept) == 3
    assert {path.read_bytes()[:15] for path in kept} == {b"no database %dno" % number for number in (3, 4, 5)}


# --- models ---------------------------------------------------------------------------------------


def forge(path: Path, vectors: dict[str, NDArray[Any]], facts: object) -> None:
    """A file whose checksum is right, and whose content is not."""
    text = json.dumps(facts)
    save_file(vectors, path, {"grapevine": text, "crc32": _checksum(text, vectors)})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: forge(path, {"parameters": np.array([1, np.nan], np.float32)}, {}),
        lambda path: forge(path, {"parameters": np.array([1, np.inf], np.float32)}, {}),
        lambda path: forge(path, {"parameters": np.ones((2, 2), np.float32)}, {}),
        lambda path: forge(path, {"parameters": np.ones(3, np.float64)}, {}),
        lambda path: forge(path, {"parameters": np.ones(3, np.float32)}, [1, 2]),
        lambda path: forge(path, {"parameters": np.ones(3, np.float32)}, {"age": 2**70}),
        lambda path: forge(path, {"parameters": np.ones(3, np.float32)}, {"age": float("nan")}),
        lambda path: forge(path, {"parameters": np.ones(3, np.float32)}, {"age": [1]}),
        lambda path: path.write_bytes(b"\xff" * 8 + b"{"),
        lambda path: path.write_bytes((2**40).to_bytes(8, "little") + b"{}"),
        lambda path: path.write_bytes((90_000_000).to_bytes(8, "little") + b"[" * 90_000_000),
    ],
    ids=["nan", "inf", "matrix", "float64", "facts", "huge", "odd", "list", "header", "longer", "deep"],
)
def test_a_model_that_cannot_be_one_gives_way_to_the_previous_one(
    tmp_path: Path, write: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        for version in (1, 2):
            store.save_model("t", StoredModel(vectors={"parameters": np.full(3, version, np.float32)}))
        write(tmp_path / "models/t/current.safetensors")
        found = store.load_model("t")
    assert found is not None
    assert found.vectors["parameters"].tolist() == [1, 1, 1]
    assert "the previous model is used" in caplog.text


# --- permissions ----------------------------------------------------------------------------------

AS_NOBODY = """
import os, sys, pathlib
from grapevine_agent.store.store import Store
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with Store.open(pathlib.Path(sys.argv[1])) as store:
        print(len(store.records()), store.load_model("t"), store.get_blob(sys.argv[2]))
        try:
            store.set_setting("a", "b")
        except Exception as error:
            print(type(error).__name__, error)
except Exception as error:
    print(type(error).__name__, error)
"""


def as_nobody(state: Path, blob: str) -> str:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(state), blob], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A state folder that any user may enter and write to, below the one folder of which that is true."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        state = Path(place) / "state"
        with Store.open(state) as store:
            store.put_record(record(1))
            store.save_model("t", StoredModel(vectors={"parameters": np.ones(3, np.float32)}))
            store.blob = store.put_blob(b"weights")  # type: ignore[attr-defined]
        for path in (state, *state.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield state


def test_files_that_may_not_be_read_are_told_or_got_over(open_to_all: Path) -> None:
    blob = next((open_to_all / "blobs").iterdir()).name
    for path in (open_to_all / "models/t/current.safetensors", open_to_all / "blobs" / blob):
        path.chmod(0o600)
    assert as_nobody(open_to_all, blob).startswith("1 None None")
    assert list((open_to_all / "models/t").glob("current.safetensors.corrupt-*"))
    (open_to_all / "grapevine.db").chmod(0o600)
    assert "StoreError" in (said := as_nobody(open_to_all, blob))
    assert "run as its owner" in said
    assert not list(open_to_all.glob("grapevine.db.corrupt-*"))  # nothing is wrong with it


def test_a_database_that_may_only_be_read_is_read(open_to_all: Path) -> None:
    (open_to_all / "grapevine.db").chmod(0o644)
    said = as_nobody(open_to_all, "0" * 64)
    assert said.startswith("1 ")
    assert "could not write the setting" in said


# --- while it runs --------------------------------------------------------------------------------


def test_damage_that_comes_while_it_runs_is_mended_at_the_next_query(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        for number in range(400):
            store.put_record(record(number))
        store.next_sequence("own", 5000)
        connection = store._database._file._connection
        assert connection is not None
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA shrink_memory")
        content = bytearray((tmp_path / "grapevine.db").read_bytes())
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 40_960] = random.Random(1).randbytes(40_960)
        (tmp_path / "grapevine.db").write_bytes(content)
        held = store.records()
        assert 0 < len(held) < 400
        assert all(each.envelope == b"e" * 900 for each in held)
        assert store.next_sequence("own", 0) == 5001
        store.put_record(record(1000))
    assert caplog.text.count("was damaged") == 1
    with Store.open(tmp_path) as store:
        assert record(1000) in store.records()


# --- disks that take nothing ----------------------------------------------------------------------


def test_a_full_disk_is_started_from_and_written_to_when_it_has_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", num_kb=512) as disk:
        state = disk.path / "state"
        with Store.open(state) as store:
            store.put_record(record(1))
            store.save_model("t", StoredModel(vectors={"parameters": np.ones(3, np.float32)}))
            digest = store.put_blob(b"weights")
        disk.fill()
        with Store.open(state) as store:
            assert store.records() == [record(1)]
            assert store.load_model("t") is not None
            assert store.get_blob(digest) == b"weights"
            with pytest.raises(StoreError, match="disk is full"):
                store.keep_sequences({f"peer/{number}/x": 1 for number in range(3000)})
            with pytest.raises(StoreError, match="No space left"):
                store.save_model("t", StoredModel(vectors={"parameters": np.ones(9000, np.float32)}))
            disk.free()
            store.put_record(record(999))
        with Store.open(state) as store:
            assert record(999) in store.records()
            assert list(state.glob("*.corrupt-*")) == []


def test_a_read_only_disk_is_read_with_what_was_only_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with small_disk(tmp_path / "disk", num_kb=2048) as disk:
        state = disk.path / "state"
        with Store.open(state) as store:
            store.put_record(record(1))
            store.save_model("t", StoredModel(vectors={"parameters": np.ones(3, np.float32)}))
            digest = store.put_blob(b"weights")
            shutil.copytree(state, disk.path / "killed")
        killed = disk.path / "killed"
        assert (killed / "grapevine.db-wal").stat().st_size > 0
        disk.remount("ro")
        with Store.open(killed) as store:
            assert store.records() == [record(1)]
            assert store.load_model("t") is not None
            assert store.get_blob(digest) == b"weights"
            with pytest.raises(StoreError):
                store.put_record(record(2))
            with pytest.raises(StoreError, match="in use by process"):
                Store.open(killed)
            disk.remount("rw")
            store.put_record(record(2))
        with Store.open(killed) as store:
            assert store.records() == [record(1), record(2)]
    assert "read, and not written to for now" in caplog.text
    assert "was damaged" not in caplog.text
