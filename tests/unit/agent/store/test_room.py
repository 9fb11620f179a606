"""The state folder within its bound: what goes first, and what never goes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.room import Tenants, folder_bytes
from grapevine_agent.store.store import Store
from grapevine_proto.messages import Metrics

MIB = 2**20
TASKS = ("a" * 64, "b" * 64, "c" * 64)


def fill(store: Store, folder: Path) -> None:
    """Three models of 1 MiB, saved twice, a day apart; the first is the oldest."""
    for day, task in enumerate(TASKS):
        for age in (1, 2):
            store.save_model(task, StoredModel(vectors={"x": np.zeros(MIB // 4, np.float32)}, metadata={"age": age}))
        for file in (folder / "models" / task).iterdir():
            os.utime(file, (1e9 + 86_400 * day, 1e9 + 86_400 * day))


def test_the_oldest_models_that_are_not_in_use_go_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Store.open(tmp_path, cap_bytes=4 * MIB + 300_000) as store:
        fill(store, tmp_path)
        assert folder_bytes(tmp_path) > 6 * MIB
        gone = store.make_room(Tenants(tasks=frozenset(TASKS[:1])))  # the oldest is in use
        assert store.model_tasks() == [TASKS[0], TASKS[2]]
        assert folder_bytes(tmp_path) <= store.cap_bytes
        assert gone == [f"the model of {TASKS[1][:12]} (2.0 MB, last saved 2001-09-10)"]
        assert f"of the 4.3 that limits.state_mb allows; gave up: {gone[0]}" in caplog.text
        assert store.make_room(Tenants(tasks=frozenset(TASKS[:1]))) == []


def test_what_is_in_use_never_goes_and_that_it_is_too_much_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path, cap_bytes=2 * MIB) as store:
        fill(store, tmp_path)
        weights = store.put_blob(b"w" * 300_000)
        keep = Tenants(tasks=frozenset(TASKS), weights=frozenset((weights,)))
        assert [store.make_room(keep), store.make_room(keep)] == [[], []]
        assert store.model_tasks() == list(TASKS)
        assert store.get_blob(weights) is not None
        assert caplog.text.count("all of it in use") == 1


def test_initial_weights_that_can_be_fetched_again_go_after_the_models(tmp_path: Path) -> None:
    (tmp_path / "identity.pem").write_bytes(b"k" * 500_000)
    with Store.open(tmp_path, cap_bytes=4 * MIB) as store:
        old, kept = store.put_blob(b"o" * 900_000), store.put_blob(b"k" * 100_000)
        os.utime(tmp_path / "blobs" / old, (1e9, 1e9))
        fill(store, tmp_path)
        gone = store.make_room(Tenants(tasks=frozenset(TASKS[2:]), weights=frozenset((kept,))))
        assert [each[:12] for each in gone] == ["the model of", "the model of"]
        assert store.get_blob(old) is not None
    with Store.open(tmp_path, cap_bytes=3 * MIB) as store:
        store.make_room(Tenants(tasks=frozenset(TASKS[2:]), weights=frozenset((kept,))))
        assert (store.get_blob(old), store.get_blob(kept)) == (None, b"k" * 100_000)
        assert store.model_tasks() == [TASKS[2]]
    assert (tmp_path / "identity.pem").stat().st_size == 500_000


def test_a_folder_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path, cap_bytes=100 * MIB) as store:
        fill(store, tmp_path)
        assert store.make_room(Tenants()) == []
        assert store.model_tasks() == list(TASKS)


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 1000)
    os.link(tmp_path / "one", tmp_path / "two")
    assert folder_bytes(tmp_path) == 1000
    assert folder_bytes(tmp_path / "nowhere") == 0


def test_forgetting_a_task_takes_all_that_is_kept_of_it_and_nothing_of_others(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        fill(store, tmp_path)
        weights = store.put_blob(b"w" * 1000)
        for number, task in enumerate(TASKS):
            store.add_metrics("self", 1, Metrics(task=task, round=1, age=1, loss=0.5, metric=0.9, num_evaluated=9))
            store.set_membership(task, "left" if number else "joined", 1)
        store.forget_task(TASKS[0], weights=weights, but_decision="left")
        store.forget_task(TASKS[1], but_decision="left")
        assert store.model_tasks() == [TASKS[2]]
        assert store.get_blob(weights) is None
        assert [len(store.metrics(task)) for task in TASKS] == [0, 0, 1]
        assert store.memberships() == {TASKS[1]: "left", TASKS[2]: "left"}
        assert store.kept_tasks() == list(TASKS[1:])
