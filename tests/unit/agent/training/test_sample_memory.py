"""What a trainer process takes for its samples was counted before it started: real processes, as the kernel tells."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image
from tests.unit.tasks.pipelines.test_steps import contract, series, step

from grapevine_agent.core.tasks.fitting import preparing_mb, samples_reason, training_mb
from grapevine_agent.data import DataSource, RecordingPlan, match_source
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.training.trainer import Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, Optimiser, TaskManifest, TrainingPlan, WeightsRef
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.checks import MemoryEstimate, ProgramLimits, check_program, estimate_memory
from grapevine_tasks.pipelines import model_specs

MIB = 2**20
RNG = np.random.default_rng(8)
Make = Callable[[Path], DataSource]


def _npz(num: int, *shape: int, dtype: str = "float32") -> Make:
    def make(folder: Path) -> DataSource:
        x = RNG.integers(0, 3, (num, *shape)).astype(dtype)
        np.savez(folder / "s.npz", x=x, y=RNG.integers(0, 3, num))
        return DataSource(name="s", kind="k", path=folder / "s.npz")

    return make


def _table(num: int, width: int) -> dict[str, Any]:
    columns = {f"c{k}": RNG.random(num).round(4) for k in range(width)}
    return {**columns, "room": np.array(["attic", "bath", "cellar"])[np.arange(num) % 3], "at": np.arange(num)[::-1]}


NAMES = ("attic", "bath", "cellar")


def _file(format_: str, num: int, width: int) -> Make:
    def make(folder: Path) -> DataSource:
        table = _table(num, width)
        path = folder / f"s.{format_}"
        if format_ == "csv":
            pa.csv.write_csv(pa.table(table), path)
        elif format_ == "parquet":
            pa.parquet.write_table(pa.table(table), path, row_group_size=50_000)
        else:
            names = ", ".join(table)
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(f"CREATE TABLE t ({names})")
                rows = zip(*(column.tolist() for column in table.values()), strict=True)
                connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(table))})", rows)
        query = f"SELECT {', '.join(table)} FROM t ORDER BY c0" if format_ == "sqlite" else ""
        columns = tuple((f"c{k}", f"c{k}") for k in range(width))
        return DataSource(
            name="s", kind="k", path=path, format=format_, query=query, columns=columns, target=("room",), time="at"
        )

    return make


def _images(num: int, side: int) -> Make:
    def make(folder: Path) -> DataSource:
        for name in NAMES:
            (folder / name).mkdir()
        for k in range(num):
            pixels = np.full((side, side, 3), k % 255, np.uint8)
            Image.fromarray(pixels).save(folder / NAMES[k % 3] / f"{k}.png")
        return DataSource(name="s", kind="k", path=folder, format="images")

    return make


def _recorded(num: int) -> Make:
    def make(folder: Path) -> DataSource:
        plan = RecordingPlan(topic="t", max_rows=10**6, keep_days=10**4)
        source = DataSource(
            name="s",
            kind="k",
            path=folder / "r.db",
            format="mqtt",
            columns=(("a", "$.a"), ("b", "$.b")),
            recording=plan,
        )
        recordings = Recordings(source.path)
        # A gap after every hundredth row, two topics.
        rows = (
            Row(source="s", topic=f"t{k % 2}", slot=60 * k + k // 200, run=60 * (k // 200), numbers=(k / 7, k / 3))
            for k in range(num)
        )
        recordings.add(rows, [source], 60.0 * num)
        recordings.close()
        return source

    return make


NAMED = {"classes": NAMES}
CASES: dict[str, tuple[DataContract, Make]] = {
    "an npz as it is": (contract((500,)), _npz(40_000, 500)),
    "an npz of bytes that become floats": (contract((28, 28), step("flatten")), _npz(60_000, 28, 28, dtype="uint8")),
    "an npz of doubles": (contract((200,), step("standardise")), _npz(50_000, 200, dtype="float64")),
    "windows, which multiply": (series((2,), step("forecast", length=100)), _npz(60_000, 2)),
    "one-hot, which multiplies": (
        contract((4,), step("one-hot", classes=50), dtype="int64"),
        _npz(60_000, 4, dtype="int64"),
    ),
    "a CSV": (contract((8,), **NAMED), _file("csv", 300_000, 8)),
    "a Parquet": (contract((8,), **NAMED), _file("parquet", 500_000, 8)),
    "a query": (contract((8,), **NAMED), _file("sqlite", 200_000, 8)),
    "images": (contract((96, 96, 3), step("channels-first"), step("grey"), **NAMED), _images(2_000, 96)),
    "recordings": (series((2,), step("difference"), step("forecast", length=50)), _recorded(60_000)),
}


def _manifest(data: DataContract) -> TaskManifest:
    """One linear layer on whatever the pipeline makes: the samples are what is large."""
    features, target = model_specs(data)
    width = math.prod(features.shape)
    size = 3 if target.dtype == "int64" else math.prod(target.shape)
    ending = (-1, size) if target.dtype == "int64" else (-1, *target.shape)
    nodes = (
        Node(operator=Operator.RESHAPE, arguments=(Ref(0), (-1, width))),
        Node(operator=Operator.LINEAR, arguments=(Ref(3), Ref(1), Ref(2))),
        Node(operator=Operator.RESHAPE, arguments=(Ref(4), ending)),
    )
    graph = Graph(nodes=nodes, output=5)
    program = Program(
        inputs=(InputSpec(name="input", dtype=features.dtype, shape=features.shape),),
        parameters=(TensorSpec(name="weight", shape=(size, width)), TensorSpec(name="bias", shape=(size,))),
        buffers=(),
        train=graph,
        eval=graph,
    )
    manifest = _any_task(program, data)
    if target.dtype == "int64":
        return manifest
    return replace(manifest, training=replace(manifest.training, loss="mse", metric="mse"))


def _any_task(program: Program, data: DataContract) -> TaskManifest:
    return TaskManifest(
        name="Any",
        publisher="abc",
        program=program,
        initial_weights=WeightsRef(digest="0" * 64, num_bytes=1),
        data=data,
        training=TrainingPlan(batch_size=32, optimiser=Optimiser(learning_rate=0.001)),
    )


def _estimate(manifest: TaskManifest) -> MemoryEstimate:
    limits = ProgramLimits(largest_batch=manifest.training.batch_size)
    return estimate_memory(manifest.program, check_program(manifest.program, limits), manifest.training)


def _peak_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("case", CASES)
async def test_a_trainer_is_never_larger_than_it_was_counted(case: str, tmp_path: Path) -> None:
    data, make = CASES[case]
    source = make(tmp_path)
    match = match_source(data, [source])
    assert match.memory is not None, str(match)
    manifest = _manifest(data)
    counted = max(preparing_mb(match.memory), training_mb(_estimate(manifest), match.memory))
    trainer = Trainer(manifest, source, TrainerLimits(memory_mb=counted))
    await trainer.start(100.0)
    try:
        parameters = np.zeros(math.prod(manifest.program.parameters[0].shape) + manifest.program.parameters[1].shape[0])
        model = parameters.astype(np.float32), np.empty(0, np.float32)
        await trainer.train(*model, 3, 60.0)
        await trainer.evaluate(*model, 60.0)
        assert trainer.pid is not None
        peak_mb = _peak_mb(trainer.pid)
    finally:
        await trainer.stop()
    assert peak_mb <= counted
    assert counted <= 1.6 * peak_mb  # or honest tasks would be refused


async def test_the_limit_holds_while_samples_are_prepared(tmp_path: Path) -> None:
    """Windows of some 500 MB out of 5 MB of rows, for a trainer that may have 400 MB in all."""
    data = series((2,), step("forecast", length=500))
    source = _npz(130_000, 2)(tmp_path)
    trainer = Trainer(_manifest(data), source, TrainerLimits(memory_mb=400))
    starting = asyncio.create_task(trainer.start(100.0))
    largest_mb, deadline_s = 0.0, time.monotonic() + 100
    while not starting.done() and time.monotonic() < deadline_s:
        with suppress(OSError, StopIteration):
            largest_mb = max(largest_mb, _peak_mb(trainer.pid or 0))
        await asyncio.sleep(0.005)
    with pytest.raises(TaskError, match=r"out of memory: the task needs more than limits\.memory_mb = 400"):
        await starting
    assert 30 < largest_mb <= 400 + 64


def test_a_source_that_is_too_large_is_refused_before_it_is_read_and_told_how_many_would_do(tmp_path: Path) -> None:
    data = series((2,), step("forecast", length=500))
    source = _npz(130_000, 2)(tmp_path)
    estimate = _estimate(_manifest(data))
    match = match_source(data, [source], why_no_room=lambda samples: samples_reason(estimate, samples, 400))
    assert not match
    told = str(match)
    assert told.startswith("s: 130,000 samples are too many: it needs about")
    assert told.endswith("or raise limits.memory_mb")
    most = int(
        told.split("offer about ")[1].split(",  or", maxsplit=1)[0].split(", or", maxsplit=1)[0].replace(",", "")
    )
    fewer = _npz(most, 2)(tmp_path)
    assert match_source(data, [fewer], why_no_room=lambda samples: samples_reason(estimate, samples, 400))


def test_a_source_that_is_too_large_leaves_the_task_to_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    data = contract((500,))
    large = replace(_npz(100_000, 500)(tmp_path / "large"), name="large")
    small = replace(_npz(1_000, 500)(tmp_path), name="small")
    match = match_source(data, [large, small], why_no_room=lambda s: samples_reason(_estimate(_manifest(data)), s, 350))
    assert match.source == small
