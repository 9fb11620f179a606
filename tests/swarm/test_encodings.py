"""Crowds whose members write their vectors in different ways, or begin again in mid-window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.learning_crowd import Crowd, crowd

SUMMED: dict[str, Any] = {"strategy": "delta-sum", "window_rounds": 2}


def mean_accuracy(group: Crowd) -> float:
    return float(np.mean(group.accuracy(since_s=group.world.now_s - 2)))


@pytest.mark.parametrize(
    ("allowed", "merging"),
    [
        ("int8+zstd", {}),
        ("int8+zstd", SUMMED),
        ("top-k+zstd", SUMMED),
        ("top-k+zstd", {"update_form": "delta"}),
        ("one-of-tomorrow", {}),
    ],
)
def test_members_who_write_float32_learn_with_those_who_do_not(allowed: str, merging: dict[str, Any]) -> None:
    group = crowd(written_as=("float32", "auto"), encodings=("float32", allowed), **merging)
    group.world.run(15)
    assert mean_accuracy(group) > 0.91
    assert all(not set(member.dropped) for member in group.members)
    assert all(member.core.tasks.learning[group.task].num_sent for member in group.members)


@pytest.mark.parametrize(
    ("server_strategy", "name", "merging"),
    [
        ("doubly-weighted", "int8+zstd", {}),
        ("fedbuff", "int8+zstd", {}),
        ("fedbuff", "top-k+zstd", {}),
        ("doubly-weighted", "top-k+zstd", {"strategy": "delta-sum"}),
    ],
)
def test_a_server_reads_and_writes_what_its_members_do(
    server_strategy: str, name: str, merging: dict[str, Any]
) -> None:
    constants = {"buffer": 3.0} if server_strategy == "fedbuff" else {}
    group = crowd(
        written_as=("float32", "auto"),
        encodings=("float32", name),
        server_strategy=server_strategy,
        server_constants=constants,
        **merging,
    )
    group.world.run(3)
    server = group.start_server()
    group.world.run(12)
    aggregator = server.core.tasks.aggregating[group.task]
    assert set(aggregator.contributors) == {member.peer for member in group.members}
    assert not set(server.dropped)
    assert all(not set(member.dropped) for member in group.members)
    assert mean_accuracy(group) > 0.9


def test_a_member_that_begins_again_in_mid_window_is_read_as_before() -> None:
    group = crowd(encodings=("float32", "top-k+zstd"), **SUMMED)
    group.world.run(8.3)
    lost = group.members.pop(0)
    group.world.kill(lost)
    group.world.run(1.3)
    manifest = lost.core.book.entries[group.task].manifest
    again = group.world.add(
        replace(group.settings, peer=lost.peer),
        lost.key,
        trainer=DigitsTrainer(manifest, samples_of(0), 0),
        saved=lost.saved,
    )
    group.members.append(again)
    group.world.run(8)
    assert again.core.tasks.learning[group.task].num_sent
    assert mean_accuracy(group) > 0.91
    # Whoever had its base, and hears a change from it before it is told of the session, says so.
    assert all(set(member.dropped) <= {"unknown-base"} for member in group.members)
