"""The figures: their numbers by hand, and that they say what they show."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.unit.lab.simulator.test_measurements import READING, SAMPLE, swarm

from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.panels import BOUND_LABEL, draw_plots, plots_of
from grapevine_lab.simulator.plots import (
    MAX_POINTS,
    NUM_MOMENTS,
    PALETTE,
    Curve,
    Panel,
    curve_of,
    draw_grid,
    draw_overlay,
)

PNG_START = b"\x89PNG\r\n\x1a\n"
FIGURES = ["metric", "metric-over-time", "loss", "staleness", "traffic", "energy"]


def readings(*values: tuple[int, int, float], **others: float) -> Measurements:
    """Readings of merged models: (round, node, metric)."""
    return Measurements(
        replace(READING, round=turn, node=node, metric=metric, time_s=float(turn), **others)  # type: ignore[arg-type]
        for turn, node, metric in values
    )


def flat(value: float, num: int = 5) -> Curve:
    line = np.full(num, value)
    return Curve(x=np.arange(num, dtype=float), median=line, low=line - 0.1, high=line + 0.1)


def words(svg: Path) -> list[str]:
    return [text for element in ElementTree.parse(svg).iter() if (text := (element.text or "").strip())]


def drawn(measured: Measurements, folder: Path, *, title: str, metric_name: str, higher_is_better: bool) -> list[Path]:
    return draw_plots(
        plots_of(measured, metric_name=metric_name, higher_is_better=higher_is_better), folder, title=title
    )


def size(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head.startswith(PNG_START)
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_a_curve_is_the_median_and_the_range_over_nodes_of_every_round() -> None:
    curve = curve_of(readings((1, 0, 0.1), (1, 1, 0.3), (1, 2, 0.8), (2, 0, 0.5), (2, 1, 0.7)), "merged")
    assert curve.x.tolist() == [1, 2]
    assert curve.median.tolist() == pytest.approx([0.3, 0.6])
    assert curve.low.tolist() == [0.1, 0.5]
    assert curve.high.tolist() == [0.8, 0.7]
    assert curve.label == "merged"
    assert not len(curve_of(readings((1, 0, 0.1)), "released").x)


def test_a_curve_can_be_the_mean_and_its_deviation_or_the_quartiles() -> None:
    measured = readings((1, 0, 1.0), (1, 1, 2.0), (1, 2, 3.0), (1, 3, 4.0), (1, 4, 10.0))
    mean = curve_of(measured, "merged", spread="deviation", label="gossip")
    assert (mean.median[0], mean.high[0] - mean.median[0], mean.label) == (4.0, pytest.approx(math.sqrt(10)), "gossip")
    quartiles = curve_of(measured, "merged", spread="quartiles")
    assert (quartiles.low[0], quartiles.median[0], quartiles.high[0]) == (2.0, 3.0, 4.0)


def test_a_model_that_has_diverged_does_not_spoil_the_others_curve() -> None:
    measured = readings((1, 0, 0.4), (1, 1, math.nan), (1, 2, 0.6), (2, 0, math.inf))
    curve = curve_of(measured, "merged")
    assert curve.x.tolist() == [1]
    assert curve.median.tolist() == pytest.approx([0.5])


def test_over_time_every_node_counts_with_its_newest_value() -> None:
    # Node 0 at 1 s and 3 s, node 1 at 2 s: a fast node has no more voices than a slow one.
    curve = curve_of(readings((1, 0, 0.2), (2, 1, 0.4), (3, 0, 0.8)), "merged", over="time_s")
    assert len(curve.x) < NUM_MOMENTS  # before 1 s nobody has a value
    assert curve.x[0] == pytest.approx(1.0, abs=0.02)
    at = {t: int(np.searchsorted(curve.x, t)) for t in (1.5, 2.5)}
    assert curve.median[at[1.5]] == pytest.approx(0.2)
    assert curve.median[at[2.5]] == pytest.approx(0.3)
    assert (curve.median[-1], curve.low[-1], curve.high[-1]) == pytest.approx((0.6, 0.4, 0.8))


def test_a_node_of_one_seed_is_not_the_same_node_of_another() -> None:
    both = Measurements.merged([readings((1, 0, 0.2), seed=1), readings((2, 0, 0.6), seed=2)])
    assert curve_of(both, "merged", over="time_s").median[-1] == pytest.approx(0.4)


def test_a_model_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="'best' is none of working, merged, released"):
        curve_of(Measurements(), "best")


def test_a_run_is_drawn_as_png_and_svg_that_say_what_they_show(tmp_path: Path) -> None:
    written = drawn(swarm(), tmp_path / "run", title="digits, 8 nodes", metric_name="accuracy", higher_is_better=True)
    assert [path.name for path in written] == [f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")]
    for path in written:
        if path.suffix == ".png":
            width, height = size(path)
            assert 900 < width < 1400
            assert 450 < height < 1400
    shown = {name: words(tmp_path / "run" / f"{name}.svg") for name in FIGURES}
    assert all("digits, 8 nodes" in texts for texts in shown.values())
    for name in ("metric", "loss"):
        assert {"working", "merged", "released", "round (each node's own)"} <= set(shown[name])
    assert {"accuracy (higher is better)", "80 %"} <= set(shown["metric"])
    assert "virtual time (s)" in shown["metric-over-time"]
    assert {"measured", BOUND_LABEL, "staleness (versions)"} <= set(shown["staleness"])
    assert {"sent", "received", "messages per node and round", "kB per node and round"} <= set(shown["traffic"])
    assert "energy (J per node)" in shown["energy"]


def test_the_same_run_is_the_same_svg(tmp_path: Path) -> None:
    for name in ("one", "two"):
        drawn(swarm(), tmp_path / name, title="t", metric_name="mse", higher_is_better=False)
    for name in FIGURES:
        assert (tmp_path / "one" / f"{name}.svg").read_bytes() == (tmp_path / "two" / f"{name}.svg").read_bytes(), name


def test_a_thin_line_is_drawn_for_every_seed_when_there_are_several(tmp_path: Path) -> None:
    def num_lines(seeds: tuple[int, ...]) -> int:
        drawn(swarm(seeds=seeds), tmp_path, title="t", metric_name="accuracy", higher_is_better=True)
        return (tmp_path / "metric.svg").read_text().count("stroke-width: 0.6")

    assert num_lines((1,)) == 0
    assert num_lines((1, 2)) == 3 * 2


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    one_round = Measurements([replace(SAMPLE, joules=0.0), READING])
    written = drawn(one_round, tmp_path, title="t", metric_name="mse", higher_is_better=False)
    assert [path.stem for path in written if path.suffix == ".svg"] == [
        "metric",
        "metric-over-time",
        "loss",
        "staleness",
    ]
    assert "mse (lower is better)" in words(tmp_path / "metric.svg")
    assert BOUND_LABEL not in words(tmp_path / "staleness.svg")  # it is infinite
    assert drawn(Measurements(), tmp_path, title="t", metric_name="mse", higher_is_better=False) == []


def test_traffic_is_a_rate_whatever_rounds_were_sampled(tmp_path: Path) -> None:
    # Ten messages a round, seen at rounds 1, 2 and 6 only, and twice at 6.
    samples = [
        replace(SAMPLE, round=n, time_s=float(i), messages_sent=10 * n, bytes_sent=n) for i, n in enumerate((1, 2, 6))
    ]
    again = replace(samples[-1], time_s=9.0)
    from grapevine_lab.simulator.panels import _traffic

    messages, num_bytes = _traffic(Measurements([*samples, again]).samples)
    assert messages is not None
    assert num_bytes is not None
    assert messages.curves["sent"].x.tolist() == [2, 6]
    assert messages.curves["sent"].median.tolist() == [10, 10]
    assert num_bytes.y_label == "B per node and round"


def test_runs_are_laid_over_each_other_under_their_names(tmp_path: Path) -> None:
    curves = {"delta-sum, n = 10": flat(0.9), "average, n = 10": flat(0.8), "real devices": flat(0.85)}
    written = draw_overlay(
        curves, tmp_path / "figures" / "run-0.9", title="Figure 2", y_label="test accuracy", percent=True
    )
    assert [path.name for path in written] == ["run-0.9.png", "run-0.9.svg"]
    assert set(curves) | {"Figure 2", "test accuracy", "round"} <= set(words(written[1]))
    assert size(written[0])[0] > 900
    assert draw_overlay(curves, written[0], title="t", y_label="y") == written  # the ending is not doubled


def test_a_grid_has_a_legend_entry_a_name_and_leaves_gaps(tmp_path: Path) -> None:
    strong = Panel(curves={"chisme": flat(0.2), "DFL": flat(0.4)}, title="C = 1, R = 1", y_label="mean loss")
    weak = Panel(curves={"chisme": flat(0.3), "GL": flat(0.5)}, title="C = 0.5, R = 0.5", y_label="mean loss")
    _, svg = draw_grid([[strong, weak], [weak]], tmp_path / "grid", title="Chisme", subtitle="mean ± σ", share_y="row")
    texts = words(svg)
    assert [texts.count(name) for name in ("chisme", "DFL", "GL", "C = 0.5, R = 0.5", "mean ± σ")] == [1, 1, 1, 2, 1]
    assert texts.count("mean loss") == 2  # once a row
    assert all(colour.lower() in svg.read_text().lower() for colour in PALETTE[:3])
    with pytest.raises(ValueError, match="no panel"):
        draw_grid([[None]], tmp_path / "empty", title="t")


def test_a_loss_over_decades_is_drawn_on_a_log_axis(tmp_path: Path) -> None:
    def ticks(*losses: float) -> list[str]:
        falling = Measurements(replace(READING, round=n, loss=loss) for n, loss in enumerate(losses))
        drawn(falling, tmp_path, title="t", metric_name="mse", higher_is_better=False)
        return words(tmp_path / "loss.svg")

    assert "−" in ticks(100.0, 10.0, 1.0, 0.1, 0.01)  # of 10 to a negative power
    assert "−" not in ticks(2.0, 1.5, 1.0, 0.5, 0.4)


def test_a_long_run_is_a_small_file(tmp_path: Path) -> None:
    num = 40 * MAX_POINTS
    line = np.sin(np.arange(num) / 500)
    curve = Curve(x=np.arange(num, dtype=float), median=line, low=line - 1, high=line + 1)
    _, svg = draw_overlay({"long": curve}, tmp_path / "long", title="t", y_label="y")
    assert svg.stat().st_size < 300_000
