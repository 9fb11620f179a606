"""All runs, the systems taking turns, so that what slows the machine for a while slows all of them."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from grapevine_lab.bench_simulator.peers import PeerMissingError, Say, Weight
from grapevine_lab.bench_simulator.processes import usable_cores
from grapevine_lab.bench_simulator.reasons import publishable
from grapevine_lab.bench_simulator.runs import Patience, Run, RunFailedError, run
from grapevine_lab.bench_simulator.systems import Prepared, System
from grapevine_lab.bench_simulator.wires import wires
from grapevine_lab.bench_simulator.workload import Workload, write_workload


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All runs of one system with one workload, and why there are no (more) of them, as it may be published."""

    system: str
    workload: Workload
    versions: dict[str, str] = field(default_factory=dict)
    weight: Weight = field(default_factory=Weight)
    runs: list[Run] = field(default_factory=list)  # that were timed
    weighed: Run | None = None  # the one that was not
    skipped: str = ""
    failed: str = ""

    def __post_init__(self) -> None:
        for name in ("skipped", "failed"):
            object.__setattr__(self, name, publishable(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What there is to print."""

    contests: list[Contest]
    origin: str  # of the samples
    machine: str
    set_ups: list[str]


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where contests are kept as they grow, so that what has been measured is not measured again."""

    keep: Callable[[Contest], None] = lambda _contest: None
    kept: Callable[[Contest], Contest] = lambda contest: contest  # given one without runs, the same with what is kept


def measure(
    systems: Sequence[System],
    workloads: Sequence[Workload],
    *,
    num_repeats: int,
    environments: Path,
    say: Say,
    shelf: Shelf | None = None,
    patience: Patience | None = None,
) -> Report:
    """Run each system `num_repeats` times with each workload, and once more for its memory and its traffic.

    What cannot be run is in the report, with its reason.
    """
    shelf = shelf or Shelf()
    by_name = {system.name: system for system in systems}
    prepared = {system.name: _prepare(system, environments, say) for system in systems}
    contests, origin = [], ""
    busy = os.getloadavg()[0]  # before we are busy ourselves
    for workload in workloads:
        of_this = [shelf.kept(_contest(name, workload, found)) for name, found in prepared.items()]
        for index, contest in enumerate(of_this):
            lacks = by_name[contest.system].lacks_memory(workload.num_nodes, psutil.virtual_memory().available)
            if lacks and not contest.skipped:
                say(f"{contest.system}: skipped: {lacks}")
                of_this[index] = dataclasses.replace(contest, skipped=lacks)
            shelf.keep(of_this[index])
        with tempfile.TemporaryDirectory(prefix="gv-bench-") as folder:
            plan, samples = write_workload(Path(folder), workload)
            origin = samples.origin
            del samples
            for repeat in range(num_repeats + 1):
                weigh = repeat == num_repeats
                what = "memory and traffic" if weigh else f"run {repeat + 1} of {num_repeats}"
                for index, contest in enumerate(of_this):
                    found = prepared[contest.system]
                    is_done = contest.weighed is not None if weigh else len(contest.runs) > repeat
                    if isinstance(found, Prepared) and not (contest.failed or contest.skipped or is_done):
                        say(f"{contest.system}, {workload.num_nodes} nodes, {what}")
                        num_ports = by_name[contest.system].num_ports(workload.num_nodes)
                        grown = _with_a_run(contest, found, plan, num_ports, weigh=weigh, patience=patience)
                        of_this[index] = grown
                        shelf.keep(grown)
                        if grown.failed:
                            say(f"{contest.system} failed: {grown.failed}")
        contests += of_this
    num_cores = min(len(usable_cores()), max(workload.num_cores for workload in workloads))
    machine = f"{num_cores} of {os.cpu_count()} cores; load before the first run {busy:.2f}"
    return Report(contests=contests, origin=origin, machine=machine, set_ups=[system.set_up for system in systems])


def _prepare(system: System, environments: Path, say: Say) -> Prepared | str:
    try:
        return system.prepare(environments, lambda text: say(f"{system.name}: {text}"))
    except PeerMissingError as error:
        say(f"{system.name}: skipped: {error}")
        return str(error)


def _contest(name: str, workload: Workload, found: Prepared | str) -> Contest:
    if isinstance(found, str):
        return Contest(system=name, workload=workload, skipped=found)
    return Contest(system=name, workload=workload, versions=found.versions, weight=found.weight)


def _with_a_run(
    contest: Contest, prepared: Prepared, plan: Path, num_ports: int, *, weigh: bool, patience: Patience | None
) -> Contest:
    workload = contest.workload
    with (
        tempfile.TemporaryDirectory(prefix="gv-run-", ignore_cleanup_errors=True) as name,
        wires(num_ports, counted=weigh) as ways,
    ):
        folder = Path(name)
        try:
            command = prepared.command(workload, folder, plan)
            done = run(
                dataclasses.replace(command, environment={**command.environment, **ways.environment}),
                num_rounds=workload.num_rounds,
                num_cores=workload.num_cores,
                log=folder / "log",
                weigh=weigh,
                carried=ways.carried if ways.lines else None,
                patience=patience,
            )
        except (RunFailedError, PeerMissingError) as error:
            return dataclasses.replace(contest, failed=str(error))
    if weigh:
        return dataclasses.replace(contest, weighed=done)
    return dataclasses.replace(contest, runs=[*contest.runs, done])
