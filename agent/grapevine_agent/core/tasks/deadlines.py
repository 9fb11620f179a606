"""How long what a task asks for takes, and how long a trainer may take over it: pure, and never for a task to say.

What a request computes, moves in memory and starts is known from the checked program, how fast the device is from
its profile. A deadline is many times what that makes, since boards throttle, share their cores and read from SD
cards: slow training is no death. Where a profile does not say how fast its device is, the slowest board that trains
is meant. Above all of it stands the owner's `limits.step_timeout_s`: however much a task asks for, no request takes
longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grapevine_proto.manifest import TaskManifest, TrainingPlan
from grapevine_tasks.checks import EVALUATION_BATCH, CheckReport, Work
from grapevine_tasks.pipelines import SampleMemory, fewest_samples

SHORTEST_S: Final = 120.0  # of a deadline: PyTorch is read from an SD card, the machine has other work
PATIENCE: Final = 20.0  # times what is expected
# A member that takes longer than a round interval over a single step merges a dozen models before it has learnt once;
# but intervals are often short, and what takes no longer than this is tried.
LONGEST_STEP_S: Final = 60.0
# To start a kernel takes about as long as so many operations: 3 to 4 µs where training does 60 · 10⁹ a second.
FLOPS_TO_START: Final = 200_000
_READ_BYTES_PER_S: Final = 1e6  # of samples from an SD card, with all that is made of them
_SAMPLE_S: Final = 0.005  # of a sample that is a file: opened and unpacked


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a device trains: 10⁹ operations, and 10⁹ bytes read and written, a second; 0 is unknown."""

    gflops: float = 0.0
    memory_gbs: float = 0.0

    def seconds(self, work: Work) -> float:
        """How long some work takes, about: within a factor of ten. What is not known of the device is not counted."""
        computing_s = (work.flops + FLOPS_TO_START * work.num_kernels) / (self.gflops * 1e9) if self.gflops else 0.0
        return computing_s + (work.bytes_moved / (self.memory_gbs * 1e9) if self.memory_gbs else 0.0)

    def or_slowest(self) -> Pace:
        """The same, with the slowest board's figures for those that are unknown."""
        return Pace(gflops=self.gflops or SLOWEST.gflops, memory_gbs=self.memory_gbs or SLOWEST.memory_gbs)


UNKNOWN_PACE: Final = Pace()
SLOWEST: Final = Pace(gflops=1.0, memory_gbs=0.4)  # a third of what the slowest boards with a profile reach


@dataclass(frozen=True, kw_only=True)
class TaskWork:
    """What a task has a device do: in a training step, in all steps of a round, and to evaluate a model."""

    step: Work
    training: Work  # of a round
    evaluation: Work
    num_evaluated: int  # the fewest samples that are held out; who has more evaluates longer


def work_of(manifest: TaskManifest, report: CheckReport) -> TaskWork:
    """What a checked task has a device do that comes with the fewest samples."""
    _, num_evaluated = fewest_samples(manifest.data)
    step = report.training_step_by_batch.at(manifest.training.batch_size)
    return TaskWork(
        step=step,
        training=step.times(manifest.training.steps_per_round),
        evaluation=evaluation_work(report, num_evaluated),
        num_evaluated=num_evaluated,
    )


def evaluation_work(report: CheckReport, num_samples: int) -> Work:
    """What evaluating a model on so many samples takes."""
    num_batches, left_over = divmod(num_samples, EVALUATION_BATCH)
    whole = report.evaluation_by_batch.at(EVALUATION_BATCH).times(num_batches)
    return whole + report.evaluation_by_batch.at(left_over) if left_over else whole


def training_s(report: CheckReport, plan: TrainingPlan, pace: Pace) -> float:
    """Seconds that the training steps of a round take, about."""
    step = report.training_step_by_batch.at(plan.batch_size)
    return pace.or_slowest().seconds(step.times(plan.steps_per_round))


def evaluation_s(report: CheckReport, num_samples: int, pace: Pace) -> float:
    """Seconds that evaluating a model on so many samples takes, about."""
    return pace.or_slowest().seconds(evaluation_work(report, num_samples))


def loading_s(samples: SampleMemory, num_samples: int) -> float:
    """Seconds within which a trainer process is to be ready: twice as much for twice the samples."""
    return SHORTEST_S + samples.preparing / _READ_BYTES_PER_S + num_samples * _SAMPLE_S


def deadline_s(expected_s: float, longest_s: float) -> float:
    """The deadline of a request that is expected to take so long, where the owner allows `longest_s`."""
    return min(longest_s, max(SHORTEST_S, PATIENCE * expected_s))


def pace_reason(work: TaskWork, plan: TrainingPlan, pace: Pace, longest_s: float) -> str:
    """Why a task takes too long on a device whose speed is known; empty if it does not, by the estimate.

    `longest_s`: what the owner allows a request to take.
    """
    if not pace.gflops:
        return ""
    step_s, training_s, evaluation_s = map(pace.seconds, (work.step, work.training, work.evaluation))
    longest_step_s = max(LONGEST_STEP_S, plan.round_interval_s)
    if training_s > longest_s:
        what = f"a round of {plan.steps_per_round:,} training steps takes about {training_s:,.0f} s here"
        return f"{what} ({_shown(work.training)}), and limits.step_timeout_s allows {longest_s:,.0f}"
    if evaluation_s > longest_s:
        what = f"evaluating {work.num_evaluated:,} samples takes about {evaluation_s:,.0f} s here"
        return f"{what} ({_shown(work.evaluation)}), and limits.step_timeout_s allows {longest_s:,.0f}"
    if step_s > longest_step_s:
        what = f"a single training step takes about {step_s:,.0f} s here ({_shown(work.step)})"
        return (
            f"{what}; at most {longest_step_s:,.0f} s are taken, where a round begins every {plan.round_interval_s:g} s"
        )
    return ""


def _shown(work: Work) -> str:
    return f"{work.flops / 1e9:,.1f} GFLOP, {work.bytes_moved / 1e9:,.1f} GB moved, {work.num_kernels:,} kernels"
