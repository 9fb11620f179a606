"""Requests wait until enough of them are alike, or one has to be answered; then they are begun, and go on meanwhile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from tests.unit.lab.simulator.training.crowds import SEED, crowd, net

from grapevine_agent.core import effects as fx
from grapevine_agent.training.results import TrainingResult
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.training.choose import make_crowd
from grapevine_lab.simulator.work import Work
from grapevine_proto.manifest import Optimiser, TrainingPlan

NUM_NODES = 52
PLAN = TrainingPlan(optimiser=Optimiser(name="sgd", learning_rate=0.1), batch_size=8)


def _work(num_workers: int) -> Work:
    samples = crowd(net("mlp").shape, NUM_NODES, num_test=10)
    trainer = make_crowd(net("mlp").program, PLAN, samples, seed=SEED, num_workers=num_workers, how="stacked")
    assert trainer.enough == 32
    return Work(seed=SEED, trainer=trainer, measurements=Measurements())


@pytest.fixture(params=[1, 2])
def work(request: pytest.FixtureRequest) -> Iterator[Work]:
    made = _work(request.param)
    yield made
    assert made.trainer is not None
    made.trainer.close()


def _asked(num_steps: int) -> fx.Train:
    parameters, buffers = net("mlp").model
    return fx.Train(task="t", parameters=parameters, buffers=buffers, num_steps=num_steps, age=0)


def _result(work: Work, ticket: int) -> TrainingResult:
    result = work.trained(ticket)
    assert isinstance(result, TrainingResult)
    return result


def test_what_is_alike_begins_when_it_is_enough(work: Work) -> None:
    unlike = {seat: work.train(seat, _asked(2 + seat % 2)) for seat in range(40)}
    assert not work._coming  # 20 of each
    for seat in range(40, 51):
        work.train(seat, _asked(2))
    assert not work._coming
    work.train(51, _asked(2))
    assert len(work._coming) == 32
    assert unlike[0] in work._coming
    assert unlike[1] not in work._coming
    assert _result(work, unlike[0]).num_samples == 16
    assert _result(work, unlike[1]).num_samples == 24


def test_a_result_is_the_same_whether_it_began_early_or_when_it_was_due() -> None:
    early, late = _work(2), _work(1)
    tickets = [early.train(seat, _asked(3)) for seat in range(32)]
    assert set(early._coming) == set(tickets)
    for seat, ticket in enumerate(tickets):
        due = _result(late, late.train(seat, _asked(3)))
        np.testing.assert_array_equal(_result(early, ticket).parameters, due.parameters)
        assert early.trained(ticket) is None  # once
    for work in (early, late):
        assert work.trainer is not None
        work.trainer.close()


def test_nobody_gets_what_was_forgotten_wherever_it_was(work: Work) -> None:
    waits = work.train(0, _asked(3))
    work.forget(waits)
    assert work.trained(waits) is None
    begun = [work.train(seat, _asked(3)) for seat in range(32)]
    work.forget(begun[5])
    assert work.trained(begun[5]) is None
    again = work.train(5, _asked(3))
    assert _result(work, again).num_samples == 24
    work.forget(begun[6])
    work.settle()
    assert work.trained(begun[6]) is None
    assert _result(work, begun[7]).num_samples == 24


def test_what_has_begun_is_kept_as_numbers(work: Work) -> None:
    tickets = [work.train(seat, _asked(3)) for seat in range(34)]
    work.settle()
    trainer, work.trainer = work.trainer, None
    kept = pickle.loads(pickle.dumps(work))
    work.trainer = kept.trainer = trainer
    for ticket in tickets[:32]:
        np.testing.assert_array_equal(_result(kept, ticket).parameters, _result(work, ticket).parameters)
    assert _result(kept, tickets[33]).num_samples == 24
