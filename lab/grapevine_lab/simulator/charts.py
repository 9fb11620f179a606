"""The panels of plots as charts of a page: the same curves in the same colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grapevine_lab.pages import Chart, Series
from grapevine_lab.simulator.panels import MODEL_LOOKS, Plot
from grapevine_lab.simulator.plots import DASHES, PALETTE, Curve, Panel

THIN = "thin lines: the median of each seed"
MOST_THIN = 60  # lines of single seeds in one chart


def charts_of(plot: Plot, *, wide: bool = False) -> list[Chart]:
    """One chart for each panel of a plot."""
    if len(plot.panels) == 1:
        return [chart_of(plot.panels[0], title=plot.title, caption=plot.caption, wide=wide)]
    return [chart_of(panel, title=panel.title or panel.y_label, caption=plot.caption) for panel in plot.panels]


def chart_of(panel: Panel, *, title: str, caption: str = "", wide: bool = False) -> Chart:
    """A panel as a chart, with a title of its own."""
    series = [_series(name, curve, panel) for name, curve in panel.curves.items()]
    if panel.looks is MODEL_LOOKS:
        series.reverse()  # what is released comes first, and on top
    if panel.thin and THIN not in caption:
        caption = f"{caption}; {THIN}" if caption else THIN
    return Chart(
        title=_begun(title),
        x=panel.x_label,
        y=panel.y_label,
        series=[*series, *_thin(panel.thin)],
        spans=panel.spans,
        caption=caption,
        percent=panel.percent,
        log_y=panel.log_y,
        from_zero=panel.from_zero,
        wide=wide,
    )


def _begun(text: str) -> str:
    """As a title begins; a unit stays what it is."""
    return text[:1].upper() + text[1:] if text[:2].islower() else text


def _series(name: str, curve: Curve, panel: Panel) -> Series:
    colour, dashes = panel.looks.get(name, (None, DASHES[0]))
    place = PALETTE.index(colour) if colour in PALETTE else None
    return Series(name, curve.x, curve.median, curve.low, curve.high, dashed=dashes != DASHES[0], colour=place)


def _thin(lines: Sequence[tuple[str, Curve]]) -> list[Series]:
    """Some of many, evenly chosen."""
    kept = np.unique(np.linspace(0, len(lines) - 1, min(len(lines), MOST_THIN)).round().astype(int)).tolist()
    return [Series("one seed", curve.x, curve.median, thin=True, like=name) for name, curve in (lines[i] for i in kept)]
