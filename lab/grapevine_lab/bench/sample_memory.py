"""`sample_memory`: what a trainer process takes for its samples, against what was counted before it was started.

Conventions. Each case has a source of its own kind, of tens of megabytes, and a task whose pipeline makes less or
more of it; the model is one linear layer, so the samples are what is large. A real trainer process is started with a
limit of what was counted, sandbox and all, trains three steps and evaluates. What
PyTorch takes by itself differs from processor to processor; it is what a first trainer told, as in the service. The
kernel's high-water mark of its resident memory (VmHWM, PyTorch and the libraries included, but not what merely lies in
the page cache) over what was counted is the figure. Above 1 it took more.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from grapevine_agent.core.tasks.fitting import preparing_mb, training_mb
from grapevine_agent.data.bounds import LIBRARIES, MIB
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.source import DataSource, RecordingPlan
from grapevine_agent.training.trainer import Trainer, TrainerLimits
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import (
    DataContract,
    FeatureSpec,
    Optimiser,
    PipelineStep,
    TaskManifest,
    TrainingPlan,
    WeightsRef,
)
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.checks import MemoryEstimate, ProgramLimits, check_program, estimate_memory
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import model_specs

NAME = "sample_memory"
TARGET = Target(limit=1.0, at_most=True)
GB_NEEDED = 1.5
CLASSES: Final = ("attic", "bath", "cellar")
_TIMEOUT_S = 100.0
_bare_mb: list[int] = []  # once it is measured
_RNG = np.random.default_rng(8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A source, and what a task makes of it."""

    what: str
    contract: DataContract
    make: Callable[[Path], DataSource]  # in a folder of its own


def contract(shape: tuple[int, ...], *steps: PipelineStep, **fields: Any) -> DataContract:
    """Of three classes, unless a step makes the target; `fields` replace what stands here."""
    derives = any(step.name == "forecast" for step in steps)
    target = FeatureSpec(name="y", dtype="float32" if derives else "int64", shape=())
    given = {"features": FeatureSpec(name="x", dtype="float32", shape=shape), "target": target, **fields}
    return DataContract(kind="k", num_classes=0 if derives else len(CLASSES), pipeline=steps, **given)


def step(name: str, **numbers: float) -> PipelineStep:
    """A step with arguments of one number each."""
    return PipelineStep(name=name, arguments={key: (float(number),) for key, number in numbers.items()})


def npz(num: int, *shape: int, dtype: str = "float32") -> Callable[[Path], DataSource]:
    """An npz file of so many samples."""

    def make(folder: Path) -> DataSource:
        x = _RNG.integers(0, 3, (num, *shape)).astype(dtype)
        np.savez(folder / "s.npz", x=x, y=_RNG.integers(0, 3, num))
        return DataSource(name="s", kind="k", path=folder / "s.npz")

    return make


def _table(format_: str, num: int, width: int) -> Callable[[Path], DataSource]:
    def make(folder: Path) -> DataSource:
        numbers = {f"c{k}": _RNG.random(num).round(4) for k in range(width)}
        columns = {**numbers, "room": np.array(CLASSES)[np.arange(num) % 3], "at": np.arange(num)[::-1]}
        path = folder / f"s.{format_}"
        _WRITERS[format_](columns, path)
        return DataSource(
            name="s",
            kind="k",
            path=path,
            format=format_,
            query=f"SELECT {', '.join(columns)} FROM t ORDER BY c0" if format_ == "sqlite" else "",  # noqa: S608 — ours
            columns=tuple((name, name) for name in numbers),
            target=("room",),
            time="at",
        )

    return make


def _write_csv(columns: dict[str, Any], path: Path) -> None:
    import pyarrow.csv  # noqa: PLC0415

    pyarrow.csv.write_csv(pyarrow.table(columns), path)


def _write_parquet(columns: dict[str, Any], path: Path) -> None:
    import pyarrow.parquet  # noqa: PLC0415

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=50_000)


def _write_sqlite(columns: dict[str, Any], path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE t ({', '.join(columns)})")
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608 — ours


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet, "sqlite": _write_sqlite}


def _images(num: int, side: int) -> Callable[[Path], DataSource]:
    def make(folder: Path) -> DataSource:
        from PIL import Image  # noqa: PLC0415

        for name in CLASSES:
            (folder / name).mkdir()
        for k in range(num):
            pixels = np.full((side, side, 3), k % 255, np.uint8)
            Image.fromarray(pixels).save(folder / CLASSES[k % 3] / f"{k}.png")
        return DataSource(name="s", kind="k", path=folder, format="images")

    return make


def _recorded(num: int) -> Callable[[Path], DataSource]:
    """Two topics, with a gap after every hundredth row of each."""

    def make(folder: Path) -> DataSource:
        source = DataSource(
            name="s",
            kind="k",
            path=folder / "r.db",
            format="mqtt",
            columns=(("a", "$.a"), ("b", "$.b")),
            recording=RecordingPlan(topic="t", max_rows=10**6, keep_days=10**4),
        )
        rows = (
            Row(source="s", topic=f"t{k % 2}", slot=60 * k + k // 200, run=60 * (k // 200), numbers=(k / 7, k / 3))
            for k in range(num)
        )
        with closing(Recordings(source.path)) as recordings:
            recordings.add(rows, [source], 60.0 * num)
        return source

    return make


_WHOLE = FeatureSpec(name="x", dtype="int64", shape=(4,))
CASES = (
    Case(what="npz, as it is", contract=contract((500,)), make=npz(40_000, 500)),
    Case(
        what="npz of bytes that become floats",
        contract=contract((28, 28), step("flatten")),
        make=npz(60_000, 28, 28, dtype="uint8"),
    ),
    Case(
        what="npz of doubles, standardised",
        contract=contract((200,), step("standardise")),
        make=npz(50_000, 200, dtype="float64"),
    ),
    Case(
        what="npz of rows, windows of 100", contract=contract((2,), step("forecast", length=100)), make=npz(60_000, 2)
    ),
    Case(
        what="npz of whole numbers, 50 one-hot",
        contract=contract((4,), step("one-hot", classes=50), features=_WHOLE),
        make=npz(60_000, 4, dtype="int64"),
    ),
    Case(what="CSV", contract=contract((8,), classes=CLASSES), make=_table("csv", 300_000, 8)),
    Case(what="Parquet", contract=contract((8,), classes=CLASSES), make=_table("parquet", 500_000, 8)),
    Case(what="SQLite", contract=contract((8,), classes=CLASSES), make=_table("sqlite", 200_000, 8)),
    Case(
        what="images, turned grey",
        contract=contract((96, 96, 3), step("channels-first"), step("grey"), classes=CLASSES),
        make=_images(2_000, 96),
    ),
    Case(
        what="recordings, differences, windows of 50",
        contract=contract((2,), step("difference"), step("forecast", length=50)),
        make=_recorded(60_000),
    ),
)


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    lacking = [name for name in ("torch", "pyarrow", "PIL") if importlib.util.find_spec(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)}"
    available = psutil.virtual_memory().available / 1e9
    return "" if available > GB_NEEDED else f"needs {GB_NEEDED} GB of free memory, {available:.1f} GB are free"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure every case."""
    found = []
    for case in CASES:
        say(case.what)
        with tempfile.TemporaryDirectory() as folder:
            counted_mb, peak_mb = asyncio.run(measure(case, Path(folder)))
        what = f"{case.what}: counted {counted_mb} MB, took {peak_mb:.0f}; of it"
        found.append(figure(NAME, what, [peak_mb / counted_mb], target=TARGET))
    return found


async def measure(case: Case, folder: Path) -> tuple[int, float]:
    """What was counted, and the most that the process had, in MB. Raises TaskError when it cannot train within that."""
    source = case.make(folder)
    match = match_source(case.contract, [source])
    if match.memory is None:
        raise TaskError(str(match))
    manifest = linear_task(case.contract)
    training = training_mb(estimate_of(manifest), match.memory, bare_mb=await bare_trainer_mb())
    counted_mb = max(preparing_mb(match.memory), training)
    trainer = Trainer(manifest, source, TrainerLimits(memory_mb=counted_mb))
    await trainer.start(_TIMEOUT_S)
    try:
        model = np.zeros(ModelLayout.of(manifest.program).num_parameters, np.float32), np.empty(0, np.float32)
        await trainer.train(*model, 3, _TIMEOUT_S)
        await trainer.evaluate(*model, _TIMEOUT_S)
        return counted_mb, peak_mb_of(trainer.pid or 0)
    finally:
        await trainer.stop()


async def bare_trainer_mb() -> int:
    """What a trainer takes on this machine with PyTorch and without samples, as one tells the service."""
    if not _bare_mb:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(linear_task(contract((2,))), npz(64, 2)(Path(folder)), TrainerLimits())
            await trainer.start(_TIMEOUT_S)
            _bare_mb.append(trainer.bare_mb)
            await trainer.stop()
    return _bare_mb[0]


def linear_task(data: DataContract) -> TaskManifest:
    """A task of one linear layer on whatever the pipeline makes."""
    features, target = model_specs(data)
    width, is_class = math.prod(features.shape), target.dtype == "int64"
    size = data.num_classes if is_class else math.prod(target.shape)
    nodes = (
        Node(operator=Operator.RESHAPE, arguments=(Ref(0), (-1, width))),
        Node(operator=Operator.LINEAR, arguments=(Ref(3), Ref(1), Ref(2))),
        Node(operator=Operator.RESHAPE, arguments=(Ref(4), (-1, size) if is_class else (-1, *target.shape))),
    )
    graph = Graph(nodes=nodes, output=5)
    program = Program(
        inputs=(InputSpec(name="input", dtype=features.dtype, shape=features.shape),),
        parameters=(TensorSpec(name="weight", shape=(size, width)), TensorSpec(name="bias", shape=(size,))),
        buffers=(),
        train=graph,
        eval=graph,
    )
    plan = TrainingPlan(batch_size=32, optimiser=Optimiser(learning_rate=0.001))
    return TaskManifest(
        name="One linear layer",
        publisher="abc",
        program=program,
        initial_weights=WeightsRef(digest="0" * 64, num_bytes=1),
        data=data,
        training=plan if is_class else replace(plan, loss="mse", metric="mse"),
    )


def estimate_of(manifest: TaskManifest) -> MemoryEstimate:
    """What a task's model takes."""
    limits = ProgramLimits(largest_batch=manifest.training.batch_size)
    return estimate_memory(manifest.program, check_program(manifest.program, limits), manifest.training)


def peak_mb_of(pid: int) -> float:
    """The most that a process has held of memory, as `resident_bytes` counts. Raises OSError when it is gone.

    The kernel's high-water mark holds what lay in the page cache around what PyTorch reads, 120 MB on some machines.
    """
    sizes = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            sizes[name] = int(rest.split()[0]) * 1024
    return max(0, sizes.get("VmHWM", 0) - max(0, sizes.get("RssFile", 0) - LIBRARIES)) / MIB
