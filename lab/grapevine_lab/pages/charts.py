"""A chart as SVG within HTML: lines stretch with the page, letters do not.

The SVG is stretched to any width (`preserveAspectRatio="none"`) with lines that keep theirs; all letters are HTML
beside it, placed in percent. So a chart can be read on a phone and in print, without a script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.pages.markup import element
from grapevine_lab.pages.scales import LARGEST, Scale, thinned, tick_texts
from grapevine_lab.pages.sections import Chart, Series, Table, shown

WIDTH, HEIGHT = 2000, 1000  # of the drawing, in its own units
NUM_COLOURS = 7  # in the style sheet
MOST_POINTS = 6000  # of a whole chart
LEAST_POINTS = 60  # of a line
MOST_STRIPS = 48  # that show their numbers under the pointer
NUM_ROWS = 11  # of the table below a chart
LABEL_SHARE = 0.021  # of a narrow chart's width, that a letter of a mark takes
MOST_LABEL_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class _Axes:
    x: Scale
    y: Scale

    def points(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> list[tuple[int, int] | None]:
        """Where points are in the drawing; None where there is none."""
        across, up = self.x.share(xs), self.y.share(ys)
        return [
            (round(WIDTH * x), round(HEIGHT * (1 - y))) if np.isfinite(x) and np.isfinite(y) else None
            for x, y in zip(across.tolist(), up.tolist(), strict=True)
        ]


def figure_of(chart: Chart, table: Element) -> Element:
    """The chart with its title, legend and axes; `table`, of `numbers_of`, is folded in below it."""
    axes = _axes_of(chart)
    colours = _colours(chart.series)
    marks, num_label_rows = _marks(chart, axes)
    y_texts = tick_texts(axes.y.ticks, percent=chart.percent)
    plot = element(
        "div",
        element("div", chart.y, class_="y-name"),
        element("div", *_labels(y_texts, axes.y, "bottom"), class_="ys", aria_hidden="true"),
        element("div", *marks, class_="marks", style=f"--rows:{num_label_rows}"),
        element("div", _drawing(chart, axes, colours), class_="area"),
        element(
            "div", *_labels(tick_texts(axes.x.ticks, percent=False), axes.x, "left"), class_="xs", aria_hidden="true"
        ),
        element("div", chart.x, class_="x-name"),
        class_="plot",
        style=f"--left:{max(map(len, y_texts), default=1)}ch",
    )
    caption = element("figcaption", element("h3", chart.title), element("p", chart.caption) if chart.caption else None)
    numbers = element("details", element("summary", "The numbers"), table, class_="numbers")
    return element(
        "figure", caption, _legend(chart, colours), plot, numbers, class_="chart wide" if chart.wide else "chart"
    )


def numbers_of(chart: Chart) -> Table:
    """Some of the numbers that are drawn, evenly chosen: what a reader who sees no lines is given."""
    named = [each for each in chart.series if not each.like]
    rows = [[_x_text(x), *(text or None for text in texts)] for x, texts in _readings(chart, named, NUM_ROWS)]
    return Table([chart.x, *(each.name for each in named)], rows)


# --- the drawing ------------------------------------------------------------------------------------


def _axes_of(chart: Chart) -> _Axes:
    xs = [each.xs for each in chart.series] + [[start, end] for start, end, _ in chart.spans]
    xs += [[x for x, _ in _marked(chart)]]
    ys = [part for each in chart.series for part in (each.ys, each.low, each.high) if part is not None]
    return _Axes(x=Scale.over(xs, exact=True), y=Scale.over(ys, is_log=chart.log_y, from_zero=chart.from_zero))


def _colours(series: Sequence[Series]) -> dict[str, int]:
    """A place in the palette for every name: what it asks for, else the next one that nobody has."""
    colours = {each.name: each.colour for each in series if each.colour is not None and not each.like}
    free = [k for k in range(NUM_COLOURS) if k not in colours.values()] or list(range(NUM_COLOURS))
    for i, name in enumerate(each.name for each in series if not each.like and each.name not in colours):
        colours[name] = free[i % len(free)]
    return {name: place % NUM_COLOURS for name, place in colours.items()}


def _drawing(chart: Chart, axes: _Axes, colours: Mapping[str, int]) -> Element:
    drawing = element(
        "svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_in_words(chart),
    )
    for start, end, _ in chart.spans:
        if math.isnan(start) or math.isnan(end):
            continue
        ends = np.clip([start, end], axes.x.low, axes.x.high)
        left, right = (WIDTH * axes.x.share(ends)).round().astype(int).tolist()
        drawing.append(element("rect", x=left, y=0, width=right - left, height=HEIGHT, class_="span"))
    grid = "".join(f"M0 {round(HEIGHT * (1 - at))}h{WIDTH}" for at in axes.y.share(axes.y.ticks).tolist())
    drawing.append(element("path", d=grid, class_="grid"))
    for at in axes.x.share([x for x, _ in _marked(chart)]).tolist():
        drawing.append(element("path", d=f"M{round(WIDTH * at)} 0v{HEIGHT}", class_="mark"))
    most = max(LEAST_POINTS, MOST_POINTS // max(1, len(chart.series)))
    ordered = [each for each in chart.series if each.thin] + [each for each in reversed(chart.series) if not each.thin]
    for each in ordered:
        if each.low is not None and each.high is not None and (band := _band(each, axes, most)):
            drawing.append(element("path", d=band, class_=f"band c{_colour(each, colours)}"))
    for each in ordered:
        points = axes.points(*thinned(*_arrays(each.xs, each.ys), most))
        if line := _line(points):
            drawing.append(element("path", d=line, class_=_style(each, _colour(each, colours))))
        if dots := _dots(points):
            drawing.append(element("path", d=dots, class_=f"line dot c{_colour(each, colours)}"))
    for strip in _strips(chart, axes):
        drawing.append(strip)
    return drawing


def _colour(series: Series, colours: Mapping[str, int]) -> int:
    return colours.get(series.like or series.name, 0)


def _arrays(xs: object, ys: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(xs, np.float64), np.asarray(ys, np.float64)


def _style(series: Series, colour: int) -> str:
    looks = {"thin": series.thin, "like": series.thin and bool(series.like), "dashed": series.dashed}
    return " ".join(["line", f"c{colour}", *(look for look, is_so in looks.items() if is_so)])


def _line(points: Sequence[tuple[int, int] | None]) -> str:
    """A path with a gap where a point is missing."""
    parts: list[str] = []
    before: tuple[int, int] | None = None
    for point in points:
        if point is None:
            before = None
        elif before is None:
            parts.append(f"M{point[0]} {point[1]}")
            before = point
        elif point != before:
            parts.append(f"l{point[0] - before[0]} {point[1] - before[1]}")
            before = point
    return "".join(parts)


def _dots(points: Sequence[tuple[int, int] | None]) -> str:
    """The points between two gaps, of which no line can be seen."""
    around = [None, *points, None]
    alone = [point for i, point in enumerate(points) if around[i] is None and around[i + 2] is None]
    return "".join(f"M{point[0]} {point[1]}h0" for point in alone if point is not None)


def _band(series: Series, axes: _Axes, most: int) -> str:
    """The area between low and high, where both are finite; nothing where they are the same."""
    xs, low = _arrays(series.xs, series.low)
    _, high = _arrays(series.xs, series.high)
    there = np.isfinite(low) & np.isfinite(high)
    if not there.any() or np.array_equal(low[there], high[there]):
        return ""
    upper = axes.points(*thinned(xs[there], high[there], most))
    lower = axes.points(*thinned(xs[there], low[there], most))
    outline = [point for point in (*upper, *reversed(lower)) if point is not None]
    return _line(outline) + "z"


def _strips(chart: Chart, axes: _Axes) -> Iterator[Element]:
    """Upright strips that light up under the pointer, and say what the lines are there."""
    named = [each for each in chart.series if not each.like]
    readings = list(_readings(chart, named, MOST_STRIPS))
    centres = WIDTH * axes.x.share([x for x, _ in readings])
    bounds = [0, *((centres[1:] + centres[:-1]) / 2).round().astype(int).tolist(), WIDTH]
    for i, (x, texts) in enumerate(readings):
        lines = [f"{chart.x}: {_x_text(x)}"]
        lines += [f"{each.name}: {text}" for each, text in zip(named, texts, strict=True) if text]
        left, right = bounds[i], bounds[i + 1]
        title = element("title", "\n".join(lines))
        yield element("rect", title, x=left, y=0, width=max(0, right - left), height=HEIGHT, class_="strip")


# --- numbers and letters ----------------------------------------------------------------------------


def _readings(chart: Chart, named: Sequence[Series], most: int) -> Iterator[tuple[float, list[str]]]:
    """At most so many places on the x axis, the ends among them, and each series' values next to them."""
    arrays = [np.asarray(each.xs, np.float64) for each in named]
    all_x = np.unique(np.concatenate([*arrays, np.empty(0)]))
    all_x = all_x[np.abs(all_x) <= LARGEST]
    if not len(all_x):
        return
    places = all_x
    if len(all_x) > most:
        evenly = np.linspace(all_x[0], all_x[-1], most)
        places = np.unique(all_x[np.abs(all_x[None, :] - evenly[:, None]).argmin(axis=1)])
    reach = (all_x[-1] - all_x[0]) / max(1, most - 1) / 2
    for x in places.tolist():
        yield (
            x,
            [_value_near(each, xs, x, reach, percent=chart.percent) for each, xs in zip(named, arrays, strict=True)],
        )


def _value_near(series: Series, xs: NDArray[np.float64], x: float, reach: float, *, percent: bool) -> str:
    """The value of the point that is nearest, with its band; empty if none is within reach."""
    if not len(xs):
        return ""
    i = int(np.abs(xs - x).argmin())
    value = float(np.asarray(series.ys, np.float64)[i])
    if abs(float(xs[i]) - x) > reach or not np.isfinite(value):
        return ""
    text = _value(value, percent=percent)
    if series.low is None or series.high is None:
        return text
    low, high = (float(np.asarray(each, np.float64)[i]) for each in (series.low, series.high))
    return text if low == high else f"{text} ({_value(low, percent=percent)} to {_value(high, percent=percent)})"


def _value(value: float, *, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else shown(value)


def _x_text(x: float) -> str:
    return shown(int(x)) if x == int(x) else shown(round(x, 2))


def _in_words(chart: Chart) -> str:
    told = []
    for each in chart.series:
        values = np.asarray(each.ys, np.float64)
        values = values[np.isfinite(values)]
        if len(values) and not each.like:
            first, last = (_value(float(values[i]), percent=chart.percent) for i in (0, -1))
            told.append(f"{each.name} from {first} to {last}")
    told += [f"{label} at {_x_text(x)}" for x, label in _marked(chart)]
    return f"{chart.title}: {chart.y or 'values'} by {chart.x}. {'; '.join(told)}."


def _marked(chart: Chart) -> list[tuple[float, str]]:
    """The moments that there are: one that never came is none."""
    return [(x, label) for x, label in chart.marks if abs(x) <= LARGEST]


def _labels(texts: Sequence[str], scale: Scale, side: str) -> list[Element]:
    shares = scale.share(scale.ticks).tolist()
    return [element("span", text, style=f"{side}:{100 * at:.2f}%") for text, at in zip(texts, shares, strict=True)]


def _marks(chart: Chart, axes: _Axes) -> tuple[list[Element], int]:
    """Labels above their lines, in as many rows as keep them apart on a narrow page."""
    ends: list[float] = []  # of each row
    labels = []
    for x, label in sorted(_marked(chart)):
        at = float(axes.x.share([x])[0])
        width = LABEL_SHARE * len(label)
        start = at if at + width <= 1 else max(0.0, at - width)
        row = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        if row >= MOST_LABEL_ROWS:
            continue  # no room: its line is there, and the description names it
        ends[row : row + 1] = [start + width]
        side = f"left:{100 * at:.2f}%" if start == at else f"right:{100 * (1 - at):.2f}%"
        labels.append(element("span", label, style=f"{side};--row:{row}"))
    return labels, len(ends)


def _legend(chart: Chart, colours: Mapping[str, int]) -> Element | None:
    entries = [element("li", _swatch(each, colours[each.name]), each.name) for each in chart.series if not each.like]
    labels = dict.fromkeys(label for _, _, label in chart.spans)
    entries += [element("li", element("i", class_="span"), label) for label in labels]
    return element("ul", *entries, class_="legend") if len(entries) > 1 else None


def _swatch(series: Series, colour: int) -> Element:
    line = element("path", d="M1 5h24", class_=_style(series, colour))
    return element("svg", line, viewBox="0 0 26 10", width=26, height=10, aria_hidden="true")
