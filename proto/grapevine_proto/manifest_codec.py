"""Manifests to protobuf and back, and the name that a published manifest has.

Decoding is strict, because these bytes come from strangers: whatever decodes holds finite numbers,
ids that can stand in topics, and text that can be shown on a terminal. Whether its names are in the
closed sets and its program is sound is for `grapevine_tasks.checks`.

`decode_manifest_head` reads all but the program, which stays bytes, and so costs a fraction: it is for whoever
does not know yet whether anybody will want the task. `unpack_manifest` reads the program of such a head.
`read_brief` reads still less, of bytes whose head was decoded before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields

from grapevine_proto import manifest_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import (
    DataContract,
    FeatureSpec,
    ManifestBrief,
    ManifestHead,
    MergePlan,
    Optimiser,
    PackedManifest,
    PipelineStep,
    Requirements,
    Schedule,
    TaskManifest,
    TrainingPlan,
    WeightsRef,
)
from grapevine_proto.manifest_fields import (
    MAX_NAME,
    read_count,
    read_finite,
    read_id,
    read_line,
    read_lines,
    read_not_negative,
    read_text,
    read_word,
)
from grapevine_proto.program_codec import (
    dtype_from_wire,
    dtype_to_wire,
    pack_program,
    program_to_wire,
    shape_from_wire,
    unpack_program,
)
from grapevine_proto.reading import Wire, parsed
from grapevine_proto.topics import is_task_id

MAX_MANIFEST_BYTES = 512 * 1024
MAX_PLAN_BYTES = 16 * 1024  # of a part with nothing long in it
MAX_DESCRIPTION = 4000
MAX_ENCODINGS = 32
EXACT = "float32"  # an encoding that every task allows: it is not written
MAX_SERVERS = 64
MAX_CONSTANTS = 32
MAX_STEPS = 32  # of a pipeline
MAX_VALUES = 4096  # of a pipeline step's argument: one for each column or channel
MAX_CLASSES = 4096  # that have names
MAX_COLUMNS = 4096

_CONSTANT = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a strategy
_ENCODING = re.compile(r"[a-z0-9+-]{1,64}")


def task_id(manifest_bytes: bytes) -> str:
    """The name of a published task: the SHA-256 of its manifest's bytes, 64 lower-case hex digits."""
    return hashlib.sha256(manifest_bytes).hexdigest()


def encode_manifest(manifest: TaskManifest) -> bytes:
    """The bytes of a manifest; the same manifest gives the same bytes.

    Raises ValueError or TypeError when a field does not fit its wire type.
    """
    merging = manifest.merging
    wire = pb.TaskManifest(
        name=manifest.name,
        description=manifest.description,
        publisher=manifest.publisher,
        version=manifest.version,
        parent=manifest.parent,
        created_at_ms=manifest.created_at_ms,
        expires_at_ms=manifest.expires_at_ms,
        program=program_to_wire(manifest.program),
        initial_weights=pb.WeightsRef(
            digest=bytes.fromhex(manifest.initial_weights.digest), num_bytes=manifest.initial_weights.num_bytes
        ),
        data=_data_to_wire(manifest.data),
        training=_training_to_wire(manifest.training),
        merging=pb.MergePlan(
            strategy=merging.strategy,
            constants=_named(merging.constants),
            window_rounds=merging.window_rounds,
            server_strategy=merging.server_strategy,
            server_constants=_named(merging.server_constants),
            update_form=merging.update_form,
            send_rate=merging.send_rate,
            sends_per_round=merging.sends_per_round,
            gossip_share_with_server=merging.gossip_share_with_server,
            server_trust_cap=merging.server_trust_cap,
            clip=merging.clip,
            ema=merging.ema,
            encodings=[name for name in merging.encodings if name != EXACT],
            stale_after=merging.stale_after,
            stale=_unless(MergePlan.stale, merging.stale),
            exchange=_unless(MergePlan.exchange, merging.exchange),
        ),
        requirements=pb.Requirements(memory_mb=manifest.requirements.memory_mb, cores=manifest.requirements.cores),
        servers=manifest.servers,
        fresh=manifest.fresh,
    )
    return wire.SerializeToString(deterministic=True)


def encode_contract(data: DataContract) -> bytes:
    """A data contract alone."""
    return bytes(_data_to_wire(data).SerializeToString(deterministic=True))


def decode_contract(encoded: bytes) -> DataContract:
    """What `encode_contract` wrote. Raises `WireError` when it is none."""
    return _data(parsed(pb.DataContract, encoded, "data"))


def _data_to_wire(data: DataContract) -> pb.DataContract:
    return pb.DataContract(
        kind=data.kind,
        features=_feature_to_wire(data.features),
        target=_feature_to_wire(data.target),
        num_classes=data.num_classes,
        minimum_samples=data.minimum_samples,
        scale=data.scale,
        offset=data.offset,
        classes=data.classes,
        max_age_s=data.max_age_s,
        pipeline=[
            pb.PipelineStep(
                name=step.name,
                arguments=[pb.NamedNumbers(name=n, values=step.arguments[n]) for n in sorted(step.arguments)],
            )
            for step in data.pipeline
        ],
        holdout=data.holdout,
    )


def _feature_to_wire(feature: FeatureSpec) -> pb.FeatureSpec:
    return pb.FeatureSpec(
        name=feature.name, dtype=dtype_to_wire(feature.dtype), shape=feature.shape, columns=feature.columns
    )


def _training_to_wire(training: TrainingPlan) -> pb.TrainingPlan:
    optimiser, schedule = training.optimiser, training.schedule
    return pb.TrainingPlan(
        loss=training.loss,
        metric=training.metric,
        optimiser=pb.Optimiser(
            name=optimiser.name,
            learning_rate=optimiser.learning_rate,
            momentum=optimiser.momentum,
            weight_decay=optimiser.weight_decay,
            constants=_named(optimiser.constants),
        ),
        batch_size=training.batch_size,
        steps_per_round=training.steps_per_round,
        round_interval_s=training.round_interval_s,
        num_rounds=training.num_rounds,
        loss_constants=_named(training.loss_constants),
        # The default is left out: a manifest without one keeps the bytes that it always had.
        schedule=None
        if schedule == Schedule()
        else pb.Schedule(name=schedule.name, constants=_named(schedule.constants)),
        max_gradient_norm=training.max_gradient_norm,
        patience=training.patience,
    )


def decode_manifest(encoded: bytes) -> TaskManifest:
    """The manifest in these bytes. Raises WireError, and nothing else, when they are not one."""
    return unpack_manifest(decode_manifest_head(encoded))


def decode_manifest_head(encoded: bytes) -> PackedManifest:
    """All of a manifest but its program, which is counted and stays bytes: `unpack_manifest` reads it.

    Whatever the bytes hold, this takes a few milliseconds and a few MB while it runs, and what it gives is
    hardly larger than the bytes. The bytes that name the task are the caller's to keep: they are not in it.

    Raises:
        WireError: The bytes are no manifest, or something in them is out of bounds; of the program, that
            it is too long, of another opset, lacks a graph, or has too many nodes or tensors. Nothing else
            of the program is known to be well-formed before it is unpacked.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise WireError("too-big", f"a manifest of {len(encoded)} bytes; at most {MAX_MANIFEST_BYTES}")
    wire = parsed(pb.ManifestParts, encoded, "a manifest")
    if wire.parent and not is_task_id(wire.parent):
        raise WireError("bad-manifest", "parent is not a task id of 64 hexadecimal digits")
    if len(wire.servers) > MAX_SERVERS:
        raise WireError("bad-manifest", f"{len(wire.servers)} servers; at most {MAX_SERVERS}")
    requirements = _part(pb.Requirements, wire.requirements, "requirements")
    return PackedManifest(
        name=read_line(wire.name, "name", MAX_NAME),
        description=read_text(wire.description, "description", MAX_DESCRIPTION),
        publisher=read_id(wire.publisher, "publisher"),
        version=read_count(wire.version, "version", least=1),
        parent=wire.parent,
        created_at_ms=read_count(wire.created_at_ms, "created_at_ms"),
        expires_at_ms=read_count(wire.expires_at_ms, "expires_at_ms"),
        program=pack_program(_only(wire.program, "program")),
        initial_weights=_weights(_part(pb.WeightsRef, wire.initial_weights, "initial_weights")),
        data=_data(_part(pb.DataContract, wire.data, "data", MAX_MANIFEST_BYTES)),
        training=_training(_part(pb.TrainingPlan, wire.training, "training")),
        merging=_merging(_part(pb.MergePlan, wire.merging, "merging")),
        requirements=Requirements(memory_mb=requirements.memory_mb, cores=requirements.cores),
        servers=tuple(read_id(server, "a server") for server in wire.servers),
        fresh=wire.fresh,
    )


def read_brief(encoded: bytes) -> ManifestBrief:
    """The brief of a manifest whose head was decoded before, in this life or an earlier one.

    It takes a tenth of that time and looks at its own fields only. Raises WireError, and nothing else, when one of
    them is not what it may be.
    """
    wire = parsed(pb.ManifestParts, encoded, "a manifest")
    if wire.parent and not is_task_id(wire.parent):
        raise WireError("bad-manifest", "parent is not a task id of 64 hexadecimal digits")
    merging = _part(pb.MergePlan, wire.merging, "merging")
    return ManifestBrief(
        name=read_line(wire.name, "name", MAX_NAME),
        publisher=read_id(wire.publisher, "publisher"),
        kind=read_id(parsed(pb.DataContract, _only(wire.data, "data"), "data").kind, "data.kind"),
        description=read_text(wire.description, "description", MAX_DESCRIPTION),
        version=read_count(wire.version, "version", least=1),
        parent=wire.parent,
        created_at_ms=read_count(wire.created_at_ms, "created_at_ms"),
        expires_at_ms=read_count(wire.expires_at_ms, "expires_at_ms"),
        strategy=read_word(merging.strategy, "merging.strategy"),
        fresh=wire.fresh,
    )


def unpack_manifest(packed: PackedManifest) -> TaskManifest:
    """The manifest with its program read. Raises WireError, and nothing else, when that is not well-formed."""
    head = {each.name: getattr(packed, each.name) for each in fields(ManifestHead)}
    return TaskManifest(**head, program=unpack_program(packed.program))


def _only(parts: Sequence[bytes], what: str) -> bytes:
    """The one part of its kind: two would be merged by one reader and not by another."""
    if len(parts) != 1:
        raise WireError("bad-manifest", f"{what} is missing" if not parts else f"{what} is there {len(parts)} times")
    return parts[0]


def _part(kind: type[Wire], parts: Sequence[bytes], what: str, longest: int = MAX_PLAN_BYTES) -> Wire:
    encoded = _only(parts, what)
    if len(encoded) > longest:
        raise WireError("too-big", f"{what} has {len(encoded)} bytes; at most {longest}")
    return parsed(kind, encoded, what)


def _weights(wire: pb.WeightsRef) -> WeightsRef:
    if len(wire.digest) != hashlib.sha256().digest_size:
        raise WireError("bad-manifest", f"the digest of the initial weights has {len(wire.digest)} bytes, not 32")
    return WeightsRef(
        digest=wire.digest.hex(), num_bytes=read_count(wire.num_bytes, "initial_weights.num_bytes", least=1)
    )


def _data(wire: pb.DataContract) -> DataContract:
    if not wire.HasField("features") or not wire.HasField("target"):
        raise WireError("bad-manifest", "data.features or data.target is missing")
    return DataContract(
        kind=read_id(wire.kind, "data.kind"),
        features=_feature(wire.features, "data.features"),
        target=_feature(wire.target, "data.target"),
        num_classes=wire.num_classes,
        minimum_samples=read_count(wire.minimum_samples, "data.minimum_samples"),
        scale=read_finite(wire.scale, "data.scale"),
        offset=read_finite(wire.offset, "data.offset"),
        classes=read_lines(wire.classes, "data.classes", MAX_CLASSES),
        max_age_s=read_not_negative(wire.max_age_s, "data.max_age_s"),
        pipeline=_pipeline(wire.pipeline),
        holdout=read_word(wire.holdout, "data.holdout") if wire.holdout else "",
    )


def _pipeline(wire: Sequence[pb.PipelineStep]) -> tuple[PipelineStep, ...]:
    if len(wire) > MAX_STEPS:
        raise WireError("bad-manifest", f"data.pipeline has {len(wire)} steps; at most {MAX_STEPS}")
    return tuple(
        PipelineStep(name=read_word(step.name, "a pipeline step"), arguments=_arguments(step.arguments))
        for step in wire
    )


def _arguments(wire: Sequence[pb.NamedNumbers]) -> dict[str, tuple[float, ...]]:
    names = [argument.name for argument in wire[: MAX_CONSTANTS + 1]]
    if len(names) > MAX_CONSTANTS or names != sorted(set(names)):
        raise WireError("bad-manifest", f"a pipeline step's arguments must be sorted, unique, at most {MAX_CONSTANTS}")
    arguments = {}
    for argument in wire:
        if len(argument.values) > MAX_VALUES:
            raise WireError("bad-manifest", f"a pipeline step's argument has over {MAX_VALUES} values")
        name = read_word(argument.name, "a pipeline step's argument")
        arguments[name] = tuple(read_finite(value, name) for value in argument.values)
    return arguments


def _feature(wire: pb.FeatureSpec, what: str) -> FeatureSpec:
    return FeatureSpec(
        name=read_line(wire.name, f"{what}.name", MAX_NAME),
        dtype=dtype_from_wire(wire.dtype),
        shape=shape_from_wire(wire.shape),
        columns=read_lines(wire.columns, f"{what}.columns", MAX_COLUMNS),
    )


def _training(wire: pb.TrainingPlan) -> TrainingPlan:
    if not wire.HasField("optimiser"):
        raise WireError("bad-manifest", "training.optimiser is missing")
    return TrainingPlan(
        loss=read_word(wire.loss, "training.loss"),
        metric=read_word(wire.metric, "training.metric"),
        optimiser=Optimiser(
            name=read_word(wire.optimiser.name, "training.optimiser.name"),
            learning_rate=read_not_negative(wire.optimiser.learning_rate, "learning_rate"),
            momentum=read_not_negative(wire.optimiser.momentum, "momentum"),
            weight_decay=read_not_negative(wire.optimiser.weight_decay, "weight_decay"),
            constants=_constants(wire.optimiser.constants, "training.optimiser.constants"),
        ),
        batch_size=read_count(wire.batch_size, "training.batch_size", least=1),
        steps_per_round=read_count(wire.steps_per_round, "training.steps_per_round", least=1),
        round_interval_s=read_not_negative(wire.round_interval_s, "training.round_interval_s"),
        num_rounds=read_count(wire.num_rounds, "training.num_rounds"),
        loss_constants=_constants(wire.loss_constants, "training.loss_constants"),
        schedule=_schedule(wire.schedule) if wire.HasField("schedule") else Schedule(),
        max_gradient_norm=read_not_negative(wire.max_gradient_norm, "training.max_gradient_norm"),
        patience=read_count(wire.patience, "training.patience"),
    )


def _schedule(wire: pb.Schedule) -> Schedule:
    return Schedule(
        name=read_word(wire.name, "training.schedule.name"),
        constants=_constants(wire.constants, "training.schedule.constants"),
    )


def _named(constants: Mapping[str, float]) -> list[pb.NamedNumber]:
    return [pb.NamedNumber(name=name, value=constants[name]) for name in sorted(constants)]


def _constants(wire: Sequence[pb.NamedNumber], where: str) -> dict[str, float]:
    names = [constant.name for constant in wire[: MAX_CONSTANTS + 1]]
    if len(names) > MAX_CONSTANTS or names != sorted(set(names)):
        raise WireError("bad-manifest", f"{where} must be sorted, unique and at most {MAX_CONSTANTS}")
    # Papers name their constants by letters of both cases.
    return {read_word(each.name, "a constant", _CONSTANT): read_finite(each.value, each.name) for each in wire}


def _unless(default: str, chosen: str) -> str:
    """A word that came later: the default is left out, and manifests of before keep their bytes."""
    return "" if chosen == default else chosen


def _encodings(names: Sequence[str]) -> list[str]:
    """Of vectors, beside float32."""
    if len(names) > MAX_ENCODINGS or len({EXACT, *names}) != 1 + len(names):
        raise WireError("bad-manifest", f"merging.encodings must be unique, without {EXACT}, at most {MAX_ENCODINGS}")
    return [read_word(name, "merging.encodings", _ENCODING) for name in names]


def _merging(wire: pb.MergePlan) -> MergePlan:
    return MergePlan(
        strategy=read_word(wire.strategy, "merging.strategy"),
        constants=_constants(wire.constants, "merging.constants"),
        window_rounds=read_count(wire.window_rounds, "merging.window_rounds", least=1),
        server_strategy=read_word(wire.server_strategy, "merging.server_strategy"),
        server_constants=_constants(wire.server_constants, "merging.server_constants"),
        update_form=read_word(wire.update_form, "merging.update_form"),
        send_rate=read_word(wire.send_rate, "merging.send_rate"),
        sends_per_round=read_not_negative(wire.sends_per_round, "merging.sends_per_round"),
        gossip_share_with_server=read_not_negative(wire.gossip_share_with_server, "merging.gossip_share_with_server"),
        server_trust_cap=read_not_negative(wire.server_trust_cap, "merging.server_trust_cap"),
        clip=read_not_negative(wire.clip, "merging.clip"),
        ema=read_not_negative(wire.ema, "merging.ema"),
        encodings=(EXACT, *_encodings(wire.encodings)),
        stale_after=read_count(wire.stale_after, "merging.stale_after"),
        stale=read_word(wire.stale, "merging.stale") if wire.stale else MergePlan.stale,
        exchange=read_word(wire.exchange, "merging.exchange") if wire.exchange else MergePlan.exchange,
    )
