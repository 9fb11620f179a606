"""The best model of a task lies beside its newest one: saved, loaded, forgotten and counted with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.service import fitting
from grapevine_agent.service.saving import Saver
from grapevine_agent.store.models import BEST, CURRENT
from grapevine_agent.store.store import Store
from grapevine_proto.messages import Figure, Metrics


def newest(age: int) -> fx.SaveModel:
    return fx.SaveModel(task="t", vectors={"parameters": np.full(9, age, np.float32)}, counters={"age": age})


def best(age: int, metric: float) -> fx.SaveBest:
    return fx.SaveBest(
        task="t",
        vectors={"parameters": np.full(9, age, np.float32)},
        counters={"age": age, "by/abc": 7},
        figures={"metric": metric, "loss": 0.25, "counted": metric},
    )


async def test_both_are_loaded_again_with_their_figures(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        saver.save(newest(10))
        saver.save(best(5, 0.5))
        saver.save(newest(20))
        await saver.finish()
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        held = await saver.load_model("t")
        await saver.finish()
    assert held is not None
    assert held.counters["age"] == 20
    assert held.best is not None
    assert (held.best.counters, dict(held.best.figures)) == (
        {"age": 5, "by/abc": 7},
        {"metric": 0.5, "loss": 0.25, "counted": 0.5},
    )
    np.testing.assert_array_equal(held.best.vectors["parameters"], np.full(9, 5, np.float32))


async def test_what_still_waits_counts_as_saved(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        saver._submit = lambda: None  # type: ignore[method-assign] # a disk that is busy
        saver.save(newest(10))
        saver.save(best(5, 0.5))
        held = await saver.load_model("t")
        assert held is not None
        assert held.best is not None
        assert held.best.figures["metric"] == 0.5
        await saver.forget("t", weights="", but_decision="")
        assert await saver.load_model("t") is None
        await saver.finish()


async def test_a_damaged_best_is_moved_aside_and_the_newest_is_used(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        saver.save(newest(10))
        saver.save(best(5, 0.5))
        await saver.why_not_saved("models")
        path = tmp_path / "models" / "t" / BEST
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        held = await saver.load_model("t")
        assert held is not None
        assert (held.counters["age"], held.best) == (10, None)
        assert not path.exists()
        saver.save(best(6, 0.4))
        await saver.finish()
        assert path.exists()


async def test_it_is_forgotten_with_the_task(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        saver = Saver(store)
        saver.save(newest(10))
        saver.save(best(5, 0.5))
        await saver.why_not_saved("models")
        folder = tmp_path / "models" / "t"
        assert {path.name for path in folder.iterdir()} == {CURRENT, BEST}
        await saver.forget("t", weights="", but_decision="")
        await saver.finish()
        assert not folder.exists()


def test_a_task_reserves_room_for_it() -> None:
    assert fitting.FILES_OF_A_MODEL == 4


@pytest.mark.parametrize("metric", [None, 0.5])
def test_a_line_of_history_keeps_what_was_measured_and_what_was_not(tmp_path: Path, metric: float | None) -> None:
    figure = Figure(metric=0.4, age=3, version=2, num_evaluated=9, rounds_since=1) if metric else None
    said = Metrics(
        task="t",
        round=1,
        age=2,
        loss=metric,
        metric=metric,
        num_evaluated=9 if metric else 0,
        best=figure,
        baseline=0.1,
    )
    with Store.open(tmp_path) as store:
        store.add_metrics("self", 1, said)
        (entry,) = store.metrics("t")
    assert entry.metrics == said
