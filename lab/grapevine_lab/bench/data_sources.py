"""`data_sources`: what an owner's files cost: the service's memory with them, and the time of `grapevine data check`.

A service on a real Mosquitto has one source, a CSV or a Parquet file, of the kind of an approved task that its owner
has consented to, and has had it looked at. Its memory is its resident set (RSS); what looked at the file has ended.

A check of ten million rows (two numbers and a label) describes the file, judges each sample and counts, in one pass. It
is held against what pyarrow takes to read the same file into memory with all its threads, with nothing done to it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.data.inspection import inspect
from grapevine_agent.data.source import DataSource
from grapevine_agent.data.survey import Statistics
from grapevine_broker import start_broker
from grapevine_lab.bench.crowd import Crowd, crowd_on
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.service import ROOT, build_digits, running_service, task_line, wait_until, write_config
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.built import BuiltTask

NAME = "data_sources"
MEMORY_TARGET = Target(limit=72.0, at_most=True)  # MB of 10^6 bytes
CHECK_TARGET = Target(limit=3.0, at_most=True)  # times pyarrow's own read
NUM_ROWS = 10_000_000
NUM_TURNS = 3
NUM_PEERS = 5
WATCH_S = 15.0
MEGABYTES = 1e-6
CONTRACT = DataContract(
    kind="climate-2",
    features=FeatureSpec(name="climate", dtype="float32", shape=(2,), columns=("temperature", "humidity")),
    target=FeatureSpec(name="occupied", dtype="int64", shape=()),
    num_classes=2,
)

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure both; about three minutes."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder:
        figures = _check(Path(folder), say)
        with start_broker("mosquitto") as broker:
            say("building the task")
            built = build_digits(Path(folder) / "task")
            return figures + asyncio.run(_memory(Path(folder), broker.url, built, say))


# --- the time of a check --------------------------------------------------------------------------


def _check(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    say(f"writing {NUM_ROWS:,} rows")
    figures = []
    for format_, path in _write(folder, NUM_ROWS).items():
        read = _read_csv if format_ == "csv" else _read_parquet
        ratios, seconds = [], []
        for _ in range(NUM_TURNS):
            alone_s, checked_s = _timed(partial(read, path)), _timed(partial(_look, format_, path))
            ratios.append(checked_s / alone_s)
            seconds.append(checked_s)
            say(f"{format_}: pyarrow reads it in {alone_s:.2f} s, a check takes {checked_s:.2f} s")
        target = CHECK_TARGET if format_ == "csv" else None
        what = f"check of {NUM_ROWS:,} rows, {format_}"
        figures += [
            figure(NAME, f"{what}, beside pyarrow's own read", ratios, target=target),
            figure(NAME, what, seconds, unit="s"),
        ]
        path.unlink()
    return figures


def _write(folder: Path, num: int) -> dict[str, Path]:
    import pyarrow as pa  # noqa: PLC0415 - only this benchmark needs it
    import pyarrow.csv  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "temperature": np.round(rng.normal(20, 5, num), 2),
            "humidity": np.round(rng.uniform(20, 90, num), 1),
            "occupied": rng.integers(0, 2, num),
        }
    )
    paths = {"csv": folder / "climate.csv", "parquet": folder / "climate.parquet"}
    pa.csv.write_csv(table, paths["csv"])
    pa.parquet.write_table(table, paths["parquet"])
    return paths


def _read_csv(path: Path) -> Any:
    import pyarrow.csv  # noqa: PLC0415

    return pyarrow.csv.read_csv(path)


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet  # noqa: PLC0415

    return pyarrow.parquet.read_table(path)


def _look(format_: str, path: Path) -> None:
    source = DataSource(name="climate", kind="climate-2", path=path, format=format_)
    statistics = Statistics(source, CONTRACT)
    looked = inspect(source, CONTRACT, [statistics])
    if looked.description is None or looked.trouble:
        raise GrapevineError(f"this cannot be measured: {looked.trouble}")
    statistics.told(looked.description)


def _timed(work: Callable[[], Any]) -> float:
    started_s = time.monotonic()
    work()
    return time.monotonic() - started_s


# --- the memory of a service ----------------------------------------------------------------------


async def _memory(folder: Path, url: str, built: BuiltTask, say: Callable[[str], None]) -> list[Figure]:
    figures = []
    async with crowd_on(url, ROOT, built, num_peers=NUM_PEERS, heartbeat_s=MqttConfig().heartbeat_s) as crowd:
        for format_ in ("csv", "parquet"):
            own = folder / format_
            own.mkdir()
            rss_bytes = await _watched(own, url, crowd, _write(own, 10_000)[format_])
            what = f"RSS of a service whose source is {format_}"
            figures.append(figure(NAME, what, rss_bytes, unit="MB", target=MEMORY_TARGET, scale=MEGABYTES))
            say(f"{format_}: {figures[-1].median:.1f} MB")
    return figures


async def _watched(folder: Path, url: str, crowd: Crowd, path: Path) -> list[float]:
    config = write_config(folder, url, crowd)
    text = config.read_text(encoding="utf-8").replace("[agent]", '[agent]\nconsent = "auto"')
    own = text[text.index("[[data]]") :].splitlines()
    text = text.replace(own[2], f'path = "{path}"')
    config.write_text(text, encoding="utf-8")
    with running_service(config, folder / "log") as process:
        socket = folder / "state" / SOCKET_FILE

        def is_known(status: dict[str, Any]) -> bool:
            why = task_line(status, crowd.task).get("why", "")
            return bool(why) and path.stem in why and "being checked" not in why

        await wait_until(process, socket, is_known, "has had its source looked at")
        found = []
        ends_s = time.monotonic() + WATCH_S
        while time.monotonic() < ends_s:
            await asyncio.sleep(1.0)
            found.append(float(process.memory_info().rss))
        return found
