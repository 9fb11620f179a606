"""What passes between a crew and its workers, over a pipe that only these two hold.

crew → worker   one Setup, then any number of Tasks
worker → crew   for each Task, in order, an answer or what went wrong
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from grapevine_lab.simulator.training import shared_arrays
from grapevine_lab.simulator.training.jobs import Commons, How, Job
from grapevine_lab.simulator.training.shared_arrays import AnyArray
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Program


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker makes its engine of. Arrays are told by their number in `arrays`."""

    how: How
    program: Program
    plan: TrainingPlan
    arrays: shared_arrays.Plan
    x: tuple[int, ...]
    y: tuple[int, ...]
    x_test: tuple[int, ...]
    y_test: tuple[int, ...]
    moments: int
    slots: tuple[int, ...]

    def for_worker(self, slots: range) -> Setup:
        """With only these of the slots."""
        return replace(self, slots=tuple(self.slots[k] for k in slots))

    def commons(self, arrays: list[AnyArray]) -> Commons:
        """What jobs refer to, in these arrays."""
        return Commons(
            program=self.program,
            plan=self.plan,
            x=[arrays[k] for k in self.x],
            y=[arrays[k] for k in self.y],
            x_test=[arrays[k] for k in self.x_test],
            y_test=[arrays[k] for k in self.y_test],
            moments=arrays[self.moments],
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """Do a job on the first models of a slot."""

    slot: int
    num_models: int
    job: Job


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job that could not be done."""

    reason: str
