"""The benchmark of throughput runs, and compares what it says it compares."""

from __future__ import annotations

from dataclasses import replace

from grapevine_lab.bench.training_throughput import CASES, EVALUATION, NAME, STACKED, measure, missing
from grapevine_proto.manifest import Optimiser


def test_a_case_gives_a_ratio_and_the_rates_behind_it() -> None:
    case = replace(CASES[-1], what="few", num_nodes=3, num_samples=12, num_steps=2, num_evaluated=1)
    found = measure(case, num_repetitions=1)
    assert [figure.name for figure in found] == [NAME] * 4 + [EVALUATION] * 4
    assert [figure.what for figure in found[:2]] == ["few / plain loop", "few: trainer"]
    ratio, own, *plain = (figure.median for figure in found[:4])
    assert ratio == own / max(plain)
    assert found[0].target == STACKED
    assert all(figure.unit == "steps/s" for figure in found[1:4])


def test_every_combination_is_a_case_of_its_own() -> None:
    assert len({case.what for case in CASES}) == len(CASES)
    assert Optimiser(name="adam", learning_rate=1e-3) in [case.optimiser for case in CASES]
    assert isinstance(missing(), str)
