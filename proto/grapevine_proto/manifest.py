"""What a learning task says of itself: the immutable description that peers review, join and train.

A manifest is published once, as bytes, and is named for ever by the SHA-256 of those bytes (its
*task id*). These dataclasses are what the rest of Grapevine speaks; `manifest_codec` turns them
into protobuf and back.

The program is by far the largest part of a manifest, and the only one that takes time to read. What is
said of a task before anybody trusts it is therefore a class of its own, `ManifestHead`: a `TaskManifest`
is one with its program, a `PackedManifest` one whose program is still bytes. A `ManifestBrief` is what an agent
keeps of every task that it has heard of: it has nothing long in it, whatever the manifest holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grapevine_proto.manifest_fields import labelled
from grapevine_proto.program import PackedProgram, Program


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One tensor of a sample, without the batch dimension."""

    name: str
    dtype: str  # "float32" or "int64"
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()  # of [k] or []: what each number is called where data has columns


@dataclass(frozen=True, kw_only=True)
class PipelineStep:
    """One step between an owner's samples and the model, out of a closed set, chosen by name."""

    name: str
    arguments: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataContract:
    """What a device's data must look like before it can train the task, and how the model gets it.

    `features` and `target` are what an owner offers, before the pipeline. A step may make the target out
    of the features; then `target` says what it makes, and a source needs none.
    """

    kind: str  # e.g. "digits-8x8": names what the samples are, and owners label their sources with it
    features: FeatureSpec
    target: FeatureSpec
    num_classes: int = 0  # 0: the target is not a class
    minimum_samples: int = 1
    scale: float = 1.0  # features are multiplied by it (1/16 brings 0…16 to 0…1) …
    offset: float = 0.0  # … after this was subtracted
    classes: tuple[str, ...] = ()  # what the classes are called, in their order; none, or num_classes of them
    max_age_s: float = 0.0  # the newest sample may be so old; 0: any age
    pipeline: tuple[PipelineStep, ...] = ()  # in order, after scale and offset
    holdout: str = ""  # "last" | "blocks" | "random": see `grapevine_tasks.pipelines.holdout`; "": by what samples are


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """How local steps change the parameters. A closed set, chosen by name."""

    name: str = "sgd"  # "sgd" | "adam" | "adamw"
    learning_rate: float = 0.1
    momentum: float = 0.0  # sgd only
    weight_decay: float = 0.0
    constants: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the learning rate changes with the optimiser steps in a model (its age)."""

    name: str = "constant"
    constants: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How a member trains between merges. Loss, metric, optimiser and schedule are out of closed sets."""

    loss: str = "cross-entropy"
    metric: str = "accuracy"
    optimiser: Optimiser = field(default_factory=Optimiser)
    batch_size: int = 32
    steps_per_round: int = 10
    round_interval_s: float = 1.0  # a round starts at most this often: devices have other work to do
    num_rounds: int = 0  # local rounds; then members only merge (Delta Sum's convergence rounds). 0: no end
    loss_constants: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    max_gradient_norm: float = 0.0  # a longer gradient is shortened to it; 0: never
    patience: int = 0  # local rounds without a better model at most members, after which training ends; 0: no end


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """How members exchange and merge models."""

    strategy: str = "doubly-weighted"
    constants: Mapping[str, float] = field(default_factory=dict)
    window_rounds: int = 1  # gathered strategies merge at the end of a window of so many rounds
    server_strategy: str = "doubly-weighted"  # how a server of the task aggregates
    server_constants: Mapping[str, float] = field(default_factory=dict)
    update_form: str = "full"  # "full": θ; "delta": base + change since it
    send_rate: str = "log-n"  # "log-n" | "log-log-n" | "constant" | "linear" | "token-account" | "every-round"
    sends_per_round: float = 1.0  # r0: the rate's factor, in sends per round interval
    gossip_share_with_server: float = 0.02  # of the send rate, while servers bring what members know
    server_trust_cap: float = 100.0
    clip: float = 3.0  # an update's distance is clipped to this many medians of recent ones; 0 turns it off
    ema: float = 0.95  # β of the released model
    encodings: tuple[str, ...] = ("float32",)  # of vectors, that members may use; float32 is always one
    exchange: str = "push"  # "push": models are sent; "push-pull": and whoever sends one is sent one back
    stale_after: int = 0  # an update so many optimiser steps behind is still fresh; 0: however far
    stale: str = "discount"  # what becomes of one that is not: "discount" | "refuse"


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a device must have before it may join."""

    memory_mb: int = 0
    cores: int = 1


@dataclass(frozen=True, kw_only=True)
class WeightsRef:
    """Initial weights, named by content: the SHA-256 and size of a safetensors file."""

    digest: str  # 64 lower-case hex digits
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class ManifestHead:
    """All that a task says of itself but its program. See the module's docstring."""

    name: str
    publisher: str  # peer id
    initial_weights: WeightsRef
    data: DataContract
    description: str = ""
    version: int = 1
    parent: str = ""  # task id of the version before this one
    created_at_ms: int = 0
    expires_at_ms: int = 0
    training: TrainingPlan = TrainingPlan()
    merging: MergePlan = MergePlan()
    requirements: Requirements = Requirements()
    servers: tuple[str, ...] = ()  # peer ids that may act as servers of this task
    fresh: bool = False  # members do not bring a model of an earlier version along

    @property
    def label(self) -> str:
        """The name, by which a later version is told from the first one."""
        return labelled(self.name, self.version)


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestBrief:
    """What a task is called, whose it is, which version of what, until when, and on what kind of samples."""

    name: str
    publisher: str  # peer id
    kind: str  # of the samples
    description: str = ""
    version: int = 1
    parent: str = ""
    created_at_ms: int = 0
    expires_at_ms: int = 0
    strategy: str = ""
    fresh: bool = False

    @property
    def label(self) -> str:
        """See `ManifestHead.label`."""
        return labelled(self.name, self.version)

    @classmethod
    def of(cls, head: ManifestHead) -> ManifestBrief:
        """The brief of a manifest that was read."""
        return cls(
            name=head.name,
            publisher=head.publisher,
            kind=head.data.kind,
            description=head.description,
            version=head.version,
            parent=head.parent,
            created_at_ms=head.created_at_ms,
            expires_at_ms=head.expires_at_ms,
            strategy=head.merging.strategy,
            fresh=head.fresh,
        )


@dataclass(frozen=True, kw_only=True)
class TaskManifest(ManifestHead):
    """A published learning task."""

    program: Program


@dataclass(frozen=True, kw_only=True)
class PackedManifest(ManifestHead):
    """A published learning task whose program is not read yet: `manifest_codec.unpack_manifest` does it."""

    program: PackedProgram
