"""Curves of runs, and how they are drawn: panels in a grid, and several runs laid over each other.

Every figure is written twice, as PNG and as SVG. The same measurements give the same SVG, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.measurements import (
    MODELS,
    Groups,
    Measurements,
    grouped,
    series_of,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers: TypeAlias = NDArray[np.float64]
Look: TypeAlias = tuple[str, object]  # colour and dashes
Spread: TypeAlias = Literal["range", "quartiles", "deviation"]

# Okabe and Ito's colours, told apart by colour-blind readers, without their yellow, which is too light for a line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1b1f24")
DASHES: tuple[object, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)))
QUIET_COLOUR = "#6b717a"
SPAN_COLOUR = "#f2c14e"
GRID_COLOUR = "#e3e6ea"
SIZE_INCHES = (8.0, 4.8)
CELL_INCHES = (3.4, 2.7)  # of one panel in a grid
HEAD_INCHES = 1.2  # for a grid's title and legend
SUBTITLE_INCHES = 0.33  # from the upper edge
DOTS_PER_INCH = 130
MAX_POINTS = 1500  # of a curve as drawn: more than a page has dots
NUM_MOMENTS = 240  # of a curve over virtual time
LETTERS_PER_INCH = 11  # of the legend
HASH_SALT = "grapevine"  # else an SVG's ids are drawn at random
BANDS: Mapping[Spread, str] = {
    "range": "line: median over nodes, band: least to greatest",
    "quartiles": "line: median over nodes, band: quartiles",
    "deviation": "line: mean over nodes, band: ± one standard deviation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line within a band: float arrays [k] of one length. `median` is the line, be it a median or a mean."""

    x: Numbers
    median: Numbers
    low: Numbers
    high: Numbers
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes: the curves by their names in the legend, and how the axes read."""

    curves: Mapping[str, Curve]
    title: str = ""
    x_label: str = "round"
    y_label: str = ""
    percent: bool = False  # the values are shares of 1
    log_y: bool = False
    from_zero: bool = False  # the y axis begins at 0: for what cannot be negative
    looks: Mapping[str, Look] = field(default_factory=dict)  # name → colour and dashes; else in turn
    thin: Sequence[tuple[str, Curve]] = ()  # lines behind a curve of that name: single seeds
    spans: Sequence[tuple[float, float, str]] = ()  # stretches of the x axis, and what is there


def curve_of(
    measurements: Measurements,
    model: str,
    field: Literal["metric", "loss"] = "metric",
    *,
    over: Literal["round", "time_s"] = "round",
    spread: Spread = "range",
    label: str | None = None,
) -> Curve:
    """One kind of model over all nodes and seeds: its median and range, or another spread.

    Over rounds, values are grouped by the nodes' own rounds. Over virtual time, every node counts at each of
    `NUM_MOMENTS` moments with its newest value, once it has one. Values that are not finite (a model that has diverged,
    a node without samples) are left out; the summary counts them. Raises ValueError for a model that does not exist.
    """
    if model not in MODELS:
        raise ValueError(f"{model!r} is none of {', '.join(MODELS)}")
    rows = measurements.readings
    chosen = rows.column("model") == MODELS.index(model)
    values = rows.column(field)[chosen]
    if over == "round":
        groups = grouped(rows.column("round")[chosen], values)
    else:
        groups = _held(series_of(rows)[chosen], rows.column("time_s")[chosen], values)
    return curve_in(groups, spread, model if label is None else label)


def draw_overlay(
    curves: Mapping[str, Curve],
    path: Path,
    *,
    title: str,
    x_label: str = "round",
    y_label: str,
    subtitle: str = "",
    percent: bool = False,
    log_y: bool = False,
) -> list[Path]:
    """Draw several runs into one pair of axes, under the names that the mapping gives them.

    Writes `path` with `.png` and with `.svg` after it (in place of one of these, if it has one) and returns both.
    """
    panel = Panel(curves=curves, x_label=x_label, y_label=y_label, percent=percent, log_y=log_y)
    return draw_grid([[panel]], path, title=title, subtitle=subtitle)


def draw_grid(
    panels: Sequence[Sequence[Panel | None]],
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    share_y: Literal["row", "all", "none"] = "none",
) -> list[Path]:
    """Draw rows of panels, in the shape of a paper's figure, with one legend: a name looks the same in all of them.

    None leaves a gap. Writes two files, as `draw_overlay` does. Raises ValueError where there is no panel.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415 - not pyplot: no global figures, no window system

    there = [panel for row in panels for panel in row if panel is not None]
    if not there:
        raise ValueError("there is no panel to draw")
    num_rows, num_columns, size = len(panels), max(len(row) for row in panels), SIZE_INCHES
    if (num_rows, num_columns) != (1, 1):
        size = (max(SIZE_INCHES[0], CELL_INCHES[0] * num_columns), HEAD_INCHES + CELL_INCHES[1] * num_rows)
    # As text, an SVG's words can be found, and are set in the reader's own fonts.
    with rc_context({"svg.hashsalt": HASH_SALT, "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=size, layout="constrained")
        cells: list[Axes] = figure.subplots(num_rows, num_columns, squeeze=False, sharey=share_y).ravel().tolist()
        looks = _looks(there)
        for i, axes in enumerate(cells):
            row, column = panels[i // num_columns], i % num_columns
            panel = row[column] if column < len(row) else None
            if panel is None:
                axes.set_axis_off()
                continue
            _draw_panel(axes, panel, looks)
            if share_y != "none" and column:
                axes.set_ylabel("")  # the first of the row has it
        _draw_legend(figure, cells)
        # An empty second line of the title makes room for the subtitle, which is set smaller.
        figure.suptitle(title + ("\n" if subtitle else ""), x=0.012, ha="left", fontsize=12, fontweight="bold")
        if subtitle:
            y = 1 - SUBTITLE_INCHES / size[1]
            figure.text(0.012, y, subtitle, ha="left", va="top", fontsize=9, color=QUIET_COLOUR)
        return _save(figure, path)


def _looks(panels: Sequence[Panel]) -> dict[str, Look]:
    """A colour and dashes for every name: those that a panel asks for, else the next of the palette."""
    looks: dict[str, Look] = {}
    for panel in panels:
        looks |= panel.looks
    names = [name for panel in panels for name in panel.curves if name not in looks]
    for i, name in enumerate(dict.fromkeys(names)):
        looks[name] = (PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)])
    return looks


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, Look]) -> None:
    for start, end, label in panel.spans:
        axes.axvspan(start, end, color=SPAN_COLOUR, alpha=0.25, linewidth=0, zorder=0, label=label)
    for name, curve in panel.thin:
        shown = _thinned(curve)
        axes.plot(shown.x, shown.median, color=looks[name][0], linewidth=0.6, alpha=0.5, zorder=2)
    for name, curve in panel.curves.items():
        (colour, dashes), shown = looks[name], _thinned(curve)
        if not np.array_equal(shown.low, shown.high):
            axes.fill_between(shown.x, shown.low, shown.high, color=colour, alpha=0.13, linewidth=0, zorder=1)
        marker = "o" if len(shown.x) == 1 else ""  # a line of one point cannot be seen
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "linewidth": 1.8, "zorder": 3}
        axes.plot(shown.x, shown.median, label=name, **style)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize="medium")
    if panel.log_y:
        axes.set_yscale("log")
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    if panel.percent:
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    axes.margins(x=0.01)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_legend(figure: Figure, all_axes: Iterable[Axes]) -> None:
    """One legend for all axes, below them: there it hides no curve."""
    entries: dict[str, Artist] = {}
    for axes in all_axes:
        lines, names = axes.get_legend_handles_labels()
        entries = dict(zip(names, lines, strict=True)) | entries
    # As many names on a line as fit: those of strategies with their settings are long.
    letters = figure.get_figwidth() * LETTERS_PER_INCH
    num_columns = max(1, min(len(entries), int(letters / (8 + max(map(len, entries), default=0)))))
    style: dict[str, Any] = {"ncols": num_columns, "frameon": False, "handlelength": 3.2}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", **style)


def _thinned(curve: Curve) -> Curve:
    """Of a long curve, evenly chosen points, the last among them."""
    if len(curve.x) <= MAX_POINTS:
        return curve
    kept = np.linspace(0, len(curve.x) - 1, MAX_POINTS).round().astype(int)
    return replace(curve, x=curve.x[kept], median=curve.median[kept], low=curve.low[kept], high=curve.high[kept])


def _save(figure: Figure, path: Path) -> list[Path]:
    stem = path.name.removesuffix(".png").removesuffix(".svg")
    written = [path.with_name(f"{stem}.png"), path.with_name(f"{stem}.svg")]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(written[0], format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.savefig(written[1], format="svg", metadata={"Date": None})
    return written


def _held(series: NDArray[np.int64], times: Numbers, values: Numbers) -> Groups:
    """Every series' newest value at evenly spread moments up to the last of all times, grouped by moment."""
    if not len(times):
        return grouped(times, values)
    order = np.lexsort((times, series))
    series, times, values = series[order], times[order], values[order]
    moments = np.linspace(0.0, times.max(), NUM_MOMENTS)
    bounds = np.flatnonzero(np.diff(series, prepend=series[0] - 1, append=series[-1] + 1))
    held = np.full((len(bounds) - 1, NUM_MOMENTS), np.nan)
    for i, (start, end) in enumerate(pairwise(bounds)):
        newest = start + np.searchsorted(times[start:end], moments, side="right") - 1
        held[i] = np.where(newest >= start, values[np.maximum(newest, start)], np.nan)
    return grouped(np.tile(moments, len(held)), held.ravel())


def curve_in(groups: Groups, spread: Spread, label: str) -> Curve:
    """A curve over the groups' keys, of the values in each."""
    x = groups.keys.astype(np.float64)
    if spread == "deviation":
        mean, deviation = groups.mean(), groups.deviation()
        return Curve(x=x, median=mean, low=mean - deviation, high=mean + deviation, label=label)
    edge = 0.0 if spread == "range" else 0.25
    low, high = groups.quantile(edge), groups.quantile(1 - edge)
    return Curve(x=x, median=groups.quantile(0.5), low=low, high=high, label=label)
