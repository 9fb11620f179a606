"""Charts: numbers by hand, and what is left of long lines."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.lab.pages.reading import all_of, parsed, text_of

from grapevine_lab.pages import Chart, Page, Series, html_of
from grapevine_lab.pages.charts import NUM_ROWS, numbers_of
from grapevine_lab.pages.scales import Scale, thinned, tick_texts

FINITE = st.floats(-1e12, 1e12).map(lambda number: round(number, 6))


def drawn(chart: Chart) -> dict[str, list[str]]:
    """The paths of a chart, by their classes."""
    paths: dict[str, list[str]] = {}
    for each in all_of(parsed(html_of(Page("t", [chart]))), "path"):
        paths.setdefault(each.get("class", ""), []).append(each.get("d", ""))
    return paths


def corners(path: str) -> list[tuple[int, int]]:
    """Where a path's points are."""
    found, at = [], (0, 0)
    for kind, x, y in re.findall(r"([Ml])(-?\d+) (-?\d+)", path):
        at = (int(x), int(y)) if kind == "M" else (at[0] + int(x), at[1] + int(y))
        found.append(at)
    return found


@given(st.lists(FINITE, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_all_values_between_round_numbers(values: list[float], from_zero: bool) -> None:
    scale = Scale.over([values], from_zero=from_zero)

    shares = scale.share(values)
    assert shares.min() >= -1e-6
    assert shares.max() <= 1 + 1e-6
    assert 2 <= len(scale.ticks) <= 8
    texts = tick_texts(scale.ticks, percent=False)
    assert len(set(texts)) == len(texts)
    assert not from_zero or min(values) < 0 or scale.low == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.13, 0.95], ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        ([0.905, 0.955], ["90 %", "91 %", "92 %", "93 %", "94 %", "95 %", "96 %"]),
        ([0.5, 0.5], ["20 %", "30 %", "40 %", "50 %", "60 %", "70 %", "80 %"]),
    ],
)
def test_shares_are_told_in_percent(values: list[float], expected: list[str]) -> None:
    assert tick_texts(Scale.over([values]).ticks, percent=True) == expected


def test_decades_stand_at_equal_distances_and_what_has_no_logarithm_is_left_out() -> None:
    scale = Scale.over([[0.02, 10.0, 0.0, -1.0, math.inf]], is_log=True)

    assert tick_texts(scale.ticks, percent=False) == ["0.01", "0.1", "1", "10"]
    assert scale.share([0.01, 0.1, 10.0]) == pytest.approx([0, 1 / 3, 1])
    path = drawn(Chart("t", "x", "y", [Series("a", [1, 2, 3], [1.0, 0.0, 10.0])], log_y=True))
    assert corners(path["line dot c0"][0]) == [(0, 1000), (2000, 0)]


@given(st.lists(FINITE, min_size=1, max_size=500), st.integers(8, 100))
def test_a_thinned_line_keeps_its_ends_and_its_extremes(values: list[float], num: int) -> None:
    ys = np.array(values)
    xs = np.arange(len(ys))

    kept_x, kept_y = thinned(xs, ys, num)

    assert len(kept_x) <= max(num, 4)
    assert (kept_x[0], kept_x[-1]) == (xs[0], xs[-1])
    assert (kept_y.min(), kept_y.max()) == (ys.min(), ys.max())
    assert (np.diff(kept_x) > 0).all()
    assert (ys[kept_x] == kept_y).all()


def test_a_line_is_where_its_numbers_are_and_has_a_gap_where_one_is_missing() -> None:
    ys = [0.0, 0.5, math.nan, 1.0, math.inf, 1.0, 0.0]
    paths = drawn(Chart("t", "x", "y", [Series("a", range(7), ys)]))

    (line,) = paths["line c0"]
    assert line.count("M") == 3
    assert corners(line) == [(0, 1000), (333, 500), (1000, 0), (1667, 0), (2000, 1000)]
    assert paths["line dot c0"] == ["M1000 0h0"]  # alone between two gaps


def test_a_band_goes_along_its_upper_edge_and_back_along_its_lower_one() -> None:
    paths = drawn(Chart("t", "x", "y", [Series("a", [0, 1], [0.5, 0.5], [0.0, 0.25], [1.0, 0.75])]))

    assert corners(paths["band c0"][0]) == [(0, 0), (2000, 250), (2000, 750), (0, 1000)]
    flat = drawn(Chart("t", "x", "y", [Series("a", [0, 1], [0, 1], [0, 1], [0, 1])]))
    assert not any(name.startswith("band") for name in flat)


def test_single_seeds_have_the_colour_of_the_whole_and_no_place_in_the_legend() -> None:
    series = [
        Series("released", [0, 1], [0, 1]),
        Series("merged", [0, 1], [1, 0], dashed=True),
        *(Series("one seed", [0, 1], [0, k], thin=True, like="merged") for k in range(3)),
    ]
    html = html_of(Page("t", [Chart("t", "x", "y", series)]))

    legend = next(each for each in all_of(parsed(html), "ul") if each.get("class") == "legend")
    assert [text_of(each) for each in legend] == ["released", "merged"]
    assert len(drawn(Chart("t", "x", "y", series))["line c1 thin like"]) == 3


def test_a_colour_that_was_asked_for_is_nobody_elses() -> None:
    series = [Series("a", [0, 1], [0, 1]), Series("b", [0, 1], [0, 1], colour=0), Series("c", [0, 1], [0, 1])]

    assert {"line c0", "line c1", "line c2"} <= set(drawn(Chart("t", "x", "y", series)))


def test_marks_that_are_near_each_other_stand_in_rows_of_their_own() -> None:
    marks = [(0.0, "server appears"), (1.0, "server killed"), (90.0, "the very end of it")]
    chart = Chart("t", "x", "y", [Series("a", [0, 100], [0, 1])], marks=marks)

    strip = next(each for each in all_of(parsed(html_of(Page("t", [chart]))), "div") if each.get("class") == "marks")
    places = [each.get("style", "") for each in strip]
    assert strip.get("style") == "--rows:2"
    assert places == ["left:0.00%;--row:0", "left:1.00%;--row:1", "right:10.00%;--row:0"]


def test_a_mark_without_room_for_its_label_has_its_line_and_is_described() -> None:
    marks = [(float(k), f"peer-{k} is offline") for k in range(9)]
    page = parsed(html_of(Page("t", [Chart("t", "x", "y", [Series("a", [0, 100], [0, 1])], marks=marks)])))

    strip = next(each for each in all_of(page, "div") if each.get("class") == "marks")
    assert [text_of(each) for each in strip] == [f"peer-{k} is offline" for k in range(5)]
    assert "peer-8 is offline at 8" in html_of(Page("t", [Chart("t", "x", "y", [], marks=marks)]))


def test_the_numbers_are_there_without_the_lines() -> None:
    xs = np.arange(101.0)
    chart = Chart(
        "t", "round", "y", [Series("a", xs, xs / 100, xs / 200, xs / 50), Series("b", [0, 100], [1, 0])], percent=True
    )

    table = numbers_of(chart)

    assert list(table.headings) == ["round", "a", "b"]
    assert len(table.rows) == NUM_ROWS
    assert list(table.rows[0]) == ["0", "0.0 %", "100.0 %"]
    assert list(table.rows[5]) == ["50", "50.0 % (25.0 % to 100.0 %)", None]
    assert list(table.rows[-1]) == ["100", "100.0 % (50.0 % to 200.0 %)", "0.0 %"]
    titles = [text_of(each) for each in all_of(parsed(html_of(Page("t", [chart]))), "title")]
    assert "round: 0 a: 0.0 % b: 100.0 %" in titles


@pytest.mark.parametrize("series", [[], [Series("a", [], [])], [Series("a", [3], [math.nan])]])
def test_a_chart_of_nothing_is_drawn_all_the_same(series: list[Series]) -> None:
    assert "line" not in "".join(drawn(Chart("t", "x", "y", series)))


@given(
    st.lists(st.tuples(st.floats(), st.floats(), st.floats(), st.floats()), max_size=5),
    st.lists(st.floats(), max_size=3),
    st.tuples(st.booleans(), st.booleans()),
)
@example([(0, -1.7e308, 0, 0), (1, 1.7e308, 1, 1)], [math.nan, math.inf], (False, False))
@example([(0, 0, 0, 0), (1, 5e-324, 1, 1)], [], (True, False))
@example([(0, 1e-300, 0, 0), (1, 1e300, 1, 1)], [], (True, True))
def test_whatever_numbers_come_a_chart_is_drawn(
    points: list[tuple[float, float, float, float]], marks: list[float], forms: tuple[bool, bool]
) -> None:
    xs, ys, low, high = ([each[k] for each in points] for k in range(4))
    log_y, from_zero = forms
    drawn(
        Chart(
            "t", "x", "y", [Series("a", xs, ys, low=low, high=high)],
            marks=[(x, "m") for x in marks], spans=[(x, x, "s") for x in marks], log_y=log_y, from_zero=from_zero,
        )
    )  # fmt: skip


def test_a_year_of_sixty_seeds_is_a_small_page() -> None:
    xs = np.arange(20_000.0)
    noise = np.random.default_rng(0).standard_normal((60, len(xs)))
    mean = noise.mean(axis=0)
    series = [Series("all", xs, mean, noise.min(axis=0), noise.max(axis=0))]
    series += [Series("one seed", xs, each, thin=True, like="all") for each in noise]

    assert len(html_of(Page("t", [Chart("t", "x", "y", series)]))) < 120_000
