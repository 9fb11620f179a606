"""Plots in the shape of the paper's figures 2 to 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from grapevine_lab.papers.delta_sum.runs import Found
from grapevine_lab.papers.delta_sum.traffic import Traffic
from grapevine_lab.simulator.plots import Curve, Panel, curve_of, draw_grid, draw_overlay


def draw_figure_2(found: Sequence[Found], path: Path) -> list[Path]:
    """Accuracy per round: a row for each number of nodes, before and after the integration, and as released."""
    nodes = sorted({each.setting.num_nodes for each in found})
    models = {"working": "before the integration", "merged": "after it", "released": "released model"}
    rows = [
        [
            Panel(
                curves={
                    each.setting.strategy: curve_of(each.measurements, model)
                    for each in found
                    if each.setting.num_nodes == n
                },
                title=f"{n} nodes, {told}",
                y_label="accuracy",
                percent=True,
            )
            for model, told in models.items()
        ]
        for n in nodes
    ]
    return draw_grid(
        rows,
        path,
        title="Delta Sum Learning, figure 2",
        subtitle="line: median over nodes, band: least to greatest",
        share_y="all",
    )


def draw_figure_3(found: Sequence[Found], path: Path) -> list[Path]:
    """Accuracy in the last round over the number of nodes."""
    curves: dict[str, Curve] = {}
    for strategy in dict.fromkeys(each.setting.strategy for each in found):
        chosen = sorted((e for e in found if e.setting.strategy == strategy), key=lambda e: e.setting.num_nodes)
        medians, lows, highs = np.array([each.final() for each in chosen]).T
        x = np.array([each.setting.num_nodes for each in chosen], np.float64)
        curves[strategy] = Curve(x=x, median=medians, low=lows, high=highs)
    return draw_overlay(
        curves,
        path,
        title="Delta Sum Learning, figure 3",
        subtitle="accuracy in the last round; band: least to greatest node",
        x_label="nodes",
        y_label="accuracy",
        percent=True,
    )


def draw_figure_4(counted: Mapping[str, Sequence[Traffic]], path: Path) -> list[Path]:
    """Traffic of all nodes over the number of nodes."""
    curves = {}
    for name, each in counted.items():
        x = np.array([t.num_nodes for t in each], np.float64)
        y = np.array([t.num_nodes * t.models for t in each])
        curves[name] = Curve(x=x, median=y, low=y, high=y)
    return draw_overlay(
        curves,
        path,
        title="Delta Sum Learning, figure 4",
        subtitle="counted on every link; 1 = a model of 221 kB",
        x_label="nodes",
        y_label="models an epoch, all nodes",
    )
