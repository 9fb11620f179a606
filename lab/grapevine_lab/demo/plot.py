"""`accuracy.png`: every agent's accuracy over time, together and alone, with the server's span shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.demo.listening import Point
from grapevine_lab.demo.report import GOAL_ACCURACY, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERVER_COLOUR = "#f2c14e"
ALONE_COLOUR = "#8a8f98"
MEAN_COLOUR = "#1b1f24"
SIZE_INCHES = (10.0, 5.6)
DOTS_PER_INCH = 130
MAX_NAMED = 8  # agents in the legend
GRID_S = 0.5  # of the mean over agents


def draw_accuracy(report: Report, path: Path) -> None:
    """Draw the report's series into a PNG file."""
    # Not pyplot: no global figures, and no window system is asked for.
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    _draw_server(axes, report)
    _draw_agents(axes, report)
    axes.axhline(GOAL_ACCURACY, color="#c3c7cd", linewidth=0.8, zorder=1)
    axes.set(
        xlim=(0, report.duration_s),
        ylim=(0, 1.02),
        xlabel="seconds since learning began",
        ylabel="accuracy on the common test set (all ten digits)",
    )
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title(
        f"{len(report.peers)} agents, each with a few of the ten digits, learn together over MQTT", loc="left"
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Between what agents reach alone and what they reach together there is room.
    axes.legend(
        loc="center right", bbox_to_anchor=(1.0, 0.62), ncols=2, fontsize="small", framealpha=0.9, edgecolor="none"
    )
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH)


def _draw_server(axes: Axes, report: Report) -> None:
    server = report.server
    if server is None or server.appeared_s is None:
        return
    end_s = report.duration_s if server.killed_s is None else server.killed_s
    axes.axvspan(server.appeared_s, end_s, color=SERVER_COLOUR, alpha=0.25, linewidth=0, zorder=0, label="server there")
    axes.annotate("server appears", (server.appeared_s, 0.03), xytext=(4, 0), textcoords="offset points", fontsize=9)
    if server.killed_s is not None:
        axes.axvline(server.killed_s, color="#b23a48", linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
        axes.annotate(
            "server killed",
            (server.killed_s, 0.03),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=9,
            color="#b23a48",
        )


def _draw_agents(axes: Axes, report: Report) -> None:
    colours = _colours(len(report.peers))
    for peer, colour in zip(report.peers, colours, strict=True):
        label = peer.name if len(report.peers) <= MAX_NAMED else None
        axes.plot(*_coordinates(peer.together), color=colour, linewidth=1.1, alpha=0.85, zorder=3, label=label)
    for i, peer in enumerate(report.peers):
        label = "the same agents, each alone" if i == 0 else None
        axes.plot(
            *_coordinates(peer.alone), color=ALONE_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=2, label=label
        )
    times, mean = mean_over_agents([peer.together for peer in report.peers], report.duration_s)
    axes.plot(times, mean, color=MEAN_COLOUR, linewidth=2.2, zorder=4, label="mean of the agents")


def _colours(count: int) -> list[tuple[float, ...]]:
    from matplotlib import colormaps  # noqa: PLC0415 - see above

    return [tuple(map(float, colormaps["viridis"](place))) for place in np.linspace(0.05, 0.85, count)]


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.t_s for point in points], [point.accuracy for point in points]


def mean_over_agents(
    series: Sequence[Sequence[Point]], end_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean accuracy, from the moment when every agent has been heard."""
    if any(not points for points in series):
        return np.empty(0), np.empty(0)
    start_s = max(points[0].t_s for points in series)
    times = np.arange(start_s, end_s + GRID_S, GRID_S)
    values = [np.interp(times, *_coordinates(points)) for points in series]
    return times, np.mean(values, axis=0)
