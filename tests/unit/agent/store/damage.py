"""A campaign of damage: a state folder as a killed agent left it, harmed by seed, and started again.

    python -m tests.unit.agent.store.damage --trials 5000 --seed 1

Each trial harms one file, then starts an agent's service on the folder (without a broker), reads and writes everything,
and starts it once more. Whatever happens, no exception may leave, and what is written must be there afterwards.
The short form of it is a test; this one counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.trust_file import TrustedPeer, write_trust_file
from grapevine_agent.data import recordings as recorded
from grapevine_agent.data.source import DataSource
from grapevine_agent.identity import IdentityError, first_identity
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.database import StoredRecord
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.store import Store
from grapevine_proto.codec import seal
from grapevine_proto.errors import ConfigError
from grapevine_proto.messages import Message, Metrics, Review
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic

NOW_MS = 1_795_000_000_000
TASKS = [f"{number:02x}" * 32 for number in range(8)]
OWN_SEQUENCE = NOW_MS + 77
TEMPLATE_TOML = """[agent]
state_dir = "state"
consent = "never"

[mqtt]
brokers = ["mqtt://127.0.0.1:1"]

[[data]]
name = "room"
kind = "climate"
source = "mqtt"
topic = "house/+/climate"
every_s = 60
columns = { temperature = "$.t" }
"""


@dataclass
class Folder:
    """The folder before it was harmed, and what was in it."""

    path: Path
    peer: str
    records: dict[str, bytes] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    blob: str = ""


def make_folder(place: Path, *, killed: bool) -> Folder:
    """A state folder as a process leaves it: if it is killed, part of everything is in the logs of SQLite only."""
    state, before = place / "state", place / "before"
    place.mkdir(parents=True, exist_ok=True)
    (place / "agent.toml").write_text(TEMPLATE_TOML)
    folder = Folder(place, first_identity(before).peer_id)
    keys = [SigningKey.generate() for _ in range(6)]
    folder.own = [f"peer/{folder.peer}/{leaf}" for leaf in ("announcement", f"task/{TASKS[0]}/review")]
    with Store.open(before) as store:
        _fill(store, folder, keys, 0)
        connection = store._database._file._connection
        assert connection is not None
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _fill(store, folder, keys, 3)
        rows = recorded.Recordings(before / "recordings.db")
        source = recording_source(before / "recordings.db")
        for start in range(0, 400, 100):
            rows.add(_rows(start), [source], NOW_MS / 1000)
        write_trust_file(before, [TrustedPeer(peer=key.peer_id, name="Ada") for key in keys])
        if killed:
            shutil.copytree(before, state)
        rows.close()
    if not killed:
        shutil.copytree(before, state)
    shutil.rmtree(before)
    return folder


def _fill(store: Store, folder: Folder, keys: list[SigningKey], first: int) -> None:
    store.remember_peer(folder.peer)
    for number, key in enumerate(keys[first : first + 3]):
        for task in TASKS:
            topic = TaskTopic(key.peer_id, task, "review")
            review = Review(task=task, approved=True, reason="fine " * 20, valid_until_ms=2 * NOW_MS)
            message = Message(
                sender=key.peer_id,
                session=1,
                sequence=NOW_MS + number,
                body=review,
                created_at_ms=NOW_MS,
                expires_at_ms=2 * NOW_MS,
                receiver_session=0,
            )
            envelope = seal(message, topic, key)
            folder.records[topic.below_root()] = envelope
            store.put_record(
                StoredRecord(
                    topic=topic.below_root(),
                    author=key.peer_id,
                    sequence=NOW_MS + number,
                    expires_at_ms=2 * NOW_MS,
                    envelope=envelope,
                )
            )
    for task in TASKS:
        store.set_membership(task, "left", NOW_MS)
        for round_number in range(10):
            metrics = Metrics(task=task, round=round_number, age=1, loss=0.5, metric=0.9, num_evaluated=9)
            store.add_metrics("self", NOW_MS, metrics)
    for version in (1, 2):
        vectors = {name: np.full(300, version, np.float32) for name in ("parameters", "released")}
        store.save_model(TASKS[0], StoredModel(vectors=vectors, metadata={"age": version, "round": 1}))
    folder.blob = store.put_blob(b"weights " * 200)
    for own in folder.own:
        store.next_sequence(own, OWN_SEQUENCE - 10)
        store.keep_sequences({own: OWN_SEQUENCE})


def _rows(start: int) -> list[recorded.Row]:
    return [
        recorded.Row(source="room", topic="house/1/climate", slot=60 * (29_900_000 + k), run=0, numbers=(20.0 + k,))
        for k in range(start, start + 100)
    ]


def recording_source(path: Path) -> DataSource:
    """The source of the folder's configuration, at `path`."""
    (source,) = load_config(path.parent.parent / "agent.toml", {}).data
    return DataSource(**{**source.__dict__, "path": path})


# --- harm -----------------------------------------------------------------------------------------


def harm_bytes(path: Path, chance: random.Random) -> str:
    """Harm the content of one file as a worn card, a cut wire or a careless copy does."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(("bit",) * 8 + ("byte", "zeros", "noise", "cut", "tail", "empty"))
    place = chance.randrange(max(1, len(content)))
    block = chance.choice((16, 512, 4096))
    aligned = place // block * block
    match kind:
        case "bit" if content:
            content[place] ^= 1 << chance.randrange(8)
        case "byte" if content:
            content[place] = chance.randrange(256)
        case "zeros":
            content[aligned : aligned + block] = bytes(len(content[aligned : aligned + block]))
        case "noise":
            content[aligned : aligned + block] = chance.randbytes(len(content[aligned : aligned + block]))
        case "cut":
            del content[place:]
        case "tail":
            content += chance.randbytes(block)
        case "empty":
            content.clear()
    path.write_bytes(content)
    return kind


# --- a trial --------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a harmed folder."""

    harm: str
    aside: bool = False
    refused: str = ""  # the word of an error that the owner must see: never another's identity
    lost_records: int = 0
    lost_sequences: int = 0
    lost_decisions: int = 0
    lost_rows: int = 0


async def start_and_use(folder: Folder) -> Outcome:
    """Start the agent on the folder, use all of its state, and start it again. Raises what leaves."""
    outcome = Outcome("")
    state = folder.path / "state"
    config = load_config(folder.path / "agent.toml", {})
    with assembled(config) as service:
        assert service.identity.peer_id == folder.peer
        await _restore(service)
        store = service.store
        held = {record.topic: record.envelope for record in store.records()}
        outcome.lost_records = sum(held.get(topic) != envelope for topic, envelope in folder.records.items())
        decided = store.memberships()
        outcome.lost_decisions = sum(decided.get(task) != "left" for task in TASKS)
        outcome.lost_sequences = sum(store.next_sequence(topic, 0) <= OWN_SEQUENCE for topic in folder.own)
        store.newest_sequences(), store.setting("peer"), store.remembered_peer(), store.model_tasks()
        for task in TASKS:
            store.metrics(task)
            store.load_model(task)
        store.get_blob(folder.blob)
        described = recorded.describe(recording_source(state / "recordings.db"), None)
        recorded.load(recording_source(state / "recordings.db"), None)
        outcome.lost_rows = 400 - int(described.facts["rows"])
        assert service.recording is not None
        service.recording._recordings.add(_rows(900), [], NOW_MS / 1000)
        _write_everything(store)
    with Store.open(state) as store:
        assert store.setting("mark") == "here"
        assert store.memberships()["new"] == "joined"
        assert store.load_model("new") is not None
        assert any(record.topic == "peer/new/announcement" for record in store.records())
        assert store.remembered_peer() == folder.peer
    outcome.aside = any(state.rglob("*.corrupt-*"))
    return outcome


async def _restore(service: AgentService) -> None:
    """The first thing that a start does: everything that was kept goes through the core."""
    service._restore()
    for task in list(service._background):
        await task
    await service._saver.finish()


def _write_everything(store: Store) -> None:
    store.set_setting("mark", "here")
    store.set_membership("new", "joined", 1)
    store.save_model("new", StoredModel(vectors={"parameters": np.ones(3, np.float32)}))
    store.put_record(
        StoredRecord(topic="peer/new/announcement", author="new", sequence=1, expires_at_ms=0, envelope=b"x")
    )
    store.forget_record("peer/old/task/t/review", 5)
    store.add_metrics("self", 1, Metrics(task="new", round=1, age=1, loss=0.5, metric=0.9, num_evaluated=9))
    store.put_blob(b"other weights")
    store.next_session(NOW_MS)
    store.keep_sequences({"x": 3})
    store.delete_expired_records(NOW_MS)
    store.delete_record("peer/none/announcement")
    store.forget_task(TASKS[1])


HARMED = (
    "grapevine.db",
    "grapevine.db",
    "grapevine.db",
    "grapevine.db-wal",
    "recordings.db",
    "recordings.db-wal",
    f"models/{TASKS[0]}/current.safetensors",
    "identity.pem",
    "identity.peer",
    "trust.toml",
    "service.lock",
    "blobs",
)


def trial(template: Folder, place: Path, name: str, chance: random.Random) -> Outcome:
    """One copy of the folder, harmed in one file. Only a harmed key may be refused; other exceptions leave."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template.path, place)
    path = place / "state" / (f"blobs/{template.blob}" if name == "blobs" else name)
    if not path.exists():  # the log of a database that was closed
        path = path.with_name(path.name.removesuffix("-wal"))
    kept = path.stat().st_mtime_ns
    harm = harm_bytes(path, chance)
    os.utime(path, ns=(kept, kept))  # a worn card tells nobody when it lost a bit
    try:
        outcome = asyncio.run(start_and_use(replace(template, path=place)))
    except (IdentityError, ConfigError) as error:
        if name != "identity.pem":
            raise
        outcome = Outcome(harm, refused=type(error).__name__)
    outcome.harm = f"{name}: {harm}"
    return outcome


def main() -> None:
    """The long form, with its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="harm only this file")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chance = random.Random(arguments.seed)
    totals: dict[str, Counter[str]] = {}
    left: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        templates = [make_folder(Path(temporary) / f"template-{killed}", killed=killed) for killed in (True, False)]
        started_s = time.monotonic()
        for number in range(arguments.trials):
            name = arguments.only or chance.choice(HARMED)
            tally = totals.setdefault(name, Counter())
            try:
                outcome = trial(templates[number % 2], Path(temporary) / "trial", name, chance)
                tally = totals.setdefault(outcome.harm, Counter()) if arguments.only else tally
            except Exception as error:
                left.append(f"trial {number}, {name}: {type(error).__name__}: {error}")
                tally["EXCEPTION LEFT"] += 1
                continue
            tally["trials"] += 1
            tally["moved aside"] += outcome.aside
            tally["refused"] += bool(outcome.refused)
            for what in ("records", "sequences", "decisions", "rows"):
                tally[f"lost {what}"] += bool(getattr(outcome, f"lost_{what}"))
        seconds = time.monotonic() - started_s
    summary = {name: dict(tally) for name, tally in sorted(totals.items())}
    verdict = f"{arguments.trials} trials in {seconds:.0f} s; {len(left)} exceptions left"
    sys.stdout.write("\n".join([json.dumps(summary, indent=1), verdict, *left[:20], ""]))


if __name__ == "__main__":
    main()
