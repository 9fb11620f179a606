"""What training and evaluating give, on both sides of the process boundary."""

from __future__ import annotations

from dataclasses import dataclass

from grapevine_proto.messages import Vector


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A model after some local steps."""

    parameters: Vector  # float32 [p]
    buffers: Vector  # float32 [b]
    loss: float  # mean over the steps
    num_samples: int  # processed, with repetition


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model does on this device's test samples; loss and metric are None when there are none."""

    loss: float | None
    metric: float | None
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What a device's metrics are held against: known once its samples are loaded."""

    baseline: float | None = None  # in the task's metric, on the same test samples
    baseline_name: str = ""
    unit: float | None = None  # what an error of 1 is in the owner's units, where there is such a number
