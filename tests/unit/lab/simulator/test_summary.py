"""The summary: numbers that can be checked by hand, as JSON and for people."""

import io
import json
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console
from tests.unit.lab.simulator.test_measurements import READING, SAMPLE, swarm

from grapevine_lab.simulator.measurements import Measurements, Reading, Sample
from grapevine_lab.simulator.summary import Facts, Summary, as_json, print_summary, summarise

FACTS = Facts(
    scenario="digits [quick]", seeds=(1, 2), num_nodes=8, num_rounds=30, metric_name="accuracy", targets=(0.8, 0.99),
    wall_s=12.0,
)  # fmt: skip


def reading(seed: int, turn: int, node: int, metric: float, loss: float = 1.0) -> Reading:
    return replace(READING, seed=seed, round=turn, node=node, metric=metric, loss=loss, time_s=10.0 * turn + node)


def sample(node: int, time_s: float, **fields: float | bool) -> Sample:
    return replace(SAMPLE, seed=1, node=node, time_s=time_s, **fields)  # type: ignore[arg-type]


def printed(summary: Summary, *, terminal: bool = False, width: int = 160) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, force_terminal=terminal, width=width, highlight=False))
    return stream.getvalue()


def test_the_end_is_every_nodes_last_model_and_the_median_over_seeds_of_medians() -> None:
    measured = Measurements(
        [
            *(reading(1, 1, node, 0.1) for node in range(3)),
            *(reading(1, 2, node, metric) for node, metric in enumerate((0.5, 0.7, 0.9))),
            *(reading(2, 2, node, metric) for node, metric in enumerate((0.2, 0.3))),
            reading(2, 1, 2, 0.4),  # this node stopped after its first round
        ]
    )
    (merged,) = summarise(measured, FACTS).models
    assert (merged.model, merged.num_models, merged.num_not_finite) == ("merged", 6, 0)
    assert merged.metric.median == pytest.approx((0.7 + 0.3) / 2)
    assert (merged.metric.seed_low, merged.metric.seed_high) == (0.3, 0.7)
    assert (merged.metric.low, merged.metric.high) == (0.2, 0.9)


def test_models_that_have_diverged_are_counted_and_left_out() -> None:
    measured = Measurements(
        [reading(1, 1, 0, 0.1, math.nan), reading(1, 1, 1, 0.5, 2.0), reading(1, 1, 2, math.inf, 3.0)]
    )
    (merged,) = summarise(measured, replace(FACTS, seeds=(1,))).models
    assert merged.num_not_finite == 2
    assert merged.loss.median == 2.5
    assert merged.metric.high == 0.5


def test_a_target_is_reached_when_the_median_over_nodes_is_there() -> None:
    measured = Measurements(
        reading(1, turn, node, metric)
        for turn, metrics in ((1, (0.1, 0.2, 0.95)), (2, (0.7, 0.8, 0.9)), (3, (0.1, 0.1, 0.1)))
        for node, metric in enumerate(metrics)
    )
    (merged,) = summarise(measured, replace(FACTS, seeds=(1,))).models
    first, never = merged.targets
    assert (first.target, first.rounds, first.time_s, first.num_seeds) == (0.8, 2, 21.0, 1)
    assert (never.target, never.rounds, never.time_s, never.num_seeds) == (0.99, math.inf, math.inf, 0)


def test_a_few_fast_nodes_do_not_reach_a_target_for_all() -> None:
    slow = [reading(1, 1, node, 0.1) for node in range(5)]
    fast = [reading(1, 2, 0, 0.95), reading(1, 2, 1, 0.95)]
    (merged,) = summarise(Measurements([*slow, *fast]), replace(FACTS, seeds=(1,))).models
    assert merged.targets[0].rounds == math.inf
    (merged,) = summarise(Measurements([*slow, *fast, reading(1, 2, 2, 0.95)]), replace(FACTS, seeds=(1,))).models
    assert merged.targets[0].rounds == 2


def test_a_target_that_half_of_the_seeds_never_reach_is_not_reached() -> None:
    measured = Measurements([reading(1, 1, 0, 0.9), reading(2, 1, 0, 0.1), reading(3, 5, 0, 0.9)])
    (two,) = summarise(measured, replace(FACTS, seeds=(1, 2))).models
    assert (two.targets[0].rounds, two.targets[0].num_seeds) == (math.inf, 1)
    (three,) = summarise(measured, replace(FACTS, seeds=(1, 2, 3))).models
    assert (three.targets[0].rounds, three.targets[0].num_seeds) == (5, 2)


def test_a_target_of_an_error_is_reached_from_above() -> None:
    measured = Measurements(reading(1, turn, 0, 1 / turn) for turn in range(1, 6))
    facts = replace(FACTS, seeds=(1,), metric_name="mse", higher_is_better=False, targets=(0.3,))
    assert summarise(measured, facts).models[0].targets[0].rounds == 4


def test_staleness_is_that_of_nodes_online_once_the_run_has_settled() -> None:
    measured = Measurements(
        [
            sample(0, 1.0, staleness=50.0, staleness_bound=1.0),  # the beginning
            sample(0, 10.0, staleness=1.0, staleness_bound=2.0),
            sample(1, 10.0, staleness=3.0, staleness_bound=2.0),
            sample(2, 10.0, staleness=90.0, staleness_bound=2.0, online=False),
            sample(3, 10.0, staleness=math.nan, staleness_bound=2.0),  # knows nobody
            sample(4, 10.0, staleness=5.0, staleness_bound=math.inf),  # sends nothing: no bound to hold it to
        ]
    )
    summary = summarise(measured, replace(FACTS, seeds=(1,)))
    assert (summary.staleness, summary.staleness_bound, summary.staleness_ratio) == (3.0, 2.0, 1.0)


def test_traffic_and_energy_are_what_the_counters_say_at_the_end() -> None:
    measured = Measurements(
        sample(node, time_s, messages_sent=int(time_s) * (node + 1), bytes_sent=int(100 * time_s), joules=3.0 * time_s)
        for time_s in (5.0, 20.0)
        for node in range(2)
    )
    summary = summarise(measured, replace(FACTS, seeds=(1,)))
    assert (summary.virtual_s, summary.messages, summary.messages_per_node_s) == (20.0, 60.0, 1.5)
    assert (summary.bytes_sent_per_node, summary.bytes_sent_per_node_s, summary.joules_per_node) == (2000, 100, 60)
    twice = Measurements([*measured.samples, *(replace(row, seed=2) for row in measured.samples)])
    assert summarise(twice, FACTS).messages == 60.0  # of one seed
    assert summarise(twice, FACTS).wall_s_per_round == 12.0 / (30 * 2)


def test_json_is_plain_and_has_no_nan() -> None:
    for summary in (summarise(swarm(), FACTS), summarise(Measurements(), replace(FACTS, wall_s=math.nan))):
        again = json.loads(json.dumps(as_json(summary), allow_nan=False))
        assert again == as_json(summary)
        assert again["scenario"] == "digits [quick]"
        assert again["seeds"] == [1, 2]
    assert (again["models"], again["wall_s"], again["staleness_ratio"]) == ([], None, None)
    models = as_json(summarise(swarm(), FACTS))["models"]
    assert [model["model"] for model in models] == ["working", "merged", "released"]
    assert models[2]["targets"][1] == {"target": 0.99, "rounds": None, "time_s": None, "num_seeds": 0}


def test_people_read_the_same_numbers_under_headings_with_units() -> None:
    text = printed(summarise(swarm(), FACTS))
    assert "digits [quick]: 8 nodes, 30 rounds, seeds 1, 2\n" in text
    assert "\x1b" not in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["last model", "figure", "median", "least", "greatest", "medians of seeds", "not finite"]
    models = ("working", "merged", "released")
    assert [row[:2] for row in rows[2:8]] == [[model, of] for model in models for of in ("accuracy", "loss")]
    assert rows[6][2:] == ["0.9565", "0.9508", "0.9681", "0.9563 to 0.9568", "0 of 16"]
    assert ["model", "median accuracy", "after rounds", "after virtual time (s)", "seeds that reached it"] in rows
    assert ["released", "≥ 0.99", "–", "–", "0 of 2"] in rows
    assert ["wall time per round (s)", "0.2"] in rows
    assert ["staleness, Lemma 1's bound (versions)", "1.05"] in rows
    assert ["energy per node (J)", "366"] in rows


def test_a_terminal_gets_the_same_table_without_bars() -> None:
    text = printed(summarise(swarm(), FACTS), terminal=True)
    assert "wall time per round (s)" in text
    assert "|" not in text


def test_eighty_columns_are_enough_for_every_number() -> None:
    text = printed(summarise(swarm(), FACTS), terminal=True, width=80)
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", text).splitlines())) <= 80
    assert "…" not in text
    assert "0.2" in text


def test_a_run_without_measurements_can_be_printed() -> None:
    text = printed(summarise(Measurements(), replace(FACTS, seeds=(5,))))
    assert "seed 5" in text
    assert "last model" not in text
