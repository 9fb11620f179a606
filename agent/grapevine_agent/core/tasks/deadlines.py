"""How long a trainer may take over a request: pure, and never for a task to say.

What a request computes is known from the checked program, how fast the device is from its profile. A deadline is
many times what that makes, since boards throttle, share their cores and read from SD cards: slow training is no
death. Where a profile does not say how fast its device is, the slowest board that trains is meant. Above all of it
stands the owner's `limits.step_timeout_s`: however much a task asks to be computed, no request takes longer.
"""

from __future__ import annotations

from typing import Final

from grapevine_proto.manifest import TrainingPlan
from grapevine_tasks.checks import EVALUATION_BATCH, CheckReport
from grapevine_tasks.pipelines import SampleMemory

SHORTEST_S: Final = 120.0  # of a deadline: PyTorch is read from an SD card, the machine has other work
PATIENCE: Final = 20.0  # times what is expected
SLOWEST_GFLOPS: Final = 1.0  # a third of what the slowest board with a profile reaches
_NODE_S: Final = 1e-3  # of an operator on such a board, whatever it computes
_READ_BYTES_PER_S: Final = 1e6  # of samples from an SD card, with all that is made of them
_SAMPLE_S: Final = 0.005  # of a sample that is a file: opened and unpacked


def training_s(report: CheckReport, plan: TrainingPlan, gflops: float) -> float:
    """Seconds that a training step of a round takes, about; 0 GFLOP/s: the device's speed is not known."""
    speed = (gflops or SLOWEST_GFLOPS) * 1e9
    # Forward, twice that backward, and the optimiser's few operations on each parameter.
    step_flops = 3 * report.train_cost.at(plan.batch_size) + 20 * report.num_parameters
    return plan.steps_per_round * (step_flops / speed + 3 * report.num_nodes * _NODE_S)


def evaluation_s(report: CheckReport, num_samples: int, gflops: float) -> float:
    """Seconds that evaluating a model on so many samples takes, about."""
    speed = (gflops or SLOWEST_GFLOPS) * 1e9
    num_batches = -(-num_samples // EVALUATION_BATCH)
    return num_batches * (report.eval_cost.at(EVALUATION_BATCH) / speed + report.num_nodes * _NODE_S)


def loading_s(samples: SampleMemory, num_samples: int) -> float:
    """Seconds within which a trainer process is to be ready: twice as much for twice the samples."""
    return SHORTEST_S + samples.preparing / _READ_BYTES_PER_S + num_samples * _SAMPLE_S


def deadline_s(expected_s: float, longest_s: float) -> float:
    """The deadline of a request that is expected to take so long, where the owner allows `longest_s`."""
    return min(longest_s, max(SHORTEST_S, PATIENCE * expected_s))


def pace_reason(report: CheckReport, plan: TrainingPlan, gflops: float, longest_s: float) -> str:
    """Why a task's rounds are too long for a device whose speed is known; empty if they are not, by the estimate."""
    expected_s = training_s(report, plan, gflops)
    if not gflops or expected_s <= longest_s:
        return ""
    return (
        f"a round of {plan.steps_per_round:,} training steps takes about {expected_s:,.0f} s here, and "
        f"limits.step_timeout_s allows {longest_s:,.0f}"
    )
