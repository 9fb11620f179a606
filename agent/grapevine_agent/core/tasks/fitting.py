"""Whether a task is too large or too slow for a device: pure, in words for its owner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from grapevine_agent.core.settings import DeviceLimits
from grapevine_proto.manifest import DataContract, FeatureSpec, TaskManifest, TrainingPlan
from grapevine_tasks.checks import EVALUATION_BATCH, CheckReport, MemoryEstimate, Work
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import fewest_samples
from grapevine_tasks.sizes import BYTES_PER_ELEMENT

TRAINER_MB: Final = 240  # of a trainer process that has loaded PyTorch and run its first layers
_MIB = 2**20

PATIENCE_INTERVALS: Final = 60.0  # a round, or an evaluation, that takes so many round intervals is an overrun …
SHORTEST_PATIENCE_S: Final = 120.0  # … but a slow board gets its time
MOST_OF_PATIENCE: Final = 0.5  # what it may take by an estimate that knows no more than the order of magnitude
# To start a kernel takes about as long as so many operations: 3 to 4 µs where training does 60 · 10⁹ a second.
FLOPS_TO_START: Final = 200_000


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a device trains: 10⁹ operations, and 10⁹ bytes read and written, a second; 0 is unknown."""

    gflops: float = 0.0
    memory_gbs: float = 0.0

    def seconds(self, work: Work) -> float:
        """How long some work takes, about. Only what is known of the device is counted."""
        computing_s = (work.flops + FLOPS_TO_START * work.num_kernels) / (self.gflops * 1e9) if self.gflops else 0.0
        return computing_s + (work.bytes_moved / (self.memory_gbs * 1e9) if self.memory_gbs else 0.0)


@dataclass(frozen=True, kw_only=True)
class TaskWork:
    """What a task has a device do: in a training step, for all of a round's, and to evaluate a model."""

    step: Work
    training: Work  # of a round
    evaluation: Work
    num_evaluated: int  # the fewest samples that are held out; who has more evaluates longer


def reasons_not_to_fit(manifest: TaskManifest, limits: DeviceLimits) -> list[str]:
    """What the task asks for beyond what the device may give; empty if it fits. Memory: see `memory_reason`."""
    reasons = [limits.cannot_train] if limits.cannot_train else []
    num_parameters = ModelLayout.of(manifest.program).num_parameters
    if num_parameters > limits.max_parameters:
        reasons.append(f"needs {num_parameters:,} parameters, profile allows {limits.max_parameters:,}")
    if manifest.training.batch_size > limits.max_batch:
        reasons.append(f"needs batches of {manifest.training.batch_size}, profile allows {limits.max_batch}")
    if manifest.requirements.memory_mb > limits.memory_mb:
        reasons.append(f"needs {manifest.requirements.memory_mb} MB, profile allows {limits.memory_mb}")
    if manifest.requirements.cores > limits.cores:
        reasons.append(f"needs {manifest.requirements.cores} cores, this device has {limits.cores}")
    return reasons


def memory_reason(manifest: TaskManifest, memory: MemoryEstimate, memory_mb: int) -> str:
    """Why a trainer of this task does not fit into `memory_mb`; empty if it does, by the estimate."""
    needed = trainer_mb(manifest.data, memory)
    if needed <= memory_mb:
        return ""
    return f"needs about {needed:,} MB to train ({TRAINER_MB} of them for PyTorch itself), profile allows {memory_mb:,}"


def trainer_mb(data: DataContract, memory: MemoryEstimate) -> int:
    """The resident memory of a trainer process, about, with the fewest samples that the task takes."""
    return TRAINER_MB + -(-(fewest_samples_bytes(data) + memory.peak_bytes) // _MIB)


def fewest_samples_bytes(data: DataContract) -> int:
    """What the fewest samples that the task takes occupy."""
    return data.minimum_samples * (_bytes(data.features) + _bytes(data.target))


def _bytes(feature: FeatureSpec) -> int:
    return BYTES_PER_ELEMENT[feature.dtype] * math.prod(feature.shape)


def patience_s(plan: TrainingPlan) -> float:
    """After how long a trainer that has not answered is taken to hang."""
    return max(SHORTEST_PATIENCE_S, PATIENCE_INTERVALS * plan.round_interval_s)


def work_of(manifest: TaskManifest, checked: CheckReport) -> TaskWork:
    """What a checked task has a device do."""
    _, num_evaluated = fewest_samples(manifest.data)
    num_batches, left_over = divmod(num_evaluated, EVALUATION_BATCH)
    forward = checked.evaluation_by_batch
    evaluation = forward.at(EVALUATION_BATCH).times(num_batches)
    step = checked.training_step_by_batch.at(manifest.training.batch_size)
    return TaskWork(
        step=step,
        training=step.times(manifest.training.steps_per_round),
        evaluation=evaluation + forward.at(left_over) if left_over else evaluation,
        num_evaluated=num_evaluated,
    )


def time_reason(manifest: TaskManifest, work: TaskWork, pace: Pace) -> str:
    """Why a trainer of this task would be taken to hang on such a device; empty if not, or if no pace is known."""
    allowed_s = MOST_OF_PATIENCE * patience_s(manifest.training)
    for what, needed in (
        (f"the {manifest.training.steps_per_round} steps of a round", work.training),
        (f"evaluating {work.num_evaluated:,} samples", work.evaluation),
    ):
        needed_s = pace.seconds(needed)
        if needed_s > allowed_s:
            return (
                f"{what} would take about {needed_s:,.0f} s ({needed.flops / 1e9:,.1f} GFLOP, "
                f"{needed.bytes_moved / 1e9:,.1f} GB moved, {needed.num_kernels:,} kernels); at most "
                f"{allowed_s:,.0f} s are allowed, half of what a trainer has before it is taken to hang"
            )
    return ""
