"""What has been measured so far: a file for each system and workload, which is read back before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grapevine_lab.bench_simulator.peers import Weight
from grapevine_lab.bench_simulator.runs import Run, Traffic
from grapevine_lab.bench_simulator.suite import Contest, Shelf
from grapevine_lab.bench_simulator.workload import Workload
from grapevine_lab.kept_tables import keep, kept


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The folder that the files are in."""

    path: Path

    @property
    def shelf(self) -> Shelf:
        """As the suite wants it."""
        return Shelf(keep=self.keep, kept=self.with_what_is_kept)

    def keep(self, contest: Contest) -> None:
        """Write a contest as it is now. Raises OSError."""
        keep(self._file(contest.system, contest.workload), contest)

    def with_what_is_kept(self, contest: Contest) -> Contest:
        """A contest with the runs that are kept of it, if they are of the same versions and the same work.

        That it failed or was skipped is forgotten: it is tried again. What cannot be run now, for whatever reason,
        stays as it was, and has that reason. Raises ConfigError where the file is damaged.
        """
        found = kept(self._file(contest.system, contest.workload), contest_of)
        if found is None or (found.workload != contest.workload):
            return contest
        if contest.skipped:
            return replace(found, skipped=contest.skipped, failed="")
        if found.versions != contest.versions:
            return contest
        return replace(contest, runs=found.runs, weighed=found.weighed)

    def forget(self, contest: Contest) -> None:
        """Delete what is kept of it."""
        self._file(contest.system, contest.workload).unlink(missing_ok=True)

    def all_of(self, names: Sequence[str]) -> list[Contest]:
        """Every contest that is kept of these systems, in their order, the smallest first. Raises ConfigError."""
        found = [contest for path in self.path.glob("*-nodes-*.json") if (contest := kept(path, contest_of))]
        chosen = [contest for contest in found if contest.system in names]
        return sorted(chosen, key=lambda contest: (contest.workload.num_nodes, names.index(contest.system)))

    def _file(self, system: str, workload: Workload) -> Path:
        return self.path / f"{system}-{workload.num_nodes}-nodes-{workload.model}.json"


def contest_of(plain: dict[str, Any]) -> Contest:
    """A contest of its JSON. Raises KeyError or TypeError where it is none."""
    return Contest(
        **plain
        | {
            "workload": Workload(**plain["workload"]),
            "weight": Weight(**plain["weight"]),
            "runs": [_run_of(run) for run in plain["runs"]],
            "weighed": None if plain["weighed"] is None else _run_of(plain["weighed"]),
        }
    )


def _run_of(plain: dict[str, Any]) -> Run:
    traffic = tuple(Traffic(**each) for each in plain["traffic"])
    return Run(**plain | {"round_ends_s": tuple(plain["round_ends_s"]), "traffic": traffic})
