"""What a trainer process takes for its samples was counted before it started: real processes, as the kernel tells."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from grapevine_agent.core.tasks.fitting import samples_reason
from grapevine_agent.data.formats import FORMATS
from grapevine_agent.data.matching import match_source
from grapevine_agent.training.trainer import Trainer, TrainerLimits
from grapevine_lab.bench.sample_memory import (
    CASES,
    Case,
    contract,
    estimate_of,
    linear_task,
    measure,
    npz,
    peak_mb_of,
    step,
)
from grapevine_proto.errors import TaskError

WINDOWS = contract((2,), step("forecast", length=500))  # of a megabyte of rows hundreds are made
NUM_ROWS = 130_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_a_trainer_is_never_larger_than_it_was_counted(case: Case, tmp_path: Path) -> None:
    counted_mb, peak_mb = await measure(case, tmp_path)
    assert peak_mb <= counted_mb
    assert counted_mb <= 1.6 * peak_mb  # or honest tasks would be refused


def test_every_format_but_downloads_is_measured(tmp_path: Path) -> None:
    made = set()
    for number, case in enumerate(CASES[5:]):
        (folder := tmp_path / str(number)).mkdir()
        made.add(case.make(folder).format)
    assert made | {"npz", "torchvision"} == set(FORMATS)


async def test_the_limit_holds_while_samples_are_prepared(tmp_path: Path) -> None:
    """Windows of some 500 MB, for a trainer that may have 400 MB in all."""
    source = npz(NUM_ROWS, 2)(tmp_path)
    trainer = Trainer(linear_task(WINDOWS), source, TrainerLimits(memory_mb=400))
    starting = asyncio.create_task(trainer.start(100.0))
    largest_mb, deadline_s = 0.0, time.monotonic() + 100
    while not starting.done() and time.monotonic() < deadline_s:
        with suppress(OSError):
            largest_mb = max(largest_mb, peak_mb_of(trainer.pid or 0))
        await asyncio.sleep(0.005)
    with pytest.raises(TaskError, match=r"out of memory: the task needs more than limits\.memory_mb = 400"):
        await starting
    assert 30 < largest_mb <= 400 + 64


def test_a_source_that_is_too_large_is_refused_before_it_is_read_and_told_how_many_would_do(tmp_path: Path) -> None:
    source = npz(NUM_ROWS, 2)(tmp_path)
    estimate = estimate_of(linear_task(WINDOWS))
    match = match_source(WINDOWS, [source], why_no_room=lambda samples: samples_reason(estimate, samples, 400))
    assert not match
    told = str(match)
    assert told.startswith("s: 130,000 samples are too many: it needs about")
    assert told.endswith("or raise limits.memory_mb")
    most = int(told.split("offer about ")[1].split(", or", maxsplit=1)[0].replace(",", ""))
    fewer = npz(most, 2)(tmp_path)
    assert match_source(WINDOWS, [fewer], why_no_room=lambda samples: samples_reason(estimate, samples, 400))


def test_a_source_that_is_too_large_leaves_the_task_to_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    data = contract((500,))
    large = replace(npz(100_000, 500)(tmp_path / "large"), name="large")
    small = replace(npz(1_000, 500)(tmp_path), name="small")
    estimate = estimate_of(linear_task(data))
    match = match_source(data, [large, small], why_no_room=lambda samples: samples_reason(estimate, samples, 350))
    assert match.source == small
