"""Whether a task is too large for a device: pure, in words for its owner.

A trainer process is largest at one of two times, and both are held against what it may take:

    preparing    Python, the libraries that read the source, the raw samples and what is made of them
    training     PyTorch, the samples as they are kept, the model and what a step or an evaluation takes
"""

from __future__ import annotations

import math
from typing import Final

from grapevine_agent.core.settings import DeviceLimits
from grapevine_proto.manifest import DataContract, TaskManifest
from grapevine_tasks.checks import MemoryEstimate
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import SampleMemory, fewest_samples_memory

READER_MB: Final = 50  # of a trainer process before it has read a sample
# Of one that has loaded PyTorch and run its first layers, before a device's own trainers have told it: 2.13 for CPUs
# takes 245 to 330 MB on x86-64, as the processor has more or fewer kinds of vector instructions.
TRAINER_MB: Final = 290
_MIB = 2**20


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


def memory_reason(manifest: TaskManifest, memory: MemoryEstimate, memory_mb: int, *, bare_mb: int = TRAINER_MB) -> str:
    """Why a trainer of this task does not fit into `memory_mb`, whatever the source; empty if it does.

    `bare_mb` is what a trainer takes on this device with PyTorch and without samples.
    """
    return samples_reason(memory, fewest_samples_memory(manifest.data), memory_mb, bare_mb=bare_mb)


def samples_reason(
    memory: MemoryEstimate,
    samples: SampleMemory,
    memory_mb: int,
    *,
    bare_mb: int = TRAINER_MB,
    whose: str = "profile allows",
) -> str:
    """Why a trainer with these samples does not fit into `memory_mb`; empty if it does, by the estimate.

    `whose` says what `memory_mb` is, for the owner.
    """
    preparing, training = preparing_mb(samples), training_mb(memory, samples, bare_mb=bare_mb)
    if max(preparing, training) <= memory_mb:
        return ""
    if training > memory_mb:
        pytorch = f"({bare_mb} of them for PyTorch itself)"
        return f"needs about {training:,} MB to train {pytorch}, {whose} {memory_mb:,}"
    return f"needs about {preparing:,} MB to prepare its samples, {whose} {memory_mb:,}"


def trainer_mb(data: DataContract, memory: MemoryEstimate) -> int:
    """The most resident memory that a trainer process takes, about, with the fewest samples that the task takes."""
    samples = fewest_samples_memory(data)
    return max(preparing_mb(samples), training_mb(memory, samples))


def preparing_mb(samples: SampleMemory) -> int:
    """Of a trainer process that reads and prepares its samples, at most."""
    return READER_MB + _mb(samples.libraries + samples.preparing)


def training_mb(memory: MemoryEstimate, samples: SampleMemory, *, bare_mb: int = TRAINER_MB) -> int:
    """Of one that trains and evaluates, about."""
    return bare_mb + _mb(samples.libraries + samples.kept + memory.peak_bytes)


def _mb(num_bytes: int) -> int:
    return math.ceil(num_bytes / _MIB)
