"""One seed: six stations together in the simulator, and each alone; then all models on months nobody has seen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Final

import numpy as np

from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_lab.simulator.experiment import Prepared, begin, give_trainer, prepare
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_lab.worth_pulling.series import DEGREES, Station, persistence, save, stations
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import load_initial

TASK: Final = Path(__file__).with_name("hourly")

SCENARIO: Final = """
[scenario]
name = "Worth pulling"
rounds = {rounds}
seed = {seed}
[task]
path = "{task}"
[data]
name = "{data}"
kind = "weather-24x4"
[partition]
kind = "by-group"
test = "own"
[nodes]
num = {num}
[measure]
models = ["released"]
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Mean rmse over the stations, in °C, on the later months. Ages are optimiser steps in the model."""

    holdout: str
    first_hour: int
    persistence: float
    best: float  # the model that `task pull` would give
    best_age: int
    latest: float  # and what it gives with --latest, of the same member
    latest_age: int
    alone_best: float  # each station by itself, its own best
    alone_latest: float


Score = Callable[[Vector, Vector], float]


def run(holdout: str, first_hour: int, *, rounds: int, seed: int) -> Found:
    """See the module's docstring. Raises ConfigError where the data set is not there."""
    found = stations(holdout, first_hour)
    with tempfile.TemporaryDirectory() as folder:
        data, path = Path(folder) / "stations.npz", Path(folder) / "scenario.toml"
        save(found, data)
        path.write_text(SCENARIO.format(rounds=rounds, seed=seed, task=TASK, data=data, num=len(found)))
        prepared = prepare(read_scenario(path))
        learners = _together(prepared, rounds, seed)
    score = _score(prepared, found)
    # What an engineer pulls: of those that claim a figure, a best of the usual age; and that member's newest.
    claiming = [(each, figure) for each in learners if (figure := each.best.figure(each.model.round)) is not None]
    middle = median_low(figure.age for _, figure in claiming)
    giver, _ = min(claiming, key=lambda pair: (abs(pair[1].age - middle), pair[1].metric))
    held = giver.best.held
    assert held is not None
    alone = [_alone(prepared, station, rounds, seed + number) for number, station in enumerate(found)]
    return Found(
        holdout=holdout,
        first_hour=first_hour,
        persistence=DEGREES * float(np.mean([persistence(each) for each in found])),
        best=score(held.asked.parameters, held.asked.buffers),
        best_age=held.asked.age,
        latest=score(giver.model.released, giver.model.released_buffers),
        latest_age=giver.model.age,
        alone_best=DEGREES * float(np.mean([best for best, _ in alone])),
        alone_latest=DEGREES * float(np.mean([latest for _, latest in alone])),
    )


def _together(prepared: Prepared, rounds: int, seed: int) -> list[Learning]:
    """The members once each has so many rounds behind it."""
    world_run = begin(prepared, seed)
    give_trainer(world_run, prepared.scenario, seed)
    world = world_run.world
    assert world.work.trainer is not None
    try:
        while world.clock.next_s() <= world_run.limit_s:
            world.step()
            learners = [device.learner(world_run.task) for device in world.devices]
            if all(each is not None and each.model.round > rounds for each in learners):
                break
        return [each for each in learners if each is not None]
    finally:
        world.work.trainer.close()


def _trainer(prepared: Prepared, station: Station, x: Vector, y: Vector, seed: int = 0) -> LocalTrainer:
    draft = prepared.built.draft
    samples = Samples(x=station.x, y=station.y, x_test=x, y_test=y)
    return LocalTrainer(draft.program, draft.training, samples, seed=seed, num_threads=1)


def _score(prepared: Prepared, found: list[Station]) -> Score:
    judges = [_trainer(prepared, each, each.x_later, each.y_later) for each in found]

    def score(parameters: Vector, buffers: Vector) -> float:
        return DEGREES * float(np.mean([_metric(judge, parameters, buffers) for judge in judges]))

    return score


def _metric(trainer: LocalTrainer, parameters: Vector, buffers: Vector) -> float:
    metric = trainer.evaluate(parameters, buffers).metric
    assert metric is not None
    return metric


def _alone(prepared: Prepared, station: Station, rounds: int, seed: int) -> tuple[float, float]:
    """Rmse on the later months of a station's best model by its held-out samples, and of its last one."""
    draft, layout = prepared.built.draft, ModelLayout.of(prepared.built.draft.program)
    own = _trainer(prepared, station, station.x_held, station.y_held, seed)
    model = ModelState.initial(*load_initial(layout, prepared.built.weights, draft.initial_weights))
    best, best_model = np.inf, (model.released, model.released_buffers)
    for _ in range(rounds):
        model.release(draft.merging.ema)
        metric = _metric(own, model.released, model.released_buffers)
        if metric < best:
            best, best_model = metric, (model.released, model.released_buffers)
        result = own.train(model.parameters, model.buffers, draft.training.steps_per_round, age=model.age)
        model.add_training(
            start=model.parameters, end=result.parameters, start_buffers=model.buffers, end_buffers=result.buffers
        )
        model.age += draft.training.steps_per_round
    judge = _trainer(prepared, station, station.x_later, station.y_later)
    return _metric(judge, *best_model), _metric(judge, model.released, model.released_buffers)
