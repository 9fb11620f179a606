"""The dashboard for Grafana asks for nothing that there is not."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.agent.service.shown import FIGURES, SERVED

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from grapevine_agent.service.metrics.families import render

DASHBOARD: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[5] / "docs" / "examples" / "grafana-dashboard.json").read_text()
)
METRIC: Final = re.compile(r"\b(?:grapevine|process)_[a-z_]+\b")
LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


def queries() -> Iterator[tuple[str, str]]:
    """Each query, with its legend."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):  # a row has none
            yield target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        yield variable["query"]["query"], ""


def samples() -> dict[str, set[str]]:
    """The names of all samples on the page, and their labels."""
    page, _ = render(replace(FIGURES, tasks=(*FIGURES.tasks, SERVED)), "0.1.0", "")
    return {
        sample.name: set(sample.labels) | {"instance", "job"}
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(("query", "legend"), list(queries()))
def test_every_query_names_what_there_is(query: str, legend: str) -> None:
    there = samples()
    named = METRIC.findall(query)
    assert named
    for name in named:
        assert name in there, f"{name} is no metric"
    for label in LABEL.findall(legend):
        assert label in there[named[0]], f"{named[0]} has no label {label}"
    for label in re.findall(r"(\w+)=~", query):
        assert label in there[named[0]], f"{named[0]} has no label {label}"


@pytest.mark.parametrize(("query", "_legend"), list(queries()))
def test_only_what_grows_has_a_rate_and_what_grows_has_nothing_else(query: str, _legend: str) -> None:
    rates = re.findall(r"rate\((\w+)", query)
    assert all(name.endswith("_total") for name in rates)
    assert all(name in rates for name in METRIC.findall(query) if name.endswith("_total"))


def test_panels_have_numbers_of_their_own_and_lie_beside_each_other() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_it_asks_whichever_prometheus_its_user_has() -> None:
    kinds = [variable["type"] for variable in DASHBOARD["templating"]["list"]]
    assert kinds[0] == "datasource"
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}


def test_all_that_a_server_tells_and_all_events_are_on_a_panel() -> None:
    shown = {name for query, _ in queries() for name in METRIC.findall(query)}
    told = {name for name in samples() if name.startswith("grapevine_server_")}
    assert len(told) == 7
    assert told | {"grapevine_events_total"} <= shown
