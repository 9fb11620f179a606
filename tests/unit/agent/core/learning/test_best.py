"""The best of a member's released models is kept, measured again where samples changed, and survives restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.digits import built_digits

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.best import BestModel
from grapevine_agent.core.learning.keeping import DAY_S, FILE_BYTES, Keeper, SaveBudget
from grapevine_agent.core.learning.patience import is_enough
from grapevine_proto.messages import Figure
from grapevine_tasks.layout import ModelLayout

LAYOUT = ModelLayout.of(built_digits().draft.program)


def asked(round_: int) -> fx.Evaluate:
    return fx.Evaluate(
        task="t",
        round=round_,
        parameters=np.full(LAYOUT.num_parameters, round_, np.float32),
        buffers=np.empty(0, np.float32),
        age=20 * round_,
        steps=20 * round_,
        version=round_ - 1,
    )


def evaluated(round_: int, metric: float | None, num: int = 9, **changes: Any) -> fx.Evaluated:
    found = {"loss": metric, "metric": metric, "num_evaluated": num, "of": asked(round_)} | changes
    return fx.Evaluated(task="t", round=round_, **found)


def judge(best: BestModel, evaluation: fx.Evaluated) -> list[fx.Evaluate]:
    return best.judge(evaluation, lambda: {"a": evaluation.round})


def of_errors() -> BestModel:
    return BestModel(task="t", higher_is_better=False)


def held(best: BestModel) -> tuple[int, float, int]:
    assert best.held is not None
    return best.held.asked.round, best.held.metric, best.held.num_evaluated


def test_a_model_that_is_trained_for_too_long_does_not_take_the_place_of_the_best() -> None:
    best = of_errors()
    for round_, metric in enumerate((0.9, 0.694, 0.72, 0.844), 1):
        assert judge(best, evaluated(round_, metric)) == []
    assert held(best) == (2, 0.694, 9)
    assert best.figure(800) == Figure(metric=0.694, age=40, version=1, num_evaluated=9, rounds_since=798)
    assert best.latest == Figure(metric=0.844, age=80, version=3, num_evaluated=9)
    higher = BestModel(task="t", higher_is_better=True)
    for round_, metric in enumerate((0.9, 0.694, 0.95, 0.844), 1):
        judge(higher, evaluated(round_, metric))
    assert held(higher)[0] == 3


def test_equal_metrics_are_told_apart_by_the_loss() -> None:
    best = BestModel(task="t", higher_is_better=True)
    judge(best, evaluated(1, 1.0, loss=0.5))
    judge(best, evaluated(2, 1.0, loss=0.6))
    assert held(best)[0] == 1
    judge(best, evaluated(3, 1.0, loss=0.4))
    assert held(best)[0] == 3
    figure = best.figure(9)
    assert figure is not None
    assert figure.rounds_since == 8  # the metric has not improved


def test_only_what_is_better_by_a_thousandth_counts_as_an_improvement() -> None:
    best = of_errors()
    for round_ in range(1, 11):
        judge(best, evaluated(round_, 0.7 * (1 - 1e-4) ** round_))
    assert held(best)[0] == 10
    figure = best.figure(10)
    assert figure is not None
    assert figure.rounds_since == 9
    for round_ in range(11, 13):
        judge(best, evaluated(round_, 0.7 * (1 - 1e-4) ** round_))
    figure = best.figure(12)
    assert figure is not None
    assert figure.rounds_since == 0  # what has crept together is one


def test_who_has_no_held_out_samples_has_no_best() -> None:
    best = of_errors()
    judge(best, evaluated(1, None, 0))
    assert (best.held, best.latest, best.figure(5), best.to_save()) == (None, None, None, None)


def test_on_other_samples_the_best_is_measured_again_before_it_is_compared() -> None:
    best = of_errors()
    judge(best, evaluated(1, 0.5))
    (again,) = judge(best, evaluated(2, 0.7, 20))
    assert (again.which, again.round) == ("best", 1)
    assert held(best) == (1, 0.5, 9)
    assert judge(best, evaluated(1, 0.9, 20, of=again)) == []
    assert held(best) == (2, 0.7, 20)  # on these samples the newer one is the better
    (again,) = judge(best, evaluated(3, 0.8, 21))
    judge(best, evaluated(2, 0.75, 21, of=again))
    assert held(best) == (2, 0.75, 21)
    (again,) = judge(best, evaluated(4, 0.9, 22))
    judge(best, evaluated(2, None, 0, of=again, error="not finite"))
    assert held(best) == (4, 0.9, 22)


def restarted(best: BestModel, **changes: Any) -> BestModel:
    saved = best.to_save()
    assert saved is not None
    held_on_disk = fx.SavedModel(vectors=saved.vectors, counters=saved.counters, figures=saved.figures)
    again = of_errors()
    again.restore(replace(held_on_disk, **changes), LAYOUT)
    return again


def test_the_best_survives_a_restart_and_what_is_none_is_passed_over() -> None:
    best = of_errors()
    judge(best, evaluated(7, 0.5))
    judge(best, evaluated(30, 0.6))
    again = restarted(best)
    assert (held(again), again.figure(30)) == (held(best), best.figure(30))
    assert again.held is not None
    assert again.held.contributions == {"a": 7}
    np.testing.assert_array_equal(again.held.asked.parameters, asked(7).parameters)
    judge(again, evaluated(31, 0.55))
    assert held(again)[0] == 7
    wrongs: tuple[dict[str, Any], ...] = (
        {"vectors": {"parameters": np.ones(3, np.float32), "buffers": np.empty(0, np.float32)}},
        {"figures": {"metric": float("nan"), "loss": 0.1, "counted": 0.1}},
        {"figures": {}},
    )
    for wrong in wrongs:
        assert restarted(best, **wrong).held is None


def test_the_best_is_saved_when_it_changed_and_within_the_same_budget() -> None:
    best, keeper = of_errors(), Keeper(budget=SaveBudget(save_every_s=5.0, bytes_per_day=100 * 2**20))
    model = fx.SaveModel(task="t", vectors={"parameters": np.ones(1000, np.float32)}, counters={"age": 1})
    assert keeper.due(model, 0.0, best.to_save()) == [model]
    alone_s = keeper.next_s
    judge(best, evaluated(1, 0.5))
    (saved,) = keeper.due(model, 10.0, best.to_save())
    assert isinstance(saved, fx.SaveBest)
    judge(best, evaluated(2, 0.6))
    assert keeper.due(model, 20.0, best.to_save()) == []
    num_bytes = 2 * FILE_BYTES + 4 * (1000 + LAYOUT.num_parameters)
    assert keeper.next_s - 20.0 == pytest.approx(DAY_S * num_bytes / (100 * 2**20))
    assert keeper.next_s - 20.0 > alone_s
    judge(best, evaluated(3, 0.4))
    (newer,) = keeper.if_changed(model, best.to_save())
    assert isinstance(newer, fx.SaveBest)
    assert newer.figures["metric"] == 0.4


def said(*rounds_since: int) -> list[Figure]:
    return [Figure(metric=0.5, age=1, version=1, num_evaluated=9, rounds_since=each) for each in rounds_since]


def test_it_is_enough_once_more_than_half_of_the_voices_have_waited() -> None:
    assert not is_enough(10, [])
    assert is_enough(10, said(10))
    assert not is_enough(10, said(9))
    assert not is_enough(10, said(50, 3))
    assert is_enough(10, said(50, 30, 3))
    assert not is_enough(10, said(5000, 3, 4))  # nobody's voice counts for more than one
    assert not is_enough(0, said(50, 30))
