"""What a lab leaves in a folder: tables as `grapevine simulate` writes them, and one page to send to a colleague.

models.csv  nodes.csv (and Parquet)   what the agents of the lab did         summary.json   as of a simulation
simulated/                            the same of the simulation             report.json    how far apart they are
timeline.jsonl  events.jsonl          what was done to it, and was told      report.html    all of it to look at
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from grapevine_lab.fidelity.report import Found, in_words, tables_of, write_report
from grapevine_lab.pages import Chart, Details, Figures, Heading, Page, Section, Series, Table, Text, write
from grapevine_lab.pages.versions import version_table, versions_here
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.simulator.measurements import Measurements, grouped
from grapevine_lab.simulator.plots import curve_of
from grapevine_lab.simulator.summary import Facts, summarise
from grapevine_lab.simulator.summary import as_json as summary_as_json
from grapevine_lab.simulator.tables import write_tables
from grapevine_lab.testbed.measuring import Measured
from grapevine_lab.testbed.store import EVENTS, TIMELINE, Lab, entries
from grapevine_lab.testbed.toml import as_toml
from grapevine_proto.errors import StoreError
from grapevine_tasks.closed_sets import METRICS

PAGE: Final = "report.html"
COMPARED: Final = "report.json"
CHANCE: Final = "How far two simulated seeds are apart says what chance does: see the rows of simulated sets."
NOT_COMPARED: Final = (
    "The simulation is drawn beside it. How far apart they are is not told: not every node has rounds to compare."
)
FIRST_ALONE: Final = "Tables and curves are of the task's first version alone, until its members went on to the next."
UNTOLD: Final = ("connected", "ended")  # entries of the timeline
BEGINNINGS: Final = {"began": "the task is approved", "learning": "the first model is evaluated"}
REAL, SIMULATED = "this lab", "simulated"


def write_all(lab: Lab, prepared: Prepared, measured: Measured, out: Path) -> dict[str, Any]:
    """Write everything to `out`; what is worth printing. Raises `StoreError` if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_tables(measured.real, out)
        if measured.simulated:
            write_tables(Measurements.merged(measured.simulated), out / "simulated")
        for name in (TIMELINE, EVENTS):
            if (lab.folder / name).exists():
                shutil.copy(lab.folder / name, out / name)
        told = _summary(lab, prepared, measured)
        (out / "summary.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        found = found_of(prepared, measured)
        if found is not None:
            write_report(found, out / COMPARED)
        write(page_of(lab, prepared, measured, found), out / PAGE)
    except OSError as error:
        raise StoreError(f"cannot write the report to {out}: {error}; name another folder with --out") from error
    return {"folder": str(out), "page": str(out / PAGE), **told}


def _summary(lab: Lab, prepared: Prepared, measured: Measured) -> dict[str, Any]:
    """As of a simulation of one seed."""
    scenario, metric = prepared.scenario, prepared.built.draft.training.metric
    facts = Facts(
        scenario=scenario.name,
        seeds=(lab.seed,),
        num_nodes=scenario.nodes.num,
        num_rounds=min(measured.run.rounds),
        metric_name=metric,
        higher_is_better=METRICS[metric].higher_is_better,
        targets=scenario.targets,
        wall_s=measured.run.wall_s,
    )
    return {**summary_as_json(summarise(measured.real, facts)), "engine": lab.engine, "lab": lab.name}


def found_of(prepared: Prepared, measured: Measured) -> Found | None:
    """The comparison in the words of a fidelity check; None where nothing could be compared."""
    if measured.comparison is None:
        return None
    scenario, training = prepared.scenario, prepared.built.draft.training
    return Found(
        scenario=scenario.name,
        metric=training.metric,
        num_nodes=scenario.nodes.num,
        num_rounds=measured.num_rounds,
        seeds=(measured.run.seed,),
        interval_s=training.round_interval_s,
        alone_at_most=float("nan"),
        comparison=measured.comparison,
        runs=(measured.run,),
    )


# --- the page -------------------------------------------------------------------------------------


def page_of(lab: Lab, prepared: Prepared, measured: Measured, found: Found | None) -> Page:
    """The page of one lab's run."""
    scenario, metric = prepared.scenario, prepared.built.draft.training.metric
    deeds = [entry for entry in entries(lab.folder / TIMELINE) if entry["what"] not in UNTOLD]
    sections: list[Section] = [
        Figures(_figures(lab, measured, metric)),
        Heading("Learning"),
        *_charts(lab, measured, metric, deeds),
    ]
    if found is not None:
        lines = [*in_words(found), CHANCE]
        sections += [Heading("Beside the simulation"), Text("\n\n".join(lines)), *tables_of(found)]
    elif measured.simulated:
        sections.append(Text(NOT_COMPARED))
    sections += [Heading("What was done to it"), _timeline(lab, deeds), Heading("What it was made of"), _machines(lab)]
    if any(word.continues for word in scenario.words):
        sections.insert(1, Text(FIRST_ALONE))
    sections += [version_table(versions_here()), Details("The scenario", as_toml(lab.content))]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lead = f"{len(lab.peers)} peers at {len(lab.brokers)} brokers, run as {lab.engine} in real time."
    return Page(scenario.name, sections, kind="A lab's run", lead=lead, made=made)


def _figures(lab: Lab, measured: Measured, metric: str) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "peers": len(lab.peers),
        "brokers": len(lab.brokers),
        "rounds that all have behind them": min(measured.run.rounds),
        "seconds": round(measured.run.wall_s, 1),
        f"{metric} at the end, median": _last(measured.real),
    }
    if measured.simulated:
        figures["… simulated"] = _last(measured.simulated[0])
    return figures


def _last(measured: Measurements) -> float:
    return float(curve_of(measured, "released", "metric", over="time_s").median[-1])


def _charts(lab: Lab, measured: Measured, metric: str, deeds: Sequence[dict[str, Any]]) -> list[Section]:
    marks = [
        (entry["at_s"] - lab.began_s, _words(entry)) for entry in deeds if entry["what"] not in ("began", "learning")
    ]
    percent = metric == "accuracy"
    time, rounds = "seconds since learning began", "rounds that a node has behind it"
    band = "Lines: the median over nodes. Bands: from the least to the greatest node."
    name = f"{metric} of the released models"
    return [
        Chart(name, time, metric, _quality(measured, "time_s"), marks, caption=band, percent=percent, wide=True),
        Chart(name, rounds, metric, _quality(measured, "round"), caption=band, percent=percent),
        Chart("Staleness", rounds, "versions, mean over nodes", _means(measured, "staleness", 1.0), from_zero=True),
        Chart("Sent", rounds, "MB a node", _means(measured, "bytes_sent", 1e6), from_zero=True),
    ]


def _quality(measured: Measured, over: Literal["round", "time_s"]) -> list[Series]:
    found = []
    for name, side in _sides(measured):
        curve = curve_of(side, "released", "metric", over=over)
        found.append(Series(name, curve.x, curve.median, curve.low, curve.high, dashed=name != REAL))
    return found


def _means(measured: Measured, column: str, unit: float) -> list[Series]:
    found = []
    for name, side in _sides(measured):
        groups = grouped(side.samples.column("round"), side.samples.column(column) / unit)
        if len(groups.keys):
            found.append(Series(name, groups.keys.astype(np.float64), groups.mean(), dashed=name != REAL))
    return found


def _sides(measured: Measured) -> list[tuple[str, Measurements]]:
    return [(REAL, measured.real), *((SIMULATED, each) for each in measured.simulated[:1])]


def _timeline(lab: Lab, deeds: Sequence[dict[str, Any]]) -> Section:
    if lab.content.get("review"):
        deeds = [each for each in deeds if each["what"] != "began"]  # with it nobody has approved anything yet
    rows = [[f"{entry['at_s'] - lab.began_s:.1f}", _words(entry), str(entry.get("trouble", ""))] for entry in deeds]
    return Table(["second", "what", "trouble"], rows) if rows else Text("Nothing.")


def _words(entry: dict[str, Any]) -> str:
    what = str(entry.get("deed", entry["what"]))
    if what in BEGINNINGS:
        return BEGINNINGS[what]
    if what == "shape":
        rate = f"{entry['kbit_per_s']:g} kbit/s" if entry["kbit_per_s"] else "any rate"
        return f"{entry['machine']}: {entry['delay_ms']:g} ms, {rate}"
    if what == "partition":
        return f"partition {','.join(entry['a'])} {','.join(entry['b'])}"
    return f"{what} {entry['machine']}" if "machine" in entry and "deed" not in entry else what


def _machines(lab: Lab) -> Table:
    rows = [[each.name, each.kind, ", ".join(each.brokers), lab.peer_ids.get(each.name, "")] for each in lab.machines]
    return Table(["machine", "kind", "brokers", "peer"], rows)


def comparison_as_json(measured: Measured) -> dict[str, Any] | None:
    """How far apart the lab and the simulation are, beside two simulated seeds: the metric by rounds."""
    if measured.comparison is None:
        return None
    apart = measured.comparison.metric
    return {
        "num_rounds": measured.num_rounds,
        "simulated_real": asdict(apart.same_seeds),
        "two_simulated": [asdict(each) for each in apart.simulated],
    }
