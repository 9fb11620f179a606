"""Deadlines are made of what is computed, of the device and of its owner; of what a task says of time, nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.tasks.hostile.attack import honest_manifest

from grapevine_agent.core.tasks.deadlines import (
    PATIENCE,
    SHORTEST_S,
    deadline_s,
    evaluation_s,
    loading_s,
    pace_reason,
    training_s,
)
from grapevine_proto.manifest import TrainingPlan
from grapevine_tasks.checks import CheckReport, ProgramLimits, check_program
from grapevine_tasks.pipelines import SampleMemory

HOUR_S = 3600.0
PLAN = TrainingPlan(batch_size=32, steps_per_round=100)


@pytest.fixture
def report() -> CheckReport:
    return check_program(honest_manifest().program, ProgramLimits(largest_batch=32))


def test_what_a_task_says_of_time_changes_no_deadline(report: CheckReport) -> None:
    weekly = replace(PLAN, round_interval_s=7 * 86_400.0)
    assert training_s(report, weekly, 3.0) == training_s(report, PLAN, 3.0)


def test_a_small_step_has_two_minutes(report: CheckReport) -> None:
    assert deadline_s(training_s(report, PLAN, 0.0), HOUR_S) == SHORTEST_S
    assert deadline_s(evaluation_s(report, 10_000, 0.0), HOUR_S) == SHORTEST_S


def test_a_large_step_has_many_times_what_it_should_take_and_no_more_than_the_owner_lends() -> None:
    assert deadline_s(30.0, HOUR_S) == PATIENCE * 30
    assert deadline_s(500.0, HOUR_S) == HOUR_S
    assert deadline_s(1e12, HOUR_S) == HOUR_S
    assert deadline_s(0.0, 10.0) == 10.0


def test_a_slower_device_has_more_time(report: CheckReport) -> None:
    slow, quick, unknown = (training_s(report, PLAN, gflops) for gflops in (3.0, 28.0, 0.0))
    assert unknown > slow > quick > 0


def test_steps_and_samples_take_time_in_proportion(report: CheckReport) -> None:
    assert training_s(report, replace(PLAN, steps_per_round=1000), 3.0) == pytest.approx(
        10 * training_s(report, PLAN, 3.0)
    )
    assert evaluation_s(report, 25_600, 3.0) == pytest.approx(10 * evaluation_s(report, 2_560, 3.0))
    assert evaluation_s(report, 0, 3.0) == 0


def test_a_task_whose_rounds_can_never_end_in_time_is_not_joined(report: CheckReport) -> None:
    most = replace(PLAN, steps_per_round=1_000_000)
    assert pace_reason(report, PLAN, 3.0, HOUR_S) == ""
    assert pace_reason(report, most, 3.0, HOUR_S).startswith("a round of 1,000,000 training steps takes about")
    assert pace_reason(report, most, 3.0, HOUR_S).endswith("limits.step_timeout_s allows 3,600")
    assert pace_reason(report, most, 0.0, HOUR_S) == ""  # nobody knows how fast the device is
    assert pace_reason(report, most, 3.0, 7 * 86_400.0) == ""


def test_many_samples_have_longer_to_be_loaded() -> None:
    few, many = SampleMemory(preparing=10**6), SampleMemory(preparing=10**8)
    assert SHORTEST_S < loading_s(few, 100) < loading_s(many, 100_000)
    assert loading_s(many, 100_000) > 500  # as many small files on a slow card
