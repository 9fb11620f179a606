"""A member's model of one task: what is trained, what is released, and the counters that go with it.

Vectors are never modified in place: every change makes a new one. A snapshot is therefore a
reference, and nothing that was handed to a trainer, a message or a file changes behind its back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Evaluate, SavedModel
from grapevine_agent.core.learning.release_step import WHOLE, ReleaseStep
from grapevine_agent.merge.apart import apart
from grapevine_agent.merge.geometry import blocks
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout

COLD_START = 6  # β_t = min(β, t/(t + COLD_START)), t merged models averaged so far: the first count for more


@dataclass(kw_only=True)
class ModelState:
    """See the module's docstring. `parameters` is float32 [p], `buffers` float32 [b]."""

    parameters: Vector
    buffers: Vector
    released: Vector
    released_buffers: Vector
    age: int = 0  # optimiser steps in `parameters`: own ones are added, merges mix it as they mix the models
    steps: int = 0  # own optimiser steps, on top of those that the model was begun with
    experience: int = 0  # samples in the model (Chisme's μ): own ones are added, merges move it
    samples: int = 0  # size of the own data set
    version: int = 0  # own updates so far, N_i^i
    round: int = 0
    num_released: int = 0  # merged models that are averaged in `released`
    window: int = 0
    processed: int = 0  # own samples processed: what epochs are counted by
    base: Vector | None = None  # θ at the start of the open window, or before the last training (see `Learning`)
    versions: dict[str, int] = field(default_factory=dict)  # N_j^i: newest version of each source mixed in, latest last

    @classmethod
    def initial(cls, parameters: Vector, buffers: Vector) -> ModelState:
        """The task's initial weights, untrained."""
        return cls(parameters=parameters, buffers=buffers, released=parameters, released_buffers=buffers)

    def for_new_version(self) -> ModelState:
        """This model as the start of the task's next version.

        Age and experience are facts of the model and stay. Versions and rounds number what was done in one
        task, and begin again; so do the epochs.
        """
        return ModelState(
            parameters=self.parameters,
            buffers=self.buffers,
            released=self.released,
            released_buffers=self.released_buffers,
            age=self.age,
            steps=self.schedule_age,
            num_released=self.num_released,
            experience=self.experience,
            samples=self.samples,
        )

    @classmethod
    def restored(cls, saved: SavedModel, layout: ModelLayout) -> ModelState | None:
        """What `to_save` gave, or None where it does not fit the task."""
        vectors, counters = saved.vectors, saved.counters
        sizes = {
            "parameters": layout.num_parameters,
            "buffers": layout.num_buffers,
            "released": layout.num_parameters,
            "released_buffers": layout.num_buffers,
        }
        if any(name not in vectors or vectors[name].size != size for name, size in sizes.items()):
            return None
        return cls(
            parameters=vectors["parameters"],
            buffers=vectors["buffers"],
            released=vectors["released"],
            released_buffers=vectors["released_buffers"],
            age=counters.get("age", 0),
            steps=counters.get("steps", counters.get("age", 0)),
            experience=counters.get("experience", 0),
            samples=counters.get("samples", 0),
            version=counters.get("version", 0),
            round=counters.get("round", 0),
            num_released=counters.get("num_released", counters.get("round", 0)),
            window=counters.get("window", 0),
            processed=counters.get("processed", 0),
        )

    def to_save(self) -> tuple[Mapping[str, Vector], Mapping[str, int]]:
        """Vectors and counters that survive a restart."""
        return (
            {
                "parameters": self.parameters,
                "buffers": self.buffers,
                "released": self.released,
                "released_buffers": self.released_buffers,
            },
            {
                "age": self.age,
                "steps": self.steps,
                "experience": self.experience,
                "samples": self.samples,
                "version": self.version,
                "round": self.round,
                "num_released": self.num_released,
                "window": self.window,
                "processed": self.processed,
            },
        )

    def to_evaluate(self, task: str) -> Evaluate:
        """The effect that has the released model evaluated, with where its member stands."""
        return Evaluate(
            task=task,
            round=self.round,
            parameters=self.released,
            buffers=self.released_buffers,
            age=self.age,
            steps=self.schedule_age,
            version=self.version,
        )

    def release(self, ema: float, step: ReleaseStep = WHOLE) -> None:
        """Take the merged model into the released one: one averaging step for each local round, of this length."""
        self.num_released += 1
        beta = np.float32(min(ema, self.num_released / (self.num_released + COLD_START)))
        if step.part < 1:
            beta = np.float32(1 - (1 - beta) * np.float32(step.part))
        with apart():
            released = _mixed(self.released, self.parameters, beta)
            if step.own is not None:
                _go_beyond(released, self.parameters, step.own, (1 - beta) * np.float32(step.beyond))
            released_buffers = _mixed(self.released_buffers, self.buffers, beta)
        self.released, self.released_buffers = released, released_buffers

    def add_training(self, *, start: Vector, end: Vector, start_buffers: Vector, end_buffers: Vector) -> None:
        """θ ← θ_now + (θ₁ − θ₀) (scale-robust paper, Algorithm 1, line 6).

        What was merged while the trainer was at work is kept, and so is what the trainer found.
        """
        with apart():
            parameters = _moved(self.parameters, start, end)
            buffers = _moved(self.buffers, start_buffers, end_buffers)
        self.parameters, self.buffers = parameters, buffers

    def mix_in(self, parameters: Vector, buffers: Vector, *, age: int, experience: int) -> None:
        """Take what a merge has made."""
        self.parameters, self.buffers = parameters, buffers
        self.age, self.experience = age, experience

    def begin_again(self, parameters: Vector, buffers: Vector) -> None:
        """Leave the model for another one that nobody has trained."""
        self.parameters = self.released = parameters
        self.buffers = self.released_buffers = buffers
        self.age = self.steps = self.experience = self.num_released = 0
        self.base = None  # of the model that was left: a change from it would be one that nobody has found

    @property
    def schedule_age(self) -> int:
        """Where in the task's schedule this member is, in optimiser steps: its own, or its model's if these are more.

        What is merged was sent some time ago, so an age grows more slowly than its member trains: by age alone
        schedules would end late. Whoever began later, or trains more slowly, is where the model is that it took.
        """
        return max(self.steps, self.age)

    @property
    def epoch(self) -> int:
        """Passes over the own data set that were completed: t of Delta Sum."""
        return self.processed // self.samples if self.samples else 0


# Both without an intermediate vector: to give a large one back to the system can take as long as to make it.


def _mixed(released: Vector, merged: Vector, beta: np.float32) -> Vector:
    """β·released + (1 − β)·merged, float32."""
    mixed = beta * released
    for span in blocks(0, mixed.size):
        mixed[span] += (1 - beta) * merged[span]
    return mixed


def _go_beyond(released: Vector, merged: Vector, own: Vector, share: np.float32) -> None:
    """Add share·(merged − own) to a vector that nobody else has seen yet."""
    for span in blocks(0, released.size):
        released[span] += share * (merged[span] - own[span])


def _moved(model: Vector, start: Vector, end: Vector) -> Vector:
    """Model + (end − start), float32."""
    moved: Vector = end - start
    np.add(model, moved, out=moved)
    return moved


def without_negative_variances(layout: ModelLayout, buffers: Vector) -> Vector:
    """Adding a change that was found elsewhere can take a running variance below zero: clamp it."""
    clamped = buffers
    for entry in layout.buffers:
        if entry.nonnegative and np.any(clamped[entry.span] < 0):
            if clamped is buffers:
                clamped = buffers.copy()
            np.maximum(clamped[entry.span], 0, out=clamped[entry.span])
    return clamped
