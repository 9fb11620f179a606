"""Whether a task is too large for a device: pure, in words for its owner."""

from __future__ import annotations

import math
from typing import Final

from grapevine_agent.core.settings import DeviceLimits
from grapevine_proto.manifest import DataContract, FeatureSpec, TaskManifest
from grapevine_tasks.checks import MemoryEstimate
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.sizes import BYTES_PER_ELEMENT

TRAINER_MB: Final = 240  # of a trainer process that has loaded PyTorch and run its first layers
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
