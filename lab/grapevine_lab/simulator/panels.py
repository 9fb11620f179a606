"""What a run shows of itself: quality, staleness, traffic and energy over rounds, as panels to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from grapevine_lab.simulator.measurements import (
    MODELS,
    Groups,
    Measurements,
    Rows,
    Sample,
    grouped,
    in_order,
    series_of,
)
from grapevine_lab.simulator.plots import BANDS, DASHES, PALETTE, Curve, Look, Panel, curve_in, curve_of, draw_grid

Span: TypeAlias = tuple[float, float, str]  # from, to, what is there

MODEL_LOOKS: Mapping[str, Look] = {
    "working": (PALETTE[1], DASHES[2]),
    "merged": (PALETTE[2], DASHES[1]),
    "released": (PALETTE[0], DASHES[0]),
}
ROUND_LABEL = "round (each node's own)"
OVER_NODES = "mean over the nodes online, band: least to greatest node"
BOUND_LABEL = "Lemma 1's bound on its mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Panels side by side. `name` is the file's; `caption` says what lines and bands are."""

    name: str
    title: str
    panels: Sequence[Panel]
    caption: str


def plots_of(
    measurements: Measurements, *, metric_name: str, higher_is_better: bool, spans: Sequence[Span] = ()
) -> tuple[Plot, ...]:
    """`metric`, `metric-over-time`, `loss`, `staleness`, `traffic` and `energy`; what was not measured is left out.

    `spans` are stretches of virtual seconds that are shaded over time; one may be without an end.
    """
    plots = []
    qualities: tuple[tuple[str, str, Literal["metric", "loss"], Literal["round", "time_s"]], ...] = (
        ("metric", f"{metric_name} by rounds", "metric", "round"),
        ("metric-over-time", f"{metric_name} over time", "metric", "time_s"),
        ("loss", "loss by rounds", "loss", "round"),
    )
    for name, title, drawn, over in qualities:
        panel = _quality(measurements, drawn, over, spans)
        if panel is None:
            continue
        if drawn == "metric":
            better = "higher" if higher_is_better else "lower"
            panel = replace(panel, y_label=f"{metric_name} ({better} is better)", percent=metric_name == "accuracy")
        plots.append(Plot(name=name, title=title, panels=[panel], caption=BANDS["range"]))
    samples = measurements.samples
    for name, title, panels, caption in (
        (
            "staleness",
            "staleness against its bound",
            [_staleness(samples)],
            OVER_NODES,
        ),
        ("traffic", "traffic", _traffic(samples), "mean over nodes"),
        ("energy", "energy", [_energy(samples)], BANDS["range"]),
    ):
        there = [panel for panel in panels if panel is not None]
        if there:
            plots.append(Plot(name=name, title=title, panels=there, caption=caption))
    return tuple(plots)


def draw_plots(plots: Iterable[Plot], folder: Path, *, title: str) -> list[Path]:
    """Draw each as PNG and SVG. Returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots:
        written += draw_grid([plot.panels], folder / plot.name, title=title, subtitle=plot.caption)
    return written


def _mean_line(groups: Groups) -> Curve:
    mean = groups.mean()
    return Curve(x=groups.keys.astype(np.float64), median=mean, low=mean, high=mean)


def _quality(
    measurements: Measurements,
    drawn: Literal["metric", "loss"],
    over: Literal["round", "time_s"],
    spans: Sequence[Span],
) -> Panel | None:
    curves = {model: curve_of(measurements, model, drawn, over=over) for model in MODELS}
    curves = {model: curve for model, curve in curves.items() if len(curve.x)}
    if not curves:
        return None
    thin: list[tuple[str, Curve]] = []
    seeds = np.unique(measurements.readings.column("seed")).tolist()
    for seed in seeds if len(seeds) > 1 else ():
        alone = measurements.of_seed(seed)
        thin += [(model, curve_of(alone, model, drawn, over=over)) for model in curves]
    x_label, shaded = ROUND_LABEL, list[Span]()
    if over == "time_s":
        end_s = max(float(curve.x[-1]) for curve in curves.values())
        unit, name = time_unit(end_s)
        shaded = [(start / unit, min(end, end_s) / unit, label) for start, end, label in spans if start < end_s]
        x_label = f"virtual time ({name})"
        curves = {model: replace(curve, x=curve.x / unit) for model, curve in curves.items()}
        thin = [(model, replace(curve, x=curve.x / unit)) for model, curve in thin]
    y_label, log_y = "loss (lower is better)", drawn == "loss" and _spans_decades(curves.values())
    axes = Panel(curves=curves, x_label=x_label, y_label=y_label, log_y=log_y)
    return replace(axes, looks=MODEL_LOOKS, thin=thin, spans=shaded)


def _staleness(samples: Rows[Sample]) -> Panel | None:
    online = samples.column("online")
    rounds = samples.column("round")[online]
    measured = grouped(rounds, samples.column("staleness")[online])
    bound = grouped(rounds, samples.column("staleness_bound")[online])
    if not len(measured.keys):
        return None
    curves = {"measured": replace(curve_in(measured, "range", "measured"), median=measured.mean())}
    if len(bound.keys):
        curves[BOUND_LABEL] = _mean_line(bound)
    looks = {"measured": (PALETTE[0], DASHES[0]), BOUND_LABEL: (PALETTE[-1], DASHES[1])}
    return Panel(curves=curves, x_label=ROUND_LABEL, y_label="staleness (versions)", looks=looks, from_zero=True)


def _traffic(samples: Rows[Sample]) -> list[Panel | None]:
    if not len(samples):
        return []
    order = in_order(samples)
    series, rounds = series_of(samples)[order], samples.column("round")[order]
    # One row a node and round, the last: what happened between two of them is the traffic of the later one's rounds.
    last = np.append((np.diff(series) != 0) | (np.diff(rounds) != 0), True)
    order, series, rounds = order[last], series[last], rounds[last]
    follows = (np.diff(series) == 0) & (np.diff(rounds) > 0)
    panels: list[Panel | None] = []
    for what in ("messages", "bytes"):
        curves = {}
        for way in ("sent", "received"):
            totals = samples.column(f"{what}_{way}")[order]
            rates = np.diff(totals)[follows] / np.diff(rounds)[follows]
            curves[way] = _mean_line(grouped(rounds[1:][follows], rates))
        if not len(curves["sent"].x):
            return []
        unit, prefix = decimal_unit(max(float(curve.high.max()) for curve in curves.values()))
        name = what if what == "messages" else f"{prefix}B"
        scaled = {way: _scaled(curve, 1.0 if what == "messages" else unit) for way, curve in curves.items()}
        panels.append(Panel(curves=scaled, x_label=ROUND_LABEL, y_label=f"{name} per node and round", from_zero=True))
    return panels


def _energy(samples: Rows[Sample]) -> Panel | None:
    curve = curve_in(grouped(samples.column("round"), samples.column("joules")), "range", "energy")
    if not len(curve.x) or not curve.high.any():
        return None
    unit, prefix = decimal_unit(float(curve.high.max()))
    curves = {"drawn since the run began": _scaled(curve, unit)}
    return Panel(curves=curves, x_label=ROUND_LABEL, y_label=f"energy ({prefix}J per node)", from_zero=True)


def _scaled(curve: Curve, unit: float) -> Curve:
    return replace(curve, median=curve.median / unit, low=curve.low / unit, high=curve.high / unit)


def decimal_unit(greatest: float) -> tuple[float, str]:
    """The largest power of a thousand that fits so much, and its prefix."""
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next(((unit, prefix) for unit, prefix in units if greatest >= unit), (1.0, ""))


def time_unit(greatest_s: float) -> tuple[float, str]:
    """The unit in which so long a time is easily read: its seconds, and its name."""
    units = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next(((unit, name) for unit, name in units if greatest_s >= 3 * unit), (1.0, "s"))


def _spans_decades(curves: Iterable[Curve]) -> bool:
    middles = np.concatenate([curve.median for curve in curves])
    return bool(middles.min() > 0 and middles.max() / middles.min() > 50)
