"""`summary.html`: a run on one page, to be sent to whoever was not there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grapevine_lab.pages import Cell, Details, Figures, Heading, Page, Section, Table, Text
from grapevine_lab.pages.sections import NONE, shown
from grapevine_lab.pages.versions import version_table
from grapevine_lab.scenarios import named
from grapevine_lab.simulator.charts import chart_of, charts_of
from grapevine_lab.simulator.life_report import LifeReport, invariant_table, life_panels
from grapevine_lab.simulator.panels import Plot, Span, decimal_unit, time_unit
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.summary import ModelSummary, Summary, size_of, tables_of

PAGE_FILE = "summary.html"
LEARNING = ("metric-over-time", "metric", "loss")  # plots of the first part; the others are of the second
ABOUT = (
    "Simulated nodes run the core that devices run, on a virtual clock and over brokers in memory; what they train is "
    "trained. Each is evaluated on the same test set. A node's working model is the one that it trains, merged is what "
    "it becomes by others' updates, and released is the running average that is used."
)
SAME = "Chance is drawn from the scenario's seed: with the same versions, the same command gives the same numbers."


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that the page tells. `lives` are long runs by seed, `runs` a row for each seed."""

    scenario: Scenario
    summary: Summary
    plots: Sequence[Plot]
    runs: Table
    notes: Sequence[str]
    lives: Mapping[int, LifeReport]
    versions: Mapping[str, str]
    date: str


def spans_of(scenario: Scenario) -> list[Span]:
    """What is shaded over virtual time: where the server is there, and where the network is cut."""
    spans = [(start_s, end_s, "server there") for start_s, end_s in scenario.server.present]
    return spans + [(cut.from_s, cut.until_s, "network cut") for cut in scenario.network.cuts]


def page_of(run: Run) -> Page:
    """The page of a run that is over."""
    by_name = {plot.name: plot for plot in run.plots}
    there = [by_name[name] for name in LEARNING if name in by_name]
    learning = [chart for plot in there for chart in charts_of(plot, wide=plot is there[0])]
    others = [chart for plot in run.plots if plot.name not in LEARNING for chart in charts_of(plot)]
    sections: list[Section] = [Figures(_figures(run.summary) | _kept(run.lives.values()))]
    if learning:
        sections += [Heading("How well they learn"), Text(ABOUT), *learning]
    if others:
        sections += [Heading("What it takes"), *others]
    if run.lives:
        sections.append(Heading("What had to hold"))
        for seed, life in run.lives.items():
            sections.append(invariant_table(life, seed))
            of_seed = f", seed {seed}" if len(run.lives) > 1 else ""
            sections += [chart_of(panel, title=f"{panel.title}{of_seed}") for panel in life_panels(life)]
    sections += [Heading("In numbers"), *tables_of(run.summary), run.runs]
    if run.notes:
        sections += [Heading("Worth knowing"), Text("\n\n".join(run.notes))]
    sections += [Heading("The same again"), *_again(run)]
    return Page(
        run.scenario.name,
        sections,
        kind="Grapevine · simulation",
        lead=f"{size_of(run.summary)}; {_duration(run.summary.virtual_s)} of virtual time each.",
        made=f"Made by grapevine simulate, {run.versions['grapevine']}, on {run.date}. The same numbers, for programs: "
        "summary.json, models.parquet and nodes.parquet.",
    )


def _figures(summary: Summary) -> dict[str, Cell]:
    figures: dict[str, Cell] = {}
    if summary.models:
        best = next((model for model in summary.models if model.model == "released"), summary.models[-1])
        outcome, name = best.metric, summary.metric_name
        figures[f"{name} of the {best.model} models, median"] = _of_metric(outcome.median, name)
        figures["the least node, and the greatest"] = _range(outcome.low, outcome.high, name)
        figures |= _targets(best, summary)
    if math.isfinite(summary.staleness_ratio):
        figures["staleness, of its bound"] = f"{100 * summary.staleness_ratio:.0f} %"
    figures["sent per node"] = _amount(summary.bytes_sent_per_node, "B")
    if summary.joules_per_node > 0:
        figures["energy per node"] = _amount(summary.joules_per_node, "J")
    return figures


def _kept(lives: Iterable[LifeReport]) -> dict[str, Cell]:
    told = [each.holds for life in lives for each in life.invariants if each.holds is not None]
    return {"of what had to hold, and could be told, held": f"{sum(told)} of {len(told)}"} if told else {}


def _targets(model: ModelSummary, summary: Summary) -> dict[str, Cell]:
    """The hardest target that most seeds have reached."""
    reached = [each for each in model.targets if math.isfinite(each.time_s)]
    if not reached:
        return {}
    hardest = max(reached, key=lambda each: each.target if summary.higher_is_better else -each.target)
    return {f"until {_of_metric(hardest.target, summary.metric_name)}": _duration(hardest.time_s)}


def _of_metric(value: float, name: str) -> str:
    return f"{100 * value:.1f} %" if name == "accuracy" and math.isfinite(value) else shown(value)


def _range(low: float, high: float, name: str) -> str:
    if name == "accuracy" and math.isfinite(low) and math.isfinite(high):
        return f"{100 * low:.0f} – {100 * high:.0f} %"
    return f"{shown(low)} – {shown(high)}"


def _amount(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return NONE
    size, prefix = decimal_unit(value)
    return f"{value / size:.3g} {prefix}{unit}"


def _duration(time_s: float) -> str:
    if not math.isfinite(time_s):
        return NONE
    unit, name = time_unit(time_s)
    return f"{time_s / unit:.3g} {name}"


def _again(run: Run) -> list[Section]:
    scenario = run.scenario
    command = ["grapevine", "simulate", named(scenario.source, scenario.folder), *scenario.options]
    if len(run.summary.seeds) > 1:
        command += ["--seeds", str(len(run.summary.seeds))]
    return [
        Text(SAME),
        Details("Command", shlex.join(command), is_open=True),
        Details(f"Scenario: {scenario.source}", scenario.text),
        version_table(run.versions),
    ]
