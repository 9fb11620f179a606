"""`fidelity.html`: simulated against real on one page, to be sent to whoever was not there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

from grapevine_lab.fidelity.compare import Gap
from grapevine_lab.fidelity.report import Found, in_words, tables_of
from grapevine_lab.pages import Cell, Details, Figures, Heading, Page, Section, Text
from grapevine_lab.pages.versions import version_table
from grapevine_lab.scenarios import named
from grapevine_lab.simulator.charts import charts_of
from grapevine_lab.simulator.panels import Plot
from grapevine_lab.simulator.scenario import Scenario

PAGE_FILE = "fidelity.html"
ABOUT = (
    "Both sides have the same task, the same initial weights and, seed by seed, the same samples on the same nodes. "
    "What chance decides beside that differs, as it does between two real runs. How far further simulated seeds are "
    "from each other is what chance alone does: a difference below that says nothing."
)


def page_of(found: Found, plots: Sequence[Plot], scenario: Scenario, *, versions: Mapping[str, str], date: str) -> Page:
    """The page of a check that is over. `plots` are those of `plots_of_sides`."""
    size, *more = in_words(found)
    gaps, figures, runs = tables_of(found)
    command = ["python", "-m", "grapevine_lab.fidelity", named(scenario.source, scenario.folder), *scenario.options]
    command += ["--seeds", str(len(found.seeds)), "--out", "fidelity"]
    sections: list[Section] = [
        Figures(_figures(found)),
        Heading("The same scenario, simulated and in real processes"),
        Text(ABOUT),
        *([Text(f"For comparison: {more[0]}.")] if more else []),
        *(chart for plot in plots for chart in charts_of(plot, wide=plot is plots[0])),
        Heading("How far apart"),
        gaps,
        Heading("Both sides in numbers"),
        figures,
        runs,
        Heading("The same again"),
        Details("Command", shlex.join(command), is_open=True),
        Details(f"Scenario: {scenario.source}", scenario.text),
        version_table(versions),
    ]
    return Page(
        found.scenario,
        sections,
        kind="Grapevine · simulated against real",
        lead=f"{size.removeprefix(found.scenario).removeprefix(': ')}; real agents over Mosquitto, on one machine.",
        made=f"Made by grapevine_lab.fidelity, {versions['grapevine']}, on {date}. For programs: fidelity.json.",
    )


def _figures(found: Found) -> dict[str, Cell]:
    metric = found.comparison.metric
    is_share = found.metric == "accuracy"
    figures: dict[str, Cell] = {
        f"{found.metric}, simulated from real, mean over rounds": _distance(metric.same_seeds.mean, is_share=is_share)
    }
    if metric.simulated:
        figures["simulated from simulated, other seeds"] = _distance(_mean(metric.simulated), is_share=is_share)
    figures["at the end"] = _distance(abs(metric.same_seeds.end), is_share=is_share)
    return figures


def _mean(gaps: Sequence[Gap]) -> float:
    return sum(gap.mean for gap in gaps) / len(gaps)


def _distance(value: float, *, is_share: bool) -> Cell:
    return f"{100 * value:.1f} points" if is_share and math.isfinite(value) else value
