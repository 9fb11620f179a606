"""The learning rate as a function of age: the optimiser steps that a member has taken, or those in its model.

The larger of the two, so a device that joins late starts at the learning rate of the others, and one that
fell behind catches up with it (`ModelState.schedule_age`). Nothing here remembers anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from grapevine_proto.manifest import TrainingPlan
from grapevine_tasks.closed_sets import SCHEDULES, read_constants

Constants = Mapping[str, float]


def _constant(age: int, constants: Constants) -> float:  # noqa: ARG001 — one signature for all schedules
    return 1.0


def _step(age: int, constants: Constants) -> float:
    return math.pow(constants["factor"], age // int(constants["every"]))


def _exponential(age: int, constants: Constants) -> float:
    return math.pow(constants["factor"], age / constants["every"])


def _cosine(age: int, constants: Constants) -> float:
    return _half_cosine(age / constants["steps"], constants["final"])


def _warm_up(age: int, constants: Constants) -> float:
    return min(1.0, (age + 1) / constants["warm_up"])


def _warm_up_cosine(age: int, constants: Constants) -> float:
    warm_up = constants["warm_up"]
    if age < warm_up:
        return _warm_up(age, constants)
    return _half_cosine((age - warm_up) / (constants["steps"] - warm_up), constants["final"])


def _half_cosine(done: float, final: float) -> float:
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, done))) / 2


SHARES: Mapping[str, Callable[[int, Constants], float]] = {
    "constant": _constant,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "warm-up": _warm_up,
    "warm-up-cosine": _warm_up_cosine,
}


def learning_rate(plan: TrainingPlan) -> Callable[[int], float]:
    """The learning rate of the next step of a model, given the optimiser steps in it (0 or more). `plan` is checked."""
    rate, schedule = plan.optimiser.learning_rate, plan.schedule
    if schedule.name == "constant":
        return lambda age: rate  # noqa: ARG005
    share = SHARES[schedule.name]
    constants = read_constants("training.schedule", SCHEDULES[schedule.name].constants, schedule.constants)
    return lambda age: rate * share(age, constants)
