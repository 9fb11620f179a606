"""One message of each kind, for tests that must hold for all of them."""

import hashlib

import numpy as np

from grapevine_proto import messages as m
from grapevine_proto.encoding import Encoding
from grapevine_proto.location import Location
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import GroupTopic, InboxTopic, PeerTopic, TaskTopic, Topic

KEY = SigningKey(bytes(range(32)))
ME = KEY.peer_id
OTHER = "b" * 20
TASK = "7" * 64
MANIFEST = b"any bytes: the codec of manifests reads them, not this one"
MANIFEST_ID = hashlib.sha256(MANIFEST).hexdigest()
VECTOR = np.array([1.5, -2.0, 0.0], np.float32)
BUFFERS = np.array([0.25], np.float32)
CONTRIBUTIONS = {OTHER: 4}
HALVES = m.Encoded(Encoding("float16"), b"\x00\x3e\x00\xc0\x00\x00")
PACKED = m.Encoded(Encoding("int8", zstd=True), b"any bytes: what is in them, the intake finds out")
BEST = m.Figure(metric=0.0, age=40, version=4, num_evaluated=360, rounds_since=12)

EVERY_BODY: list[tuple[Topic, m.Body]] = [
    (
        PeerTopic(ME, "announcement"),
        m.PeerAnnouncement(
            name="kitchen",
            profile="generic",
            cores=4,
            memory_mb=900,
            data_kinds=("digits-8x8",),
            tasks=(TASK,),
            brokers=("mqtt://hub",),
        ),
    ),
    (
        PeerTopic(ME, "announcement"),
        m.PeerAnnouncement(site="lake", location=Location(latitude=-4137, longitude=17412)),
    ),
    (PeerTopic(ME, "state"), m.PeerState(online=True)),
    (PeerTopic(ME, "state"), m.PeerState(online=False)),
    (PeerTopic(ME, "state"), m.PeerState(online=False, goodbye=True)),
    (TaskTopic(ME, MANIFEST_ID, "manifest"), m.TaskPublication(manifest=MANIFEST)),
    (TaskTopic(ME, TASK, "manifest"), m.TaskPublication(retracted=True, reason="a better one is out")),
    (TaskTopic(ME, TASK, "review"), m.Review(task=TASK, approved=False, reason="leaks", valid_until_ms=99)),
    (TaskTopic(ME, TASK, "review"), m.Review(task=TASK, approved=False, withdrawn=True)),
    (
        TaskTopic(ME, TASK, "server"),
        m.ServerAdvert(task=TASK, online=True, model_version=3, contributors=(OTHER,), heartbeat_s=1.5),
    ),
    (
        PeerTopic(ME, "heartbeat"),
        m.Heartbeat(progress=(m.TaskProgress(task=TASK, version=5, age=50),)),
    ),
    (
        PeerTopic(ME, "heartbeat"),
        m.Heartbeat(progress=(m.TaskProgress(task=TASK, version=5, age=50, best=BEST),)),
    ),
    (
        InboxTopic(OTHER, ME),
        m.ModelUpdate(
            task=TASK,
            window=2,
            version=3,
            age=20,
            experience=640,
            samples=32,
            full=VECTOR,
            buffers=BUFFERS,
            contributions=CONTRIBUTIONS,
        ),
    ),
    (
        InboxTopic(OTHER, ME),
        m.ModelUpdate(
            task=TASK,
            window=2,
            version=3,
            age=20,
            experience=640,
            samples=32,
            base=VECTOR,
            delta=VECTOR * 2,
            base_digest=b"d" * 32,
            buffers=BUFFERS,
            is_answer=True,
        ),
    ),
    (
        InboxTopic(OTHER, ME),
        m.ModelUpdate(
            task=TASK,
            window=2,
            version=3,
            age=20,
            experience=640,
            samples=32,
            base=HALVES,
            delta=m.Encoded(Encoding("top-k"), b"\x00" * 4),
            base_digest=b"d" * 32,
            buffers=HALVES,
        ),
    ),
    (
        TaskTopic(ME, TASK, "model"),
        m.ServerModel(task=TASK, model_version=9, age=70, full=PACKED, buffers=HALVES, contributions=CONTRIBUTIONS),
    ),
    (InboxTopic(OTHER, ME), m.ReleasedModel(task=TASK, age=40, full=HALVES, buffers=BUFFERS)),
    (InboxTopic(OTHER, ME), m.BaseReceipt(task=TASK, base_digest=b"d" * 32)),
    (InboxTopic(OTHER, ME), m.BaseReceipt(task=TASK)),
    (
        TaskTopic(ME, TASK, "server"),
        m.ServerAdvert(task=TASK, online=True, heartbeat_s=1.0, group="barn", takes_shared=True),
    ),
    (
        GroupTopic(TASK, "barn", ME),
        m.ModelUpdate(
            task=TASK,
            window=2,
            version=3,
            age=20,
            experience=640,
            samples=32,
            full=VECTOR,
            buffers=BUFFERS,
            wants_receipt=True,
            server_versions={OTHER: 4},
        ),
    ),
    (InboxTopic(OTHER, ME), m.UpdateReceipt(task=TASK, version=3)),
    (
        TaskTopic(ME, TASK, "model"),
        m.ServerModel(task=TASK, model_version=9, age=70, full=VECTOR, buffers=BUFFERS, contributions=CONTRIBUTIONS),
    ),
    (
        TaskTopic(ME, TASK, "metrics"),
        m.Metrics(task=TASK, round=4, age=40, loss=0.5, metric=0.9, num_evaluated=360, staleness=1.5, server="suspect"),
    ),
    (InboxTopic(OTHER, ME), m.BlobRequest(task=TASK, digest="a" * 64)),
    (InboxTopic(OTHER, ME), m.Blob(task=TASK, digest="a" * 64, content=b"weights")),
    (InboxTopic(OTHER, ME), m.ModelRequest(task=TASK, cluster=2)),
    (
        InboxTopic(OTHER, ME),
        m.ReleasedModel(
            task=TASK,
            age=70,
            round=7,
            version=6,
            full=VECTOR,
            buffers=BUFFERS,
            contributions=CONTRIBUTIONS,
            strategy="fedavg",
            num_evaluated=360,
            loss=0.25,
            metric=0.9,
            server=True,
            cluster=1,
            members=(OTHER,),
            steps=80,
        ),
    ),
    (
        InboxTopic(OTHER, ME),
        m.ReleasedModel(
            task=TASK,
            age=40,
            full=VECTOR,
            num_evaluated=360,
            loss=0.0,
            metric=0.0,
            which="best",
            best=BEST,
            latest=m.Figure(metric=0.75, age=50, version=5, num_evaluated=360),
            baseline=0.5,
            baseline_name="majority class",
        ),
    ),
    (InboxTopic(OTHER, ME), m.ModelRequest(task=TASK, which="best")),
    (
        TaskTopic(ME, TASK, "metrics"),
        m.Metrics(
            task=TASK,
            round=4,
            age=40,
            loss=0.0,
            metric=0.0,
            num_evaluated=360,
            staleness=0.0,
            energy_j=0.0,
            best=BEST,
            baseline=0.25,
            baseline_name="last value",
            metric_in_units=0.0,
            round_energy_j=0.0,
            is_metered=True,
        ),
    ),
    (TaskTopic(ME, TASK, "metrics"), m.Metrics(task=TASK, round=4, age=40, loss=None, metric=None, num_evaluated=0)),
    (InboxTopic(OTHER, ME), m.ReleasedModel(task=TASK, refusal="only members may have it")),
    (InboxTopic(OTHER, ME), m.ChunkRequest(digest=b"d" * 32, index=True, chunks=(0, 5, 2))),
    (InboxTopic(OTHER, ME), m.ChunkRefusal(digest=b"d" * 32, reason="not held any more")),
    (PeerTopic(ME, "heartbeat"), m.Heartbeat(incarnation=3, quiet_s=12.5)),
    (InboxTopic(OTHER, ME), m.Probe(nonce=9, suspected=2)),
    (InboxTopic(OTHER, ME), m.Probe(nonce=9)),
    (InboxTopic(OTHER, ME), m.ProbeRequest(nonce=9, peer="c" * 20, session=1_700_000_000_000, suspected=2)),
    (InboxTopic(OTHER, ME), m.ProbeAnswer(nonce=9, incarnation=3, hops=16)),
    (InboxTopic(OTHER, ME), m.ProbeAnswer(nonce=9, incarnation=3, peer="c" * 20, session=1_700_000_000_000)),
    (PeerTopic(ME, "announcement"), m.PeerAnnouncement(name="porch", lacks=3, records=(1 << 64) - 1)),
    (InboxTopic(OTHER, ME), m.RecordDigests(sequences={b"12345678": 4, b"abcdefgh": 5})),
    (InboxTopic(OTHER, ME), m.RecordRequest(names=(b"12345678", b"abcdefgh"))),
    (InboxTopic(OTHER, ME), m.RecordRequest()),
    (
        InboxTopic(OTHER, ME),
        m.RecordBatch(records=(m.CarriedRecord(topic=TaskTopic(OTHER, TASK, "review"), envelope=b"as signed"),)),
    ),
]


def message(body: m.Body, **changes: int) -> m.Message:
    """A message of ours with this body."""
    fields = {"session": 1_700_000_000_000, "sequence": 7, "created_at_ms": 1_700_000_000_001} | changes
    return m.Message(sender=ME, body=body, **fields)
