"""All seeds of a scenario, and what they leave in a folder.

models.csv  models.parquet   every evaluated model            summary.json  what is printed, for programs
nodes.csv   nodes.parquet    every node at every round        plots/        PNG and SVG
scenario.json                what was run                     summary.html  the same on a page
                                                              seed-K/       a finished seed's tables, or its checkpoint
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grapevine_lab.pages import Cell, Table, write
from grapevine_lab.pages.versions import versions_here
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.simulator.life_report import LifeReport, draw_life
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.page import PAGE_FILE, Run, page_of, spans_of
from grapevine_lab.simulator.panels import draw_plots, plots_of
from grapevine_lab.simulator.progress import Progress
from grapevine_lab.simulator.run import Outcome, Progressed, run_seed
from grapevine_lab.simulator.summary import Facts, Summary, as_json, summarise
from grapevine_lab.simulator.tables import read_tables, write_tables
from grapevine_lab.simulator.tally import Tally
from grapevine_proto.errors import ConfigError
from grapevine_tasks.closed_sets import METRICS


def run_all(
    prepared: Prepared,
    num_seeds: int,
    folder: Path,
    progress: Progress,
    *,
    resume: bool,
    stopping: Callable[[], bool],
    events: Path | None = None,
) -> tuple[Summary, list[str], dict[int, LifeReport]]:
    """Run the seeds one after the other and write everything.

    The summary, what the user should know beside it, and of a long run what held in each seed.

    Raises ConfigError where the folder holds results and `resume` is not asked for, or results of another scenario.
    """
    _claim(folder, prepared, resume=resume)
    outcomes = _run_seeds(prepared, num_seeds, folder, progress, resume=resume, stopping=stopping, events=events)
    return _write_all(prepared, outcomes, folder)


def _run_seeds(
    prepared: Prepared,
    num_seeds: int,
    folder: Path,
    progress: Progress,
    *,
    resume: bool,
    stopping: Callable[[], bool],
    events: Path | None,
) -> list[Outcome]:
    scenario = prepared.scenario
    progress.start(scenario.rounds, num_seeds, duration_s=scenario.duration_s or None)
    outcomes = []
    for index in range(num_seeds):
        seed = scenario.seed + index

        def report(done: Progressed, index: int = index) -> None:
            progress.update(index, done.round, done.time_s, num_messages=done.num_messages)

        into = _of_seed(events, seed, num_seeds)
        outcomes.append(
            _run_one(prepared, seed, folder / f"seed-{seed}", report, resume=resume, stopping=stopping, events=into)
        )
    progress.finish()
    return outcomes


def _write_all(
    prepared: Prepared, outcomes: list[Outcome], folder: Path
) -> tuple[Summary, list[str], dict[int, LifeReport]]:
    """Write the tables, plots, summary and page of seeds that were run; see `run_all`."""
    scenario = prepared.scenario
    measurements = Measurements.merged([outcome.measurements for outcome in outcomes])
    metric = prepared.built.draft.training.metric
    higher_is_better = METRICS[metric].higher_is_better
    summary = summarise(
        measurements,
        Facts(
            scenario=scenario.name,
            seeds=tuple(outcome.seed for outcome in outcomes),
            num_nodes=scenario.nodes.num,
            num_rounds=min(outcome.rounds for outcome in outcomes),
            metric_name=metric,
            higher_is_better=higher_is_better,
            targets=scenario.targets,
            wall_s=sum(outcome.wall_s for outcome in outcomes),
            transfers=_tally(outcomes),
        ),
    )
    write_tables(measurements, folder)
    spans = spans_of(scenario)
    plots = plots_of(measurements, metric_name=metric, higher_is_better=higher_is_better, spans=spans)
    draw_plots(plots, folder / "plots", title=scenario.name)
    runs = [_told(outcome) for outcome in outcomes]
    _write_json(folder / "summary.json", {**as_json(summary), "runs": runs})
    lives = {outcome.seed: outcome.life for outcome in outcomes if outcome.life is not None}
    for seed, life in lives.items():
        draw_life(life, folder / "plots" / f"life-{seed}.svg", title=f"{scenario.name}, seed {seed}")
    notes = _notes(outcomes)
    run = Run(
        scenario=scenario,
        summary=summary,
        plots=plots,
        runs=_run_table(outcomes),
        notes=notes,
        lives=lives,
        versions=versions_here(),
        date=datetime.now(UTC).date().isoformat(),
    )
    write(page_of(run), folder / PAGE_FILE)
    return summary, notes, lives


def _run_table(outcomes: list[Outcome]) -> Table:
    headings = [
        "seed",
        "rounds of every node",
        "virtual time (s)",
        "messages delivered",
        "in vain",
        "dropped",
        "wall time (s)",
    ]
    rows: list[list[Cell]] = [
        [
            f"seed {each.seed}",
            each.rounds,
            each.virtual_s,
            each.num_delivered,
            each.num_in_vain,
            sum(each.rejected.values()),
            each.wall_s,
        ]
        for each in outcomes
    ]
    return Table(headings, rows)


def _of_seed(events: Path | None, seed: int, num_seeds: int) -> Path | None:
    """The file for the events of one seed: the one that was named, or of several one each."""
    return events if events is None or num_seeds == 1 else events.with_stem(f"{events.stem}-{seed}")


def _tally(outcomes: list[Outcome]) -> Tally | None:
    """The transfers of all seeds; None where no broker has a packet limit."""
    told = [Tally(**outcome.transfers) for outcome in outcomes if outcome.transfers]
    return sum(told, Tally()) if told else None


def _run_one(
    prepared: Prepared,
    seed: int,
    folder: Path,
    report: Callable[[Progressed], None],
    *,
    resume: bool,
    stopping: Callable[[], bool],
    events: Path | None,
) -> Outcome:
    """One seed: as it was finished before, or run to its end."""
    done, kept = folder / "outcome.json", folder / "checkpoint"
    if resume and done.exists():
        told = json.loads(done.read_text(encoding="utf-8"))
        return Outcome(**told, measurements=read_tables(folder), life=LifeReport.read(folder))
    outcome = run_seed(prepared, seed, report=report, keep=kept, resume=resume, stopping=stopping, events=events)
    write_tables(outcome.measurements, folder)
    if outcome.life is not None:
        outcome.life.write(folder)
    _write_json(done, _told(outcome))
    kept.unlink(missing_ok=True)
    return outcome


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        each.name: getattr(outcome, each.name)
        for each in dataclasses.fields(outcome)
        if each.name not in ("measurements", "life")  # which have files of their own
    }


def _notes(outcomes: list[Outcome]) -> list[str]:
    notes = []
    for outcome in outcomes:
        if outcome.reached_limit:
            notes.append(
                f"seed {outcome.seed}: not every node did its rounds within {outcome.virtual_s:,.0f} s of virtual "
                f"time, {outcome.rounds} was the least; raise scenario.duration_s, or see who was away"
            )
        if outcome.held_s:
            held = ", ".join(f"{limit} for {held_s:,.0f} s" for limit, held_s in outcome.held_s.items())
            notes.append(f"seed {outcome.seed}: what held governed nodes back, on average: {held}")
        if outcome.rejected:
            reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(outcome.rejected.items()))
            notes.append(f"seed {outcome.seed}: messages that nodes dropped, by reason: {reasons}")
    return notes


def _claim(folder: Path, prepared: Prepared, *, resume: bool) -> None:
    """Make the folder ours: it is empty, or holds this very scenario's results and they are to be gone on with."""
    told = _fixed(prepared)
    path = folder / "scenario.json"
    if folder.exists() and any(folder.iterdir()):
        if not path.exists():
            raise ConfigError(f"{folder} holds files that are not a simulation's; give another folder with --out")
        held = json.loads(path.read_text(encoding="utf-8"))
        if not resume:
            _clear(folder)
        elif held != told:
            raise ConfigError(
                f"{folder} holds a run of another scenario, or with other options: give the same ones, leave out "
                "--resume to start anew, or name another folder with --out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(path, told)


def _fixed(prepared: Prepared) -> dict[str, Any]:
    """What a folder's results depend on; where the files lie and how many processes train make no difference."""
    scenario = prepared.scenario
    told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(scenario), default=str))
    for key in ("folder", "source", "text", "options"):
        told.pop(key)
    told["nodes"].pop("workers")
    _leave_out_what_is_new(told)
    if scenario.data.is_own_file:
        told["data"]["sha256"] = hashlib.sha256(Path(scenario.data.name).read_bytes()).hexdigest()
        told["data"].pop("name")
    if scenario.task.path is not None:
        told["task"]["path"] = scenario.task.path.name
    told["initial_weights"] = prepared.built.draft.initial_weights.digest
    return told


def _leave_out_what_is_new(told: dict[str, Any]) -> None:
    """What only long runs have, or brokers with a limit, is not in the file of another scenario."""
    for key in ("review", "words", "faults", "life"):
        if not told[key]:
            told.pop(key)
    for key in ("governor", "surroundings"):
        if told[key] is None:
            told.pop(key)
    for broker in told["brokers"]:
        if not broker["packet_limit_bytes"]:
            broker.pop("packet_limit_bytes")
            broker.pop("packet_limit_announced")
    for key in ("save_every_s", "look_every_s"):
        if not told["nodes"][key]:
            told["nodes"].pop(key)


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for path in [*folder.glob("seed-*/*"), *folder.glob("plots/*"), *folder.glob("*.*")]:
        if path.is_file() and path.suffix in ("", ".csv", ".parquet", ".json", ".png", ".svg", ".html", ".part"):
            path.unlink()


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
