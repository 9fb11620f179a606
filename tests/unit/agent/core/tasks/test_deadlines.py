"""Deadlines are made of what is computed, of the device and of its owner; of what a task says of time, nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.tasks.hostile.attack import honest_manifest

from grapevine_agent.core.tasks.deadlines import (
    FLOPS_TO_START,
    PATIENCE,
    SHORTEST_S,
    SLOWEST,
    Pace,
    TaskWork,
    deadline_s,
    evaluation_s,
    evaluation_work,
    loading_s,
    pace_reason,
    training_s,
    work_of,
)
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.manifest import TrainingPlan
from grapevine_tasks.checks import EVALUATION_BATCH, Work, check_manifest
from grapevine_tasks.pipelines import SampleMemory

HOUR_S = 3600.0
PACE = Pace(gflops=10.0, memory_gbs=2.0)
IDLE = TaskWork(step=Work(), training=Work(), evaluation=Work(), num_evaluated=1)
TASK = replace(honest_manifest(), data=replace(honest_manifest().data, minimum_samples=5 * 1000))
CHECKED = check_manifest(TASK, check_merging=check_merge_plan)


def _reason(*, longest_s: float = 3600.0, round_interval_s: float = 1.0, pace: Pace = PACE, **work: Work) -> str:
    return pace_reason(replace(IDLE, **work), TrainingPlan(round_interval_s=round_interval_s), pace, longest_s)  # type: ignore[arg-type]


def test_arithmetic_memory_and_kernels_each_take_their_time() -> None:
    assert PACE.seconds(Work(flops=10**10)) == pytest.approx(1.0)
    assert PACE.seconds(Work(bytes_moved=2 * 10**9)) == pytest.approx(1.0)
    assert PACE.seconds(Work(num_kernels=10**10 // FLOPS_TO_START)) == pytest.approx(1.0)
    assert PACE.seconds(Work(flops=10**10, bytes_moved=10**9)) == pytest.approx(1.5)


def test_what_is_not_known_of_a_device_is_not_counted_or_taken_to_be_slowest() -> None:
    assert Pace(gflops=10.0).seconds(Work(bytes_moved=10**12)) == 0
    assert Pace(gflops=10.0).or_slowest() == Pace(gflops=10.0, memory_gbs=SLOWEST.memory_gbs)
    assert Pace().or_slowest() == SLOWEST
    assert training_s(CHECKED, TASK.training, Pace()) == training_s(CHECKED, TASK.training, SLOWEST) > 0


def test_a_task_s_work_is_that_of_its_steps_and_of_all_held_out_samples() -> None:
    work = work_of(TASK, CHECKED)
    assert work.num_evaluated == 1000
    assert work.step == CHECKED.training_step
    assert work.training == work.step.times(TASK.training.steps_per_round)
    whole = CHECKED.evaluation_by_batch.at(EVALUATION_BATCH)
    assert work.evaluation == whole.times(3) + CHECKED.evaluation_by_batch.at(1000 - 3 * EVALUATION_BATCH)
    assert evaluation_work(CHECKED, 2 * EVALUATION_BATCH) == whole.times(2)
    assert evaluation_s(CHECKED, 10_000, PACE) > 9 * evaluation_s(CHECKED, 1000, PACE)


def test_a_round_that_the_owner_does_not_allow_is_a_reason_with_its_figures() -> None:
    training = Work(flops=40 * 10**12, bytes_moved=10**9, num_kernels=500)
    assert _reason(training=training) == (
        "a round of 10 training steps takes about 4,001 s here (40,000.0 GFLOP, 1.0 GB moved, 500 kernels), "
        "and limits.step_timeout_s allows 3,600"
    )
    assert _reason(training=training, longest_s=5000.0) == ""


def test_an_evaluation_that_cannot_finish_is_a_reason() -> None:
    evaluation = Work(flops=4 * 10**14)
    assert _reason(evaluation=evaluation).startswith("evaluating 1 samples takes about 40,000 s here (400,000.0 GFLOP")


def test_data_movement_alone_can_be_too_much() -> None:
    assert "8,000.0 GB moved" in _reason(training=Work(bytes_moved=8 * 10**12))


def test_a_step_longer_than_a_round_interval_and_a_minute_is_a_reason() -> None:
    step = Work(bytes_moved=150 * 10**9)
    assert _reason(step=step) == (
        "a single training step takes about 75 s here (0.0 GFLOP, 150.0 GB moved, 0 kernels); at most 60 s are taken, "
        "where a round begins every 1 s"
    )
    assert _reason(step=step, round_interval_s=80.0) == ""
    assert _reason(step=Work(bytes_moved=100 * 10**9)) == ""


def test_of_a_device_of_unknown_speed_nothing_is_said() -> None:
    assert _reason(training=Work(flops=10**18), pace=Pace()) == ""


def test_what_a_task_says_of_time_changes_no_deadline() -> None:
    weekly = replace(TASK.training, round_interval_s=7 * 86_400.0)
    assert training_s(CHECKED, weekly, PACE) == training_s(CHECKED, TASK.training, PACE)


def test_a_small_step_has_two_minutes() -> None:
    assert deadline_s(training_s(CHECKED, TASK.training, Pace()), HOUR_S) == SHORTEST_S
    assert deadline_s(evaluation_s(CHECKED, 1_000, Pace()), HOUR_S) == SHORTEST_S


def test_a_large_step_has_many_times_what_it_should_take_and_no_more_than_the_owner_lends() -> None:
    assert deadline_s(30.0, HOUR_S) == PATIENCE * 30
    assert deadline_s(500.0, HOUR_S) == HOUR_S
    assert deadline_s(1e12, HOUR_S) == HOUR_S
    assert deadline_s(0.0, 10.0) == 10.0


def test_a_slower_device_has_more_time() -> None:
    slow, quick = Pace(gflops=3.0, memory_gbs=1.0), Pace(gflops=28.0, memory_gbs=8.0)
    unknown_s, slow_s, quick_s = (training_s(CHECKED, TASK.training, pace) for pace in (Pace(), slow, quick))
    assert unknown_s > slow_s > quick_s > 0


def test_many_samples_have_longer_to_be_loaded() -> None:
    few, many = SampleMemory(preparing=10**6), SampleMemory(preparing=10**8)
    assert SHORTEST_S < loading_s(few, 100) < loading_s(many, 100_000)
    assert loading_s(many, 100_000) > 500  # as many small files on a slow card
