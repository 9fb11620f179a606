from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Numbers(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NUMBERS_FLOAT32: _ClassVar[Numbers]
    NUMBERS_FLOAT16: _ClassVar[Numbers]
    NUMBERS_BFLOAT16: _ClassVar[Numbers]
    NUMBERS_INT8: _ClassVar[Numbers]
    NUMBERS_TOP_K: _ClassVar[Numbers]

class Which(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHICH_LATEST: _ClassVar[Which]
    WHICH_BEST: _ClassVar[Which]
NUMBERS_FLOAT32: Numbers
NUMBERS_FLOAT16: Numbers
NUMBERS_BFLOAT16: Numbers
NUMBERS_INT8: Numbers
NUMBERS_TOP_K: Numbers
WHICH_LATEST: Which
WHICH_BEST: Which

class Envelope(_message.Message):
    __slots__ = ("message", "sealed", "public_key", "signature", "hops")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    sealed: bytes
    public_key: bytes
    signature: bytes
    hops: int
    def __init__(self, message: _Optional[bytes] = ..., sealed: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., hops: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("version", "sender", "session", "sequence", "created_at_ms", "expires_at_ms", "hop_limit", "receiver_session", "bulk", "announcement", "state", "publication", "review", "server_advert", "application", "heartbeat", "update", "server_model", "metrics", "blob_request", "blob", "model_request", "released_model", "base_receipt", "chunk_request", "chunk_refusal", "probe", "probe_request", "probe_answer", "update_receipt", "record_digests", "record_request", "record_batch")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    HOP_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_SESSION_FIELD_NUMBER: _ClassVar[int]
    BULK_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCEMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    SERVER_ADVERT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_MODEL_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BLOB_REQUEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    MODEL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RELEASED_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    PROBE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PROBE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RECORD_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    RECORD_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RECORD_BATCH_FIELD_NUMBER: _ClassVar[int]
    version: int
    sender: str
    session: int
    sequence: int
    created_at_ms: int
    expires_at_ms: int
    hop_limit: int
    receiver_session: int
    bulk: Bulk
    announcement: PeerAnnouncement
    state: PeerState
    publication: TaskPublication
    review: Review
    server_advert: ServerAdvert
    application: ApplicationPublication
    heartbeat: Heartbeat
    update: ModelUpdate
    server_model: ServerModel
    metrics: Metrics
    blob_request: BlobRequest
    blob: Blob
    model_request: ModelRequest
    released_model: ReleasedModel
    base_receipt: BaseReceipt
    chunk_request: ChunkRequest
    chunk_refusal: ChunkRefusal
    probe: Probe
    probe_request: ProbeRequest
    probe_answer: ProbeAnswer
    update_receipt: UpdateReceipt
    record_digests: RecordDigests
    record_request: RecordRequest
    record_batch: RecordBatch
    def __init__(self, version: _Optional[int] = ..., sender: _Optional[str] = ..., session: _Optional[int] = ..., sequence: _Optional[int] = ..., created_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., hop_limit: _Optional[int] = ..., receiver_session: _Optional[int] = ..., bulk: _Optional[_Union[Bulk, _Mapping]] = ..., announcement: _Optional[_Union[PeerAnnouncement, _Mapping]] = ..., state: _Optional[_Union[PeerState, _Mapping]] = ..., publication: _Optional[_Union[TaskPublication, _Mapping]] = ..., review: _Optional[_Union[Review, _Mapping]] = ..., server_advert: _Optional[_Union[ServerAdvert, _Mapping]] = ..., application: _Optional[_Union[ApplicationPublication, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., update: _Optional[_Union[ModelUpdate, _Mapping]] = ..., server_model: _Optional[_Union[ServerModel, _Mapping]] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., blob_request: _Optional[_Union[BlobRequest, _Mapping]] = ..., blob: _Optional[_Union[Blob, _Mapping]] = ..., model_request: _Optional[_Union[ModelRequest, _Mapping]] = ..., released_model: _Optional[_Union[ReleasedModel, _Mapping]] = ..., base_receipt: _Optional[_Union[BaseReceipt, _Mapping]] = ..., chunk_request: _Optional[_Union[ChunkRequest, _Mapping]] = ..., chunk_refusal: _Optional[_Union[ChunkRefusal, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ..., probe_request: _Optional[_Union[ProbeRequest, _Mapping]] = ..., probe_answer: _Optional[_Union[ProbeAnswer, _Mapping]] = ..., update_receipt: _Optional[_Union[UpdateReceipt, _Mapping]] = ..., record_digests: _Optional[_Union[RecordDigests, _Mapping]] = ..., record_request: _Optional[_Union[RecordRequest, _Mapping]] = ..., record_batch: _Optional[_Union[RecordBatch, _Mapping]] = ...) -> None: ...

class Bulk(_message.Message):
    __slots__ = ("digest", "num_bytes", "fields", "lengths", "index")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    num_bytes: int
    fields: _containers.RepeatedScalarFieldContainer[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    index: bytes
    def __init__(self, digest: _Optional[bytes] = ..., num_bytes: _Optional[int] = ..., fields: _Optional[_Iterable[int]] = ..., lengths: _Optional[_Iterable[int]] = ..., index: _Optional[bytes] = ...) -> None: ...

class PeerAnnouncement(_message.Message):
    __slots__ = ("name", "profile", "cores", "memory_mb", "data_kinds", "tasks", "brokers", "lacks", "records", "gateway", "site", "location", "carries", "labels", "traits", "offers", "running")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    DATA_KINDS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    CARRIES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    name: str
    profile: str
    cores: int
    memory_mb: int
    data_kinds: _containers.RepeatedScalarFieldContainer[str]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    brokers: _containers.RepeatedScalarFieldContainer[str]
    lacks: int
    records: int
    gateway: bool
    site: str
    location: Location
    carries: int
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    traits: _containers.RepeatedScalarFieldContainer[str]
    offers: _containers.RepeatedScalarFieldContainer[str]
    running: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., profile: _Optional[str] = ..., cores: _Optional[int] = ..., memory_mb: _Optional[int] = ..., data_kinds: _Optional[_Iterable[str]] = ..., tasks: _Optional[_Iterable[str]] = ..., brokers: _Optional[_Iterable[str]] = ..., lacks: _Optional[int] = ..., records: _Optional[int] = ..., gateway: _Optional[bool] = ..., site: _Optional[str] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., carries: _Optional[int] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., traits: _Optional[_Iterable[str]] = ..., offers: _Optional[_Iterable[str]] = ..., running: _Optional[_Iterable[str]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("latitude", "longitude")
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    latitude: int
    longitude: int
    def __init__(self, latitude: _Optional[int] = ..., longitude: _Optional[int] = ...) -> None: ...

class PeerState(_message.Message):
    __slots__ = ("online", "connection", "goodbye", "asleep_until_ms")
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    ASLEEP_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    online: bool
    connection: int
    goodbye: bool
    asleep_until_ms: int
    def __init__(self, online: _Optional[bool] = ..., connection: _Optional[int] = ..., goodbye: _Optional[bool] = ..., asleep_until_ms: _Optional[int] = ...) -> None: ...

class TaskPublication(_message.Message):
    __slots__ = ("manifest", "retraction")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    RETRACTION_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    retraction: Retraction
    def __init__(self, manifest: _Optional[bytes] = ..., retraction: _Optional[_Union[Retraction, _Mapping]] = ...) -> None: ...

class Retraction(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ApplicationPublication(_message.Message):
    __slots__ = ("spec", "deletion")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DELETION_FIELD_NUMBER: _ClassVar[int]
    spec: bytes
    deletion: Retraction
    def __init__(self, spec: _Optional[bytes] = ..., deletion: _Optional[_Union[Retraction, _Mapping]] = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("task", "approved", "reason", "valid_until_ms", "withdrawn")
    TASK_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    task: str
    approved: bool
    reason: str
    valid_until_ms: int
    withdrawn: bool
    def __init__(self, task: _Optional[str] = ..., approved: _Optional[bool] = ..., reason: _Optional[str] = ..., valid_until_ms: _Optional[int] = ..., withdrawn: _Optional[bool] = ...) -> None: ...

class ServerAdvert(_message.Message):
    __slots__ = ("task", "online", "model_version", "contributors", "heartbeat_s", "group", "takes_shared")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TAKES_SHARED_FIELD_NUMBER: _ClassVar[int]
    task: str
    online: bool
    model_version: int
    contributors: _containers.RepeatedScalarFieldContainer[str]
    heartbeat_s: float
    group: str
    takes_shared: bool
    def __init__(self, task: _Optional[str] = ..., online: _Optional[bool] = ..., model_version: _Optional[int] = ..., contributors: _Optional[_Iterable[str]] = ..., heartbeat_s: _Optional[float] = ..., group: _Optional[str] = ..., takes_shared: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("progress", "incarnation", "quiet_s")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    progress: _containers.RepeatedCompositeFieldContainer[TaskProgress]
    incarnation: int
    quiet_s: float
    def __init__(self, progress: _Optional[_Iterable[_Union[TaskProgress, _Mapping]]] = ..., incarnation: _Optional[int] = ..., quiet_s: _Optional[float] = ...) -> None: ...

class TaskProgress(_message.Message):
    __slots__ = ("task", "version", "age", "best")
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    version: int
    age: int
    best: Figure
    def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ..., age: _Optional[int] = ..., best: _Optional[_Union[Figure, _Mapping]] = ...) -> None: ...

class Figure(_message.Message):
    __slots__ = ("metric", "age", "version", "num_evaluated", "rounds_since")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUM_EVALUATED_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_SINCE_FIELD_NUMBER: _ClassVar[int]
    metric: float
    age: int
    version: int
    num_evaluated: int
    rounds_since: int
    def __init__(self, metric: _Optional[float] = ..., age: _Optional[int] = ..., version: _Optional[int] = ..., num_evaluated: _Optional[int] = ..., rounds_since: _Optional[int] = ...) -> None: ...

class VectorEncoding(_message.Message):
    __slots__ = ("numbers", "zstd")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    ZSTD_FIELD_NUMBER: _ClassVar[int]
    numbers: Numbers
    zstd: bool
    def __init__(self, numbers: _Optional[_Union[Numbers, str]] = ..., zstd: _Optional[bool] = ...) -> None: ...

class ModelUpdate(_message.Message):
    __slots__ = ("task", "window", "version", "age", "experience", "samples", "full", "base", "delta", "base_digest", "buffers", "contributions", "server_version", "encoding", "base_encoding", "buffers_encoding", "is_answer", "wants_receipt", "server_versions")
    TASK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    EXPERIENCE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    BASE_ENCODING_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_ENCODING_FIELD_NUMBER: _ClassVar[int]
    IS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    WANTS_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    task: str
    window: int
    version: int
    age: int
    experience: int
    samples: int
    full: bytes
    base: bytes
    delta: bytes
    base_digest: bytes
    buffers: bytes
    contributions: Contributions
    server_version: int
    encoding: VectorEncoding
    base_encoding: VectorEncoding
    buffers_encoding: VectorEncoding
    is_answer: bool
    wants_receipt: bool
    server_versions: Contributions
    def __init__(self, task: _Optional[str] = ..., window: _Optional[int] = ..., version: _Optional[int] = ..., age: _Optional[int] = ..., experience: _Optional[int] = ..., samples: _Optional[int] = ..., full: _Optional[bytes] = ..., base: _Optional[bytes] = ..., delta: _Optional[bytes] = ..., base_digest: _Optional[bytes] = ..., buffers: _Optional[bytes] = ..., contributions: _Optional[_Union[Contributions, _Mapping]] = ..., server_version: _Optional[int] = ..., encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ..., base_encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ..., buffers_encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ..., is_answer: _Optional[bool] = ..., wants_receipt: _Optional[bool] = ..., server_versions: _Optional[_Union[Contributions, _Mapping]] = ...) -> None: ...

class BaseReceipt(_message.Message):
    __slots__ = ("task", "base_digest")
    TASK_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    base_digest: bytes
    def __init__(self, task: _Optional[str] = ..., base_digest: _Optional[bytes] = ...) -> None: ...

class UpdateReceipt(_message.Message):
    __slots__ = ("task", "version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    version: int
    def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Contributions(_message.Message):
    __slots__ = ("peers", "versions")
    PEERS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, peers: _Optional[_Iterable[str]] = ..., versions: _Optional[_Iterable[int]] = ...) -> None: ...

class ServerModel(_message.Message):
    __slots__ = ("task", "model_version", "age", "full", "buffers", "contributions", "members", "cluster", "encoding", "buffers_encoding")
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_ENCODING_FIELD_NUMBER: _ClassVar[int]
    task: str
    model_version: int
    age: int
    full: bytes
    buffers: bytes
    contributions: Contributions
    members: _containers.RepeatedScalarFieldContainer[str]
    cluster: int
    encoding: VectorEncoding
    buffers_encoding: VectorEncoding
    def __init__(self, task: _Optional[str] = ..., model_version: _Optional[int] = ..., age: _Optional[int] = ..., full: _Optional[bytes] = ..., buffers: _Optional[bytes] = ..., contributions: _Optional[_Union[Contributions, _Mapping]] = ..., members: _Optional[_Iterable[str]] = ..., cluster: _Optional[int] = ..., encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ..., buffers_encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("task", "round", "age", "loss", "metric", "num_evaluated", "staleness", "energy_j", "server", "num_peers", "shares", "edition", "best", "baseline", "baseline_name", "metric_in_units", "round_energy_j", "is_metered")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    NUM_EVALUATED_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    NUM_PEERS_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    EDITION_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    METRIC_IN_UNITS_FIELD_NUMBER: _ClassVar[int]
    ROUND_ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    IS_METERED_FIELD_NUMBER: _ClassVar[int]
    task: str
    round: int
    age: int
    loss: float
    metric: float
    num_evaluated: int
    staleness: float
    energy_j: float
    server: str
    num_peers: int
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    edition: int
    best: Figure
    baseline: float
    baseline_name: str
    metric_in_units: float
    round_energy_j: float
    is_metered: bool
    def __init__(self, task: _Optional[str] = ..., round: _Optional[int] = ..., age: _Optional[int] = ..., loss: _Optional[float] = ..., metric: _Optional[float] = ..., num_evaluated: _Optional[int] = ..., staleness: _Optional[float] = ..., energy_j: _Optional[float] = ..., server: _Optional[str] = ..., num_peers: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., edition: _Optional[int] = ..., best: _Optional[_Union[Figure, _Mapping]] = ..., baseline: _Optional[float] = ..., baseline_name: _Optional[str] = ..., metric_in_units: _Optional[float] = ..., round_energy_j: _Optional[float] = ..., is_metered: _Optional[bool] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("peer", "share")
    PEER_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    peer: str
    share: float
    def __init__(self, peer: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("task", "digest")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    digest: str
    def __init__(self, task: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("task", "digest", "content")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    task: str
    digest: str
    content: bytes
    def __init__(self, task: _Optional[str] = ..., digest: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ("task", "cluster", "which")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    WHICH_FIELD_NUMBER: _ClassVar[int]
    task: str
    cluster: int
    which: Which
    def __init__(self, task: _Optional[str] = ..., cluster: _Optional[int] = ..., which: _Optional[_Union[Which, str]] = ...) -> None: ...

class ReleasedModel(_message.Message):
    __slots__ = ("task", "age", "round", "version", "full", "buffers", "contributions", "strategy", "num_evaluated", "loss", "metric", "server", "cluster", "members", "refusal", "steps", "which", "best", "latest", "baseline", "baseline_name", "encoding", "buffers_encoding")
    TASK_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    NUM_EVALUATED_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    WHICH_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_ENCODING_FIELD_NUMBER: _ClassVar[int]
    task: str
    age: int
    round: int
    version: int
    full: bytes
    buffers: bytes
    contributions: Contributions
    strategy: str
    num_evaluated: int
    loss: float
    metric: float
    server: bool
    cluster: int
    members: _containers.RepeatedScalarFieldContainer[str]
    refusal: str
    steps: int
    which: Which
    best: Figure
    latest: Figure
    baseline: float
    baseline_name: str
    encoding: VectorEncoding
    buffers_encoding: VectorEncoding
    def __init__(self, task: _Optional[str] = ..., age: _Optional[int] = ..., round: _Optional[int] = ..., version: _Optional[int] = ..., full: _Optional[bytes] = ..., buffers: _Optional[bytes] = ..., contributions: _Optional[_Union[Contributions, _Mapping]] = ..., strategy: _Optional[str] = ..., num_evaluated: _Optional[int] = ..., loss: _Optional[float] = ..., metric: _Optional[float] = ..., server: _Optional[bool] = ..., cluster: _Optional[int] = ..., members: _Optional[_Iterable[str]] = ..., refusal: _Optional[str] = ..., steps: _Optional[int] = ..., which: _Optional[_Union[Which, str]] = ..., best: _Optional[_Union[Figure, _Mapping]] = ..., latest: _Optional[_Union[Figure, _Mapping]] = ..., baseline: _Optional[float] = ..., baseline_name: _Optional[str] = ..., encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ..., buffers_encoding: _Optional[_Union[VectorEncoding, _Mapping]] = ...) -> None: ...

class ChunkRequest(_message.Message):
    __slots__ = ("digest", "index", "chunks")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    index: bool
    chunks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, digest: _Optional[bytes] = ..., index: _Optional[bool] = ..., chunks: _Optional[_Iterable[int]] = ...) -> None: ...

class ChunkRefusal(_message.Message):
    __slots__ = ("digest", "reason")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    reason: str
    def __init__(self, digest: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("index", "offset", "content")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    index: bool
    offset: int
    content: bytes
    def __init__(self, index: _Optional[bool] = ..., offset: _Optional[int] = ..., content: _Optional[bytes] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("nonce", "suspected")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SUSPECTED_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    suspected: int
    def __init__(self, nonce: _Optional[int] = ..., suspected: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("nonce", "peer", "session", "suspected")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SUSPECTED_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    peer: str
    session: int
    suspected: int
    def __init__(self, nonce: _Optional[int] = ..., peer: _Optional[str] = ..., session: _Optional[int] = ..., suspected: _Optional[int] = ...) -> None: ...

class ProbeAnswer(_message.Message):
    __slots__ = ("nonce", "peer", "session", "incarnation", "hops")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    peer: str
    session: int
    incarnation: int
    hops: int
    def __init__(self, nonce: _Optional[int] = ..., peer: _Optional[str] = ..., session: _Optional[int] = ..., incarnation: _Optional[int] = ..., hops: _Optional[int] = ...) -> None: ...

class RecordDigests(_message.Message):
    __slots__ = ("names", "sequences")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    names: bytes
    sequences: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, names: _Optional[bytes] = ..., sequences: _Optional[_Iterable[int]] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: bytes
    def __init__(self, names: _Optional[bytes] = ...) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[CarriedRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[CarriedRecord, _Mapping]]] = ...) -> None: ...

class CarriedRecord(_message.Message):
    __slots__ = ("topic", "envelope")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    envelope: bytes
    def __init__(self, topic: _Optional[str] = ..., envelope: _Optional[bytes] = ...) -> None: ...
