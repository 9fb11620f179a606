"""Which constants a task may set, and what it is told otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.swarm.digits import built_digits

from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.constants import check_constants
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.manifest_codec import decode_manifest, encode_manifest
from grapevine_tasks.field_errors import FieldTaskError


@pytest.mark.parametrize("name", STRATEGIES)
def test_defaults_and_both_ends_of_every_range_are_valid(name: str) -> None:
    strategy = STRATEGIES[name]
    check_constants(name, {})
    check_constants(name, strategy.with_defaults({}))
    assert all(constant.low <= constant.default <= constant.high for constant in strategy.constants.values())
    check_constants(name, {key: constant.low for key, constant in strategy.constants.items()})
    check_constants(name, {key: constant.high for key, constant in strategy.constants.items()})


@pytest.mark.parametrize("table", [STRATEGIES, SERVER_STRATEGIES])
def test_every_constant_can_be_published(table: Mapping[str, Any]) -> None:
    for name, entry in table.items():
        constants = entry.with_defaults({})
        plan = MergePlan(strategy=name, constants=constants, server_strategy=name, server_constants=constants)
        manifest = replace(built_digits().draft, merging=plan)
        assert decode_manifest(encode_manifest(manifest)).merging == plan


def test_a_constant_that_is_not_given_has_its_default() -> None:
    assert STRATEGIES["delta-sum"].with_defaults({"A": 0.05}) == {
        "A": 0.05,
        "B": 1000.0,
        "C": 0.35,
        "bounded": 1.0,
        "weigh_by_samples": 0.0,
    }


@pytest.mark.parametrize(
    ("strategy", "given", "message"),
    [
        ("trimed-mean", {}, "did you mean 'trimmed-mean'?"),
        ("trimmed-mean", {"trin": 0.1}, "did you mean 'trim'?"),
        ("delta-sum", {"bound": 1.0}, "did you mean 'bounded'?"),
        ("chisme", {"p": 1.0}, "it has none"),
        ("trimmed-mean", {"trim": 0.5}, r"trim = 0.5 is out of range .* from 0 to 0.49"),
        ("age-weighted", {"p": -1.0}, "from 0 to 4"),
        ("delta-sum", {"A": math.nan}, "A = nan is out of range"),
        ("krum", {"f": math.inf}, "from 0 to 32"),
    ],
)
def test_a_wrong_name_or_value_says_what_to_write(strategy: str, given: dict[str, float], message: str) -> None:
    with pytest.raises(TaskError, match=message.replace("?", r"\?")):
        check_constants(strategy, given)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (MergePlan(strategy="mediann"), "merging.strategy"),
        (MergePlan(server_strategy="fedavgg"), "merging.server_strategy"),
        (MergePlan(strategy="median", constants={"trim": 1.0}), "merging.constants.trim"),
    ],
)
def test_what_is_wrong_names_its_field_so_that_a_file_can_name_its_line(plan: MergePlan, field: str) -> None:
    with pytest.raises(FieldTaskError) as caught:
        check_merge_plan(plan)
    assert caught.value.field == field
