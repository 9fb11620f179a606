"""A manifest as a whole: names out of the closed sets, numbers in range, parts that fit each other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import replace

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, MergePlan, TaskManifest, TrainingPlan
from grapevine_tasks.checks.program import CheckReport, ProgramLimits, check_program
from grapevine_tasks.sizes import TensorType, fixed
from grapevine_tasks.suggestions import did_you_mean

LOSSES = ("cross-entropy", "mse")
METRICS = ("accuracy", "mse")
OPTIMISERS = ("sgd", "adam")
UPDATE_FORMS = ("full", "delta")
SEND_RATES = ("log-n", "log-log-n", "constant", "linear", "every-round")

_KIND = re.compile(r"[a-z0-9-]{1,64}")


def check_manifest(
    manifest: TaskManifest, *, check_merging: Callable[[MergePlan], None], limits: ProgramLimits | None = None
) -> CheckReport:
    """Check everything that can be known of a task without fetching its weights or running it.

    Args:
        manifest: As decoded, or as an engineer is about to publish it.
        check_merging: Raises TaskError for strategies and constants that the agent's merge tables do not
            have: the tasks know nothing of them.
        limits: What the device is ready to run; its `largest_batch` is replaced by the task's.

    Raises:
        TaskError: With the field, its value and what to write instead.
    """
    _check_training(manifest.training)
    _check_merging(manifest.merging)
    check_merging(manifest.merging)
    _check_contract(manifest.data)
    if manifest.version < 1:
        raise TaskError(f"version is {manifest.version}; versions start at 1")
    if manifest.expires_at_ms and manifest.expires_at_ms <= manifest.created_at_ms:
        raise TaskError("the task expires before it was created: set expires_at_ms later, or to 0 for never")
    _range("requirements.memory_mb", manifest.requirements.memory_mb, 0, 2**20)
    _range("requirements.cores", manifest.requirements.cores, 0, 1024)
    limits = replace(limits or ProgramLimits(), largest_batch=manifest.training.batch_size)
    report = check_program(manifest.program, limits)
    _check_fit(manifest, report.output_type)
    payload = 4 * (report.num_parameters + report.num_buffers)
    header = 4096 + 400 * (len(manifest.program.parameters) + len(manifest.program.buffers))
    _range("initial_weights.num_bytes", manifest.initial_weights.num_bytes, payload, payload + header)
    return report


def _check_training(training: TrainingPlan) -> None:
    _one_of("training.loss", training.loss, LOSSES)
    _one_of("training.metric", training.metric, METRICS)
    _one_of("training.optimiser.name", training.optimiser.name, OPTIMISERS)
    _range("training.optimiser.learning_rate", training.optimiser.learning_rate, 1e-9, 100)
    _range("training.optimiser.momentum", training.optimiser.momentum, 0, 0.9999)
    _range("training.optimiser.weight_decay", training.optimiser.weight_decay, 0, 10)
    if training.optimiser.momentum and training.optimiser.name != "sgd":
        raise TaskError(f"training.optimiser.momentum belongs to sgd; {training.optimiser.name} has none: remove it")
    _range("training.batch_size", training.batch_size, 1, 65536)
    _range("training.steps_per_round", training.steps_per_round, 1, 1_000_000)
    _range("training.round_interval_s", training.round_interval_s, 0.01, 7 * 86400)


def _check_merging(merging: MergePlan) -> None:
    _one_of("merging.update_form", merging.update_form, UPDATE_FORMS)
    _one_of("merging.send_rate", merging.send_rate, SEND_RATES)
    _range("merging.sends_per_round", merging.sends_per_round, 0, 1000)
    _range("merging.gossip_share_with_server", merging.gossip_share_with_server, 0, 1)
    _range("merging.server_trust_cap", merging.server_trust_cap, 0, 1e6)
    _range("merging.clip", merging.clip, 0, 1e6)
    _range("merging.ema", merging.ema, 0, 0.99999)
    _range("merging.window_rounds", merging.window_rounds, 1, 10_000)


def _check_contract(contract: DataContract) -> None:
    if not _KIND.fullmatch(contract.kind):
        raise TaskError(f"data.kind is {contract.kind!r}; use 1 to 64 of a-z, 0-9 and '-'")
    _range("data.scale", contract.scale, -1e9, 1e9)
    _range("data.offset", contract.offset, -1e9, 1e9)
    if contract.scale == 0:
        raise TaskError("data.scale is 0, which makes all samples alike; use 1 for no scaling")
    _range("data.minimum_samples", contract.minimum_samples, 1, 2**40)
    _range("data.num_classes", contract.num_classes, 0, 1_000_000)
    if contract.num_classes and (contract.target.dtype, contract.target.shape) != ("int64", ()):
        raise TaskError("data.target must be one int64 per sample (shape []) when data.num_classes is given")


def _check_fit(manifest: TaskManifest, output: TensorType) -> None:
    """The model takes what the data gives, and gives what the loss takes."""
    data, training, inputs = manifest.data, manifest.training, manifest.program.inputs
    if len(inputs) != 1 or (inputs[0].dtype, inputs[0].shape) != (data.features.dtype, data.features.shape):
        taken = "; ".join(f"{i.dtype}{list(i.shape)}" for i in inputs)
        raise TaskError(f"the model takes {taken} but data.features are {_shown(data.features)}: make them the same")
    if training.loss == "cross-entropy":
        if data.num_classes < 2:
            raise TaskError(f"cross-entropy needs data.num_classes of 2 or more, not {data.num_classes}")
        expected = fixed(data.num_classes)
    elif data.target.dtype != "float32":
        raise TaskError(f"the loss mse needs a float32 target, not {_shown(data.target)}")
    else:
        expected = fixed(*data.target.shape)
    if output.shape[1:] != expected:
        raise TaskError(
            f"the model gives {output} but the loss {training.loss} with this target takes "
            f"[batch, {', '.join(map(str, expected))}]: change the model's last layer or data.target"
        )
    if training.metric == "accuracy" and not data.num_classes:
        raise TaskError("the metric accuracy needs classes: set data.num_classes, or use the metric mse")
    if training.metric == "mse" and training.loss != "mse":
        raise TaskError("the metric mse goes with the loss mse: use the metric accuracy for classes")


def _shown(feature: FeatureSpec) -> str:
    return f"{feature.dtype}{list(feature.shape)}"


def _one_of(field: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise TaskError(f"{field} is {name!r}; {did_you_mean(name, known)}")


def _range(field: str, number: float, low: float, high: float) -> None:
    if not math.isfinite(number) or not low <= number <= high:
        raise TaskError(f"{field} is {number}, outside {low:g} to {high:g}")
