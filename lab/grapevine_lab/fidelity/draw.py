"""The figures of a fidelity check: both sides in one pair of axes, each seed's median as a thin line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from grapevine_lab.simulator.charts import THIN
from grapevine_lab.simulator.measurements import Measurements, grouped
from grapevine_lab.simulator.panels import Plot
from grapevine_lab.simulator.plots import BANDS, DASHES, PALETTE, Curve, Look, Panel, curve_of

SIMULATED, REAL = "simulated", "real processes"
LOOKS: Mapping[str, Look] = {SIMULATED: (PALETTE[0], DASHES[0]), REAL: (PALETTE[1], DASHES[1])}
MORE = "loss: median over nodes; staleness and bytes: mean over nodes; band: least to greatest"


def plots_of_sides(simulated: Measurements, real: Measurements, *, metric_name: str) -> tuple[Plot, ...]:
    """`metric`, `metric-over-time` and `more` (loss, staleness, bytes) of both sides."""
    sides = {SIMULATED: simulated, REAL: real}
    name = f"{metric_name} of the released model"
    plots = []
    qualities: tuple[tuple[str, Literal["round", "time_s"], str, str], ...] = (
        ("metric", "round", "by rounds", "rounds that a node has behind it"),
        ("metric-over-time", "time_s", "over time", "seconds since the first node had a round behind it"),
    )
    for file, over, how, x_label in qualities:
        panel = _quality(sides, "metric", over)
        panel = replace(panel, x_label=x_label, y_label=name, percent=metric_name == "accuracy")
        plots.append(Plot(name=file, title=f"{metric_name} {how}", panels=[panel], caption=f"{BANDS['range']}; {THIN}"))
    loss = replace(_quality(sides, "loss", "round"), title="loss", x_label="rounds", y_label="loss, released model")
    others = [
        _mean_of_nodes(sides, "staleness", 1.0, "staleness", "versions"),
        _mean_of_nodes(sides, "bytes_sent", 1e6, "sent", "MB per node"),
    ]
    return *plots, Plot(name="more", title="more", panels=[loss, *others], caption=MORE)


def _quality(
    sides: Mapping[str, Measurements], field: Literal["metric", "loss"], over: Literal["round", "time_s"]
) -> Panel:
    def curve(measured: Measurements) -> Curve:
        found = curve_of(measured, "released", field, over=over)
        there = found.x >= 0  # before it, real agents fetch the task and start their trainers
        kept = (array[there] for array in (found.x, found.median, found.low, found.high))
        x, median, low, high = kept
        return replace(found, x=x, median=median, low=low, high=high)

    thin = []
    for name, measured in sides.items():
        seeds = np.unique(measured.readings.column("seed"))
        thin += [(name, curve(measured.of_seed(int(seed)))) for seed in seeds if len(seeds) > 1]
    return Panel(curves={name: curve(measured) for name, measured in sides.items()}, looks=LOOKS, thin=thin)


def _mean_of_nodes(sides: Mapping[str, Measurements], column: str, unit: float, title: str, y_label: str) -> Panel:
    curves = {}
    for name, measured in sides.items():
        groups = grouped(measured.samples.column("round"), measured.samples.column(column) / unit)
        curves[name] = Curve(
            x=groups.keys.astype(np.float64),
            median=groups.mean(),
            low=groups.quantile(0.0),
            high=groups.quantile(1.0),
            label=name,
        )
    return Panel(curves=curves, looks=LOOKS, title=title, x_label="rounds", y_label=y_label, from_zero=True)
