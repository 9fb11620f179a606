"""Updates that are written in fewer bytes, among real agents on a real broker: how many, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tests.e2e.conftest import Connect, SharedBroker
from tests.e2e.learning_here import crowd, rejected, wide_digits

from grapevine_agent.net.events import Arrived
from grapevine_agent.net.transport import Transport
from grapevine_agent.service import clock
from grapevine_lab.overlay.here import until
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.encodings import encode
from grapevine_proto.messages import Encoded, Message, ModelUpdate, Written
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic

pytestmark = pytest.mark.timeout(180)

NUM_HIDDEN = 500
NUM_PARAMETERS = 75 * NUM_HIDDEN + 10
BESIDE_BYTES = 2_000  # of an update, beside its vectors


async def listen(ear: Transport, root: str, sent: list[tuple[int, ModelUpdate]]) -> None:
    """Note each update that the broker hands on, and how many bytes its payload has."""
    async for event in ear.events():
        if isinstance(event, Arrived):
            body = open_envelope(event.payload, topics.parse(root, event.topic)).message.body
            if isinstance(body, ModelUpdate):
                sent.append((len(event.payload), body))


def vectors_of(update: ModelUpdate) -> list[Written]:
    return [vector for vector in (update.full, update.base, update.delta) if vector is not None]


def name_of(vector: Written) -> str:
    return vector.encoding.name if isinstance(vector, Encoded) else "float32"


@pytest.mark.parametrize(
    ("encoding", "strategy", "most"),
    [("int8+zstd", "doubly-weighted", 1 / 3.8), ("top-k+zstd", "delta-sum", 1 / 8)],
    ids=["int8", "top-k"],
)
async def test_members_learn_with_the_bytes_that_their_encoding_promises(
    broker: SharedBroker, connect: Connect, tmp_path: Path, encoding: str, strategy: str, most: float
) -> None:
    built = wide_digits(tmp_path / "digits", hidden=NUM_HIDDEN, strategy=strategy, encodings=[encoding])
    ear = await connect(broker.url, subscribe=(f"{broker.root}/inbox/+/+",))
    sent: list[tuple[int, ModelUpdate]] = []
    listening = asyncio.create_task(listen(ear.transport, broker.root, sent))
    async with crowd(tmp_path, broker.url, broker.root, built, num_learners=3) as town:

        def learned() -> bool:
            merged = min(each.merging.num_merged for each in town.learning())
            return min(town.metrics()) > 0.5 and merged > 8  # more than its own four of ten classes

        await until(learned)
        for learner in town.learners:
            assert set(rejected(learner)) <= {"unknown-base", "not-joined"}
    listening.cancel()
    assert len(sent) > 24
    plain_bytes = sum(4 * NUM_PARAMETERS * len(vectors_of(update)) for _, update in sent)
    assert sum(vector.nbytes for _, update in sent for vector in vectors_of(update)) < most * plain_bytes
    # Nothing else makes up for it: this is all that the broker hands on.
    assert sum(size for size, _ in sent) < most * plain_bytes + BESIDE_BYTES * len(sent)
    # Each in its own: a base as int8, in which there is all of it.
    in_base = {"int8+zstd"} if strategy == "delta-sum" else set()
    assert {name_of(update.base) for _, update in sent if update.base is not None} == in_base
    others = [each for _, update in sent for each in (update.full, update.delta) if each is not None]
    assert {name_of(each) for each in others} == {encoding}


# --- what is refused ------------------------------------------------------------------------------


def says_too_much(encoding: str, num_bytes: int) -> Encoded:
    """A zstd frame that says that there are so many bytes in it."""
    frame = zstandard.ZstdCompressor().compressobj(size=num_bytes)
    content = frame.compress(bytes(1_000)) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return Encoded(ENCODINGS[encoding], content)


def lies(num: int) -> list[tuple[str, Written]]:
    """Vectors that a task of so many parameters, which allows int8+zstd, refuses; and why."""
    rng = np.random.default_rng(0)

    def written(name: str, size: int) -> Encoded:
        return Encoded(ENCODINGS[name], encode(rng.standard_normal(size).astype(np.float32), ENCODINGS[name]))

    honest = written("int8+zstd", num)
    return [
        ("encoding", written("bfloat16", num)),
        ("encoding", written("int8", num)),  # with zstd it would be one of the task's
        ("wrong-shape", written("int8+zstd", num - 1)),
        ("wrong-shape", written("int8+zstd", num + 257)),
        ("wrong-shape", np.zeros(num + 1, np.float32)),
        ("wrong-shape", says_too_much("int8+zstd", 1 << 40)),
        ("malformed", says_too_much("int8+zstd", num)),  # and then there are fewer
        ("malformed", Encoded(honest.encoding, bytes(honest.content[: len(honest.content) // 2]))),
        ("malformed", Encoded(honest.encoding, bytes(honest.content) + b"more")),
    ]


async def test_an_encoding_that_the_task_does_not_allow_and_a_lie_about_lengths_are_counted_and_change_nothing(
    broker: SharedBroker, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="grapevine_agent.service.telling")
    built = wide_digits(tmp_path / "digits", hidden=NUM_HIDDEN, strategy="age-weighted", encodings=["int8+zstd"])
    stranger, key = await connect(broker.url), SigningKey.generate()
    async with crowd(tmp_path, broker.url, broker.root, built) as town:
        victim, other = town.learners[0], town.learners[1].identity.peer_id
        inbox = InboxTopic(victim.identity.peer_id, key.peer_id)
        own, session = clock.now().wall_ms, town.learners[1].core.members.session_of(victim.identity.peer_id)
        merging = town.learning()[0].merging
        await until(lambda: merging.num_merged > 0)
        before, merged, expected = rejected(victim), merging.num_merged, Counter[str]()
        for number, (reason, vector) in enumerate(lies(NUM_PARAMETERS), start=1):
            body = ModelUpdate(
                task=town.task, window=1, version=number, age=10**6, experience=1, samples=1, full=vector
            )
            message = Message(sender=key.peer_id, session=own, sequence=number, body=body, receiver_session=session)
            await stranger.transport.publish(topics.build(broker.root, inbox), seal(message, inbox, key))
            expected[reason] += 1
            await until(lambda: (rejected(victim) - before).total() >= expected.total(), within_s=20.0)
            assert rejected(victim) - before == expected, f"{reason} is what it is counted as"
            assert set(merging.shares) <= {victim.identity.peer_id, other}
        assert "as bfloat16, which the task does not allow" in caplog.text
        assert not victim.core.members.is_member(key.peer_id)
        await until(lambda: merging.num_merged > merged + 3)  # learning goes on
