"""All seeds of a check, one after the other, and what they leave in a folder.

fidelity.json                    the comparison            metric.svg, metric-over-time.svg, more.svg (and PNG)
fidelity.html                    all of it on a page
simulated/  real/                each side's tables, as `grapevine simulate` writes them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from grapevine_broker.mosquitto import find_mosquitto
from grapevine_lab.fidelity.comparable import check_comparable
from grapevine_lab.fidelity.compare import compare
from grapevine_lab.fidelity.draw import plots_of_sides
from grapevine_lab.fidelity.measured import Pace, from_first_round, measurements_of, until_round
from grapevine_lab.fidelity.page import PAGE_FILE, page_of
from grapevine_lab.fidelity.real import RealRun, run_real
from grapevine_lab.fidelity.report import REPORT_FILE, Found, write_report
from grapevine_lab.fidelity.shares import alone_at_most
from grapevine_lab.pages import write
from grapevine_lab.pages.versions import versions_here
from grapevine_lab.simulator.experiment import Prepared, begin, prepare
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.panels import draw_plots
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.tables import write_tables


def check(scenario: Scenario, folder: Path, *, num_seeds: int, num_controls: int, say: Callable[[str], None]) -> Found:
    """Run a scenario both ways for so many seeds, from the scenario's on, and write everything to `folder`.

    Args:
        scenario: As read.
        folder: Made if it is not there.
        num_seeds: Of each side.
        num_controls: Further sets of as many simulated seeds: how far these are apart is what chance does.
        say: Is told how far it is.

    Raises:
        ConfigError: The scenario is wrong, or real agents cannot follow it.
        BrokerError: There is no Mosquitto on this machine.
        GrapevineError: A real run did not come to its end.
    """
    prepared = prepare(scenario)
    check_comparable(prepared)
    find_mosquitto()
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(scenario.seed, scenario.seed + num_seeds)
    simulated = []
    for k in range(1 + num_controls):
        own = [seed + k * num_seeds for seed in seeds]
        say(f"simulated: seeds {own[0]} to {own[-1]}")
        simulated.append(_simulated(prepared, own))
    runs = [run_real(prepared, seed, say=say, keep_logs=folder / "logs") for seed in seeds]
    real = _real(prepared, runs)
    training = prepared.built.draft.training
    found = Found(
        scenario=scenario.name,
        metric=training.metric,
        num_nodes=scenario.nodes.num,
        num_rounds=scenario.rounds,
        seeds=tuple(seeds),
        interval_s=training.round_interval_s,
        alone_at_most=_alone_at_most(prepared, seeds) if training.metric == "accuracy" else float("nan"),
        comparison=compare(simulated, real, num_rounds=scenario.rounds, interval_s=training.round_interval_s),
        runs=tuple(runs),
    )
    write_tables(Measurements.merged(simulated), folder / "simulated")
    write_tables(real, folder / "real")
    write_report(found, folder / REPORT_FILE)
    plots = plots_of_sides(simulated[0], real, metric_name=training.metric)
    draw_plots(plots, folder, title=scenario.name)
    date = datetime.now(UTC).date().isoformat()
    write(page_of(found, plots, scenario, versions=versions_here(), date=date), folder / PAGE_FILE)
    return found


def _simulated(prepared: Prepared, seeds: Sequence[int]) -> Measurements:
    outcomes = [run_seed(prepared, seed) for seed in seeds]
    measured = Measurements.merged([outcome.measurements for outcome in outcomes])
    return from_first_round(until_round(measured, prepared.scenario.rounds))


def _real(prepared: Prepared, runs: Sequence[RealRun]) -> Measurements:
    pace = Pace(
        num_rounds=prepared.scenario.rounds,
        num_steps=prepared.built.draft.training.steps_per_round,
        watts_training=prepared.profile.power.training_w,
    )
    return from_first_round(Measurements.merged([measurements_of(run, pace) for run in runs]))


def _alone_at_most(prepared: Prepared, seeds: Sequence[int]) -> float:
    return max(alone_at_most(share) for seed in seeds for share in begin(prepared, seed).samples)
