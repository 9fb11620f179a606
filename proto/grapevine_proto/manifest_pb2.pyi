from grapevine_proto import program_pb2 as _program_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskManifest(_message.Message):
    __slots__ = ("name", "description", "publisher", "version", "parent", "created_at_ms", "expires_at_ms", "program", "initial_weights", "data", "training", "merging", "requirements", "servers", "fresh")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INITIAL_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    MERGING_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    publisher: str
    version: int
    parent: str
    created_at_ms: int
    expires_at_ms: int
    program: _program_pb2.Program
    initial_weights: WeightsRef
    data: DataContract
    training: TrainingPlan
    merging: MergePlan
    requirements: Requirements
    servers: _containers.RepeatedScalarFieldContainer[str]
    fresh: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., publisher: _Optional[str] = ..., version: _Optional[int] = ..., parent: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., program: _Optional[_Union[_program_pb2.Program, _Mapping]] = ..., initial_weights: _Optional[_Union[WeightsRef, _Mapping]] = ..., data: _Optional[_Union[DataContract, _Mapping]] = ..., training: _Optional[_Union[TrainingPlan, _Mapping]] = ..., merging: _Optional[_Union[MergePlan, _Mapping]] = ..., requirements: _Optional[_Union[Requirements, _Mapping]] = ..., servers: _Optional[_Iterable[str]] = ..., fresh: _Optional[bool] = ...) -> None: ...

class ManifestParts(_message.Message):
    __slots__ = ("name", "description", "publisher", "version", "parent", "created_at_ms", "expires_at_ms", "program", "initial_weights", "data", "training", "merging", "requirements", "servers", "fresh")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INITIAL_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    MERGING_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    publisher: str
    version: int
    parent: str
    created_at_ms: int
    expires_at_ms: int
    program: _containers.RepeatedScalarFieldContainer[bytes]
    initial_weights: _containers.RepeatedScalarFieldContainer[bytes]
    data: _containers.RepeatedScalarFieldContainer[bytes]
    training: _containers.RepeatedScalarFieldContainer[bytes]
    merging: _containers.RepeatedScalarFieldContainer[bytes]
    requirements: _containers.RepeatedScalarFieldContainer[bytes]
    servers: _containers.RepeatedScalarFieldContainer[str]
    fresh: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., publisher: _Optional[str] = ..., version: _Optional[int] = ..., parent: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., program: _Optional[_Iterable[bytes]] = ..., initial_weights: _Optional[_Iterable[bytes]] = ..., data: _Optional[_Iterable[bytes]] = ..., training: _Optional[_Iterable[bytes]] = ..., merging: _Optional[_Iterable[bytes]] = ..., requirements: _Optional[_Iterable[bytes]] = ..., servers: _Optional[_Iterable[str]] = ..., fresh: _Optional[bool] = ...) -> None: ...

class WeightsRef(_message.Message):
    __slots__ = ("digest", "num_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    num_bytes: int
    def __init__(self, digest: _Optional[bytes] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class DataContract(_message.Message):
    __slots__ = ("kind", "features", "target", "num_classes", "minimum_samples", "scale", "offset", "classes", "max_age_s", "pipeline", "holdout")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    features: FeatureSpec
    target: FeatureSpec
    num_classes: int
    minimum_samples: int
    scale: float
    offset: float
    classes: _containers.RepeatedScalarFieldContainer[str]
    max_age_s: float
    pipeline: _containers.RepeatedCompositeFieldContainer[PipelineStep]
    holdout: str
    def __init__(self, kind: _Optional[str] = ..., features: _Optional[_Union[FeatureSpec, _Mapping]] = ..., target: _Optional[_Union[FeatureSpec, _Mapping]] = ..., num_classes: _Optional[int] = ..., minimum_samples: _Optional[int] = ..., scale: _Optional[float] = ..., offset: _Optional[float] = ..., classes: _Optional[_Iterable[str]] = ..., max_age_s: _Optional[float] = ..., pipeline: _Optional[_Iterable[_Union[PipelineStep, _Mapping]]] = ..., holdout: _Optional[str] = ...) -> None: ...

class PipelineStep(_message.Message):
    __slots__ = ("name", "arguments")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: _containers.RepeatedCompositeFieldContainer[NamedNumbers]
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[_Iterable[_Union[NamedNumbers, _Mapping]]] = ...) -> None: ...

class NamedNumbers(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class FeatureSpec(_message.Message):
    __slots__ = ("name", "dtype", "shape", "columns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _program_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_program_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class Optimiser(_message.Message):
    __slots__ = ("name", "learning_rate", "momentum", "weight_decay", "constants")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    constants: _containers.RepeatedCompositeFieldContainer[NamedNumber]
    def __init__(self, name: _Optional[str] = ..., learning_rate: _Optional[float] = ..., momentum: _Optional[float] = ..., weight_decay: _Optional[float] = ..., constants: _Optional[_Iterable[_Union[NamedNumber, _Mapping]]] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("name", "constants")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    constants: _containers.RepeatedCompositeFieldContainer[NamedNumber]
    def __init__(self, name: _Optional[str] = ..., constants: _Optional[_Iterable[_Union[NamedNumber, _Mapping]]] = ...) -> None: ...

class TrainingPlan(_message.Message):
    __slots__ = ("loss", "metric", "optimiser", "batch_size", "steps_per_round", "round_interval_s", "num_rounds", "loss_constants", "schedule", "max_gradient_norm", "patience")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    OPTIMISER_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUND_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    LOSS_CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    MAX_GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    loss: str
    metric: str
    optimiser: Optimiser
    batch_size: int
    steps_per_round: int
    round_interval_s: float
    num_rounds: int
    loss_constants: _containers.RepeatedCompositeFieldContainer[NamedNumber]
    schedule: Schedule
    max_gradient_norm: float
    patience: int
    def __init__(self, loss: _Optional[str] = ..., metric: _Optional[str] = ..., optimiser: _Optional[_Union[Optimiser, _Mapping]] = ..., batch_size: _Optional[int] = ..., steps_per_round: _Optional[int] = ..., round_interval_s: _Optional[float] = ..., num_rounds: _Optional[int] = ..., loss_constants: _Optional[_Iterable[_Union[NamedNumber, _Mapping]]] = ..., schedule: _Optional[_Union[Schedule, _Mapping]] = ..., max_gradient_norm: _Optional[float] = ..., patience: _Optional[int] = ...) -> None: ...

class MergePlan(_message.Message):
    __slots__ = ("strategy", "constants", "update_form", "send_rate", "sends_per_round", "gossip_share_with_server", "server_trust_cap", "clip", "ema", "window_rounds", "server_strategy", "server_constants", "encodings", "stale_after", "stale", "exchange")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FORM_FIELD_NUMBER: _ClassVar[int]
    SEND_RATE_FIELD_NUMBER: _ClassVar[int]
    SENDS_PER_ROUND_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_SHARE_WITH_SERVER_FIELD_NUMBER: _ClassVar[int]
    SERVER_TRUST_CAP_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    EMA_FIELD_NUMBER: _ClassVar[int]
    WINDOW_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SERVER_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SERVER_CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    STALE_AFTER_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    constants: _containers.RepeatedCompositeFieldContainer[NamedNumber]
    update_form: str
    send_rate: str
    sends_per_round: float
    gossip_share_with_server: float
    server_trust_cap: float
    clip: float
    ema: float
    window_rounds: int
    server_strategy: str
    server_constants: _containers.RepeatedCompositeFieldContainer[NamedNumber]
    encodings: _containers.RepeatedScalarFieldContainer[str]
    stale_after: int
    stale: str
    exchange: str
    def __init__(self, strategy: _Optional[str] = ..., constants: _Optional[_Iterable[_Union[NamedNumber, _Mapping]]] = ..., update_form: _Optional[str] = ..., send_rate: _Optional[str] = ..., sends_per_round: _Optional[float] = ..., gossip_share_with_server: _Optional[float] = ..., server_trust_cap: _Optional[float] = ..., clip: _Optional[float] = ..., ema: _Optional[float] = ..., window_rounds: _Optional[int] = ..., server_strategy: _Optional[str] = ..., server_constants: _Optional[_Iterable[_Union[NamedNumber, _Mapping]]] = ..., encodings: _Optional[_Iterable[str]] = ..., stale_after: _Optional[int] = ..., stale: _Optional[str] = ..., exchange: _Optional[str] = ...) -> None: ...

class NamedNumber(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Requirements(_message.Message):
    __slots__ = ("memory_mb", "cores")
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    memory_mb: int
    cores: int
    def __init__(self, memory_mb: _Optional[int] = ..., cores: _Optional[int] = ...) -> None: ...
