"""What peers say to each other, as frozen dataclasses: the only form in which the rest of Grapevine sees it.

Two classes of messages, with different rules (see `records` and `replay`):

- *Records* are state: announcements, presence, manifests, reviews, server adverts, applications. They are
  retained by brokers, relayed as the exact bytes that their author signed, and the highest
  sequence of an author on a topic wins.
- *Messages* pass: heartbeats, updates, server models, requests, metrics. Each is accepted once per
  sender's session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.encoding import Encoding
from grapevine_proto.location import Location
from grapevine_proto.topics import LastingTopic

Vector: TypeAlias = NDArray[np.float32]

MAX_TASKS = 100  # that a peer takes part in, as its announcement and its heartbeats name them
MAX_KINDS = 100  # of data that it says it has
MAX_BROKERS = 16  # at which it can be met
MOST_LATITUDE, MOST_LONGITUDE = 9_000, 18_000  # hundredths of a degree
MOST_HOPS = 16  # whatever a sender lets its messages go
MAX_NAMED = 200  # records that one message names or carries: less than 4 kB of names


# --- vectors --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector as it travels: how many numbers it has, only the task's program can say (see `encodings`)."""

    encoding: Encoding
    content: bytes | memoryview = field(repr=False)

    @property
    def nbytes(self) -> int:
        """The bytes that it travels in."""
        return len(self.content)


Written: TypeAlias = Vector | Encoded  # float32 as it lies, or encoded


def plain(vector: Written) -> Vector:
    """A vector that is known to be decoded."""
    assert not isinstance(vector, Encoded)
    return vector


# --- records --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerAnnouncement:
    """Who I am, what I have, and which tasks I am a member of."""

    name: str = ""  # for people; never an identity
    profile: str = ""
    cores: int = 0
    memory_mb: int = 0
    data_kinds: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    brokers: tuple[str, ...] = ()  # URLs without credentials at which I can be met
    lacks: int = 0  # counts up: the broker did not give me all its records
    records: int = 0  # a digest of the task records that I hold, 64 bits; 0: not said, or none
    gateway: bool = False  # between the brokers that I am connected to
    site: str = ""  # where I am, in the words of my owner
    location: Location | None = None  # and on the globe; None: not said
    carries: int = 0  # of a gateway: the largest packet, in bytes, that all its brokers take; 0: not said
    labels: tuple[tuple[str, str], ...] = ()  # of my owner's, sorted
    traits: tuple[str, ...] = ()  # what I have
    offers: tuple[str, ...] = ()  # components of applications that I would run (see `application.offer`)
    running: tuple[str, ...] = ()  # and those that run here


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerState:
    """Whether I am there, at this broker. It sends the offline form as my will when it loses me; a `goodbye` I say."""

    online: bool
    connection: int = 0  # counts those of a session, to all brokers: the one that this is said of
    goodbye: bool = False
    asleep_until_ms: int = 0  # with a goodbye: when it means to be back, by its own clock; 0: it is gone


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPublication:
    """A task: its manifest as published bytes (their SHA-256 is the task's name), or its retraction."""

    manifest: bytes = b""
    retracted: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplicationPublication:
    """What is to run where: an application's bytes (their SHA-256 is its id), or that it is deleted."""

    spec: bytes = b""
    deleted: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """A reviewer's verdict on a task or an application, or that there is none any more (`withdrawn`)."""

    task: str  # or the application's id
    approved: bool
    reason: str = ""
    valid_until_ms: int = 0
    withdrawn: bool = False  # never with `approved`


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAdvert:
    """An optional server of a task: there, and which model it holds. Its will says `online=False`.

    `group`: it is one of several that share the members; empty: every update goes to it. `takes_shared`: it has the
    shared subscription of its group.
    """

    task: str
    online: bool
    model_version: int = 0
    contributors: tuple[str, ...] = ()
    heartbeat_s: float = 0.0
    group: str = ""
    takes_shared: bool = False


# --- messages that pass ---------------------------------------------------------------------------

Which: TypeAlias = Literal["latest", "best"]  # of a member's released models


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """How a released model did on its member's own held-out samples: a claim, as everything numeric.

    `rounds_since`: the member's own rounds since a best model of it was better by more than a thousandth.
    """

    metric: float
    age: int
    version: int
    num_evaluated: int
    rounds_since: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskProgress:
    """One task's line in a heartbeat: the clock that staleness is measured with, and the best model so far."""

    task: str
    version: int
    age: int
    best: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """I am alive, and this far.

    `incarnation`: from 1, and one more for each suspicion that I contradicted; 0: I do not answer probes. `quiet_s`: so
    much later than it is due a heartbeat of mine may come, and lately did.
    """

    progress: tuple[TaskProgress, ...] = ()
    incarnation: int = 0
    quiet_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModelUpdate:
    """A member's model, for one other member (or a server) to merge.

    Either `full` (θ, float32 [p]) or `delta` (θ − base) is given; with `delta`, `base` is given
    unless the receiver is known to hold the base whose digest is `base_digest`: the base as it was
    decoded, if it travelled encoded. `buffers` are the float buffers (float32 [b]). Everything numeric
    here is a *claim* of its sender.
    """

    task: str
    window: int
    version: int
    age: int
    experience: int
    samples: int
    full: Written | None = None
    base: Written | None = None
    delta: Written | None = None
    base_digest: bytes = b""
    server_version: int = 0
    buffers: Written = field(default_factory=lambda: np.empty(0, np.float32))
    contributions: Mapping[str, int] = field(default_factory=dict)  # peer → its newest version in the model
    is_answer: bool = False  # to an update of its receiver: it is not answered
    wants_receipt: bool = False  # of a server of a group, once it is taken
    server_versions: Mapping[str, int] = field(
        default_factory=dict
    )  # to a group: of each server what `server_version` is


@dataclass(frozen=True, kw_only=True)
class BaseReceipt:
    """I hold the base of yours whose SHA-256 this is; or none, where it is empty. Deltas from it may come alone."""

    task: str
    base_digest: bytes = b""


@dataclass(frozen=True, kw_only=True)
class UpdateReceipt:
    """A server of a group has taken this update of yours."""

    task: str
    version: int


@dataclass(frozen=True, kw_only=True)
class ServerModel:
    """The model that a server has aggregated, published once for all who read it."""

    task: str
    model_version: int
    age: int
    full: Written
    buffers: Written = field(default_factory=lambda: np.empty(0, np.float32))
    contributions: Mapping[str, int] = field(default_factory=dict)  # peer → its newest version in the model
    members: tuple[str, ...] = ()  # who it is for; empty: everybody
    cluster: int = 0  # cluster 0 is also for peers that no cluster names


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a voice weighed in a merge."""

    peer: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """How a member is doing at a task; `metric` and `loss` are of its released model. None: it was not measured.

    `baseline` is what a model without any learning comes to on the same samples, `metric_in_units` the metric in the
    units of the member's data, where that is another number.
    """

    task: str
    round: int
    age: int
    loss: float | None
    metric: float | None
    num_evaluated: int  # held-out samples; 0: there are none, and neither loss nor metric
    staleness: float | None = None
    energy_j: float | None = None
    server: str = "unknown"  # how the member sees the task's server
    num_peers: int = 0
    shares: tuple[Share, ...] = ()  # of the last merge, the largest first
    best: Figure | None = None
    baseline: float | None = None
    baseline_name: str = ""
    metric_in_units: float | None = None
    round_energy_j: float | None = None  # of `energy_j`, what the last round's training drew
    is_metered: bool = False  # measured, and not computed from what the profile says


@dataclass(frozen=True, kw_only=True)
class BlobRequest:
    """Please send me the bytes with this SHA-256 (64 hex digits): a task's initial weights."""

    task: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Blob:
    """The bytes that were asked for. The receiver checks the digest before it looks inside."""

    task: str
    digest: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """Please send me the model of this task that you would use yourself, or the best that you have had."""

    task: str
    cluster: int = 0  # of a server that holds clusters
    which: Which = "latest"


@dataclass(frozen=True, kw_only=True)
class ReleasedModel:
    """The model that a member evaluates and uses, or that a server has aggregated; or why it is not given.

    `full` is float32 [p], `buffers` float32 [b]. `num_evaluated` 0 means that nobody has evaluated it; then loss and
    metric are None. `best` and `latest` say how both of a member's models have done, whichever this is.
    """

    task: str
    age: int = 0
    round: int = 0
    version: int = 0
    full: Written = field(default_factory=lambda: np.empty(0, np.float32))
    buffers: Written = field(default_factory=lambda: np.empty(0, np.float32))
    contributions: Mapping[str, int] = field(default_factory=dict)
    strategy: str = ""
    num_evaluated: int = 0
    loss: float | None = None
    metric: float | None = None
    server: bool = False
    cluster: int = 0
    members: tuple[str, ...] = ()
    refusal: str = ""
    steps: int = 0  # that a member's schedule is at: its own, or its model's if these are more
    which: Which = "latest"
    best: Figure | None = None
    latest: Figure | None = None
    baseline: float | None = None
    baseline_name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkRequest:
    """Please send me these chunks of the bulk with this digest (32 bytes), or its index."""

    digest: bytes
    index: bool = False
    chunks: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkRefusal:
    """I do not hold the bulk with this digest (32 bytes)."""

    digest: bytes
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Are you there? `suspected`: the incarnation in which you are suspected not to be; 0: you are not."""

    nonce: int
    suspected: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRequest:
    """Please probe this peer for me: I hear nothing of it. `session` is its newest, as far as I know."""

    nonce: int
    peer: str
    session: int
    suspected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeAnswer:
    """I am there, in this incarnation; or `peer` has answered me, in that session and incarnation of its own."""

    nonce: int
    incarnation: int
    peer: str = ""
    session: int = 0
    hops: int = 0  # of the probe, where it is our own answer


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDigests:
    """I hold these records of tasks: their short names (8 bytes, see `short_names`) and sequences."""

    sequences: Mapping[bytes, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRequest:
    """Please send me the records with these short names; without any: please say which you hold."""

    names: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CarriedRecord:
    """A record of somebody, the exact bytes, and its topic below the root."""

    topic: LastingTopic
    envelope: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordBatch:
    """The records that were asked for, or some of them."""

    records: tuple[CarriedRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A body whose large fields are on their way, in a bulk: what it will be of, and what was read of it so far."""

    kind: type[ModelUpdate] | type[ServerModel] | type[ReleasedModel] | type[Blob]
    task: str
    rest: bytes = field(repr=False)  # the body without them, as it was signed


Record: TypeAlias = PeerAnnouncement | PeerState | TaskPublication | Review | ServerAdvert | ApplicationPublication
Passing: TypeAlias = (
    Heartbeat
    | ModelUpdate
    | BaseReceipt
    | UpdateReceipt
    | ServerModel
    | Metrics
    | BlobRequest
    | Blob
    | ModelRequest
    | ReleasedModel
    | ChunkRequest
    | ChunkRefusal
    | Probe
    | ProbeRequest
    | ProbeAnswer
    | RecordDigests
    | RecordRequest
    | RecordBatch
    | Apart
)
Body: TypeAlias = Record | Passing

RECORDS = (PeerAnnouncement, PeerState, TaskPublication, Review, ServerAdvert, ApplicationPublication)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A body with what its sender signed around it.

    `session` is a number that grows with each attempt to connect (unix milliseconds), `sequence`
    grows within it; times are the sender's wall clock in milliseconds, 0 for "never expires".
    `receiver_session` echoes the receiver's session in inbox messages: an old recording does not fit.
    """

    sender: str
    session: int
    sequence: int
    body: Body
    created_at_ms: int = 0
    expires_at_ms: int = 0
    hop_limit: int = 4
    receiver_session: int = 0
