"""`build_time`: what it costs that a program is held against its module when it is built.

Each task of the catalogue is built with that and without, in turn, in one process; which comes first changes from pair
to pair. A figure is the time of a build with over that of a build without: 1 is for nothing. Time is the thread's own,
so that other work counts less. What PyTorch loads for its first export is not counted: one build goes before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_tasks.catalogue import catalogue_names, catalogue_task

NAME = "build_time"
TARGET = Target(limit=1.5, at_most=True)
NUM_PAIRS = 5
GB_NEEDED = 1.5


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    available = psutil.virtual_memory().available / 1e9
    return "" if available > GB_NEEDED else f"needs {GB_NEEDED} GB of free memory, {available:.1f} GB are free"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Build each task of the catalogue in pairs."""
    import torch  # noqa: PLC0415 — the table of benchmarks is shown without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    try:
        for name in catalogue_names():
            ratios = _ratios(name)
            found.append(figure(NAME, f"{name}: built and compared, over built alone", ratios, target=TARGET))
            say(f"{name}: {sorted(ratios)[len(ratios) // 2]:.2f}")
    finally:
        torch.set_num_threads(threads)
    return found


def _ratios(name: str) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / name
        _seconds(name, into, compared=True)
        ratios = []
        for pair in range(NUM_PAIRS):
            order = (True, False) if pair % 2 else (False, True)
            taken = {compared: _seconds(name, into, compared=compared) for compared in order}
            ratios.append(taken[True] / taken[False])
        return ratios


def _seconds(name: str, into: Path, *, compared: bool) -> float:
    """Seconds of this process's, of one build."""
    from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415

    started_s = time.process_time()
    build_task(catalogue_task(name), check_merging=check_merge_plan, into=into, compared=compared)
    return time.process_time() - started_s
