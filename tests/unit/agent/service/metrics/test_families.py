"""The page that Prometheus reads: held against prometheus-client's own strict parser, and Prometheus's naming rules."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.unit.agent.service.shown import BARE, DIGITS, FIGURES, GOVERNED, PEER, SERVED

from grapevine_agent.service.figures import Figures

pytest.importorskip("prometheus_client")

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from grapevine_agent.service.metrics.families import families, render

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
BASE_UNITS = ("seconds", "bytes", "joules", "celsius", "ratio", "steps", "rounds")
OTHER_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|kb|mb|kilobytes|megabytes|kwh|wh|percent|fahrenheit)(_|$)")


def parsed(figures: Figures, accept: str = OPEN_METRICS) -> dict[str, Metric]:
    page, _ = render(figures, "0.1.0", accept)
    parse = open_metrics if accept == OPEN_METRICS else plain_text
    return {family.name: family for family in parse(page.decode())}


def values(figures: Figures, name: str) -> dict[str, float]:
    """The samples of a family, by the labels' values in the order of the labels."""
    found = parsed(figures)[name].samples
    return {"/".join(value for _, value in sorted(each.labels.items())): each.value for each in found}


SERVER = replace(FIGURES, role="server", tasks=(SERVED,))


@pytest.mark.parametrize("figures", [FIGURES, BARE, SERVER], ids=["all", "bare", "server"])
@pytest.mark.parametrize("accept", [OPEN_METRICS, ""])
def test_the_page_is_what_prometheus_parses(figures: Figures, accept: str) -> None:
    assert {family.name for family in families(figures, "1")} <= set(parsed(figures, accept)) | {
        f"{name}_total" for name in parsed(figures, accept)
    } | {name.removesuffix("_info") for name in parsed(figures, accept)}


def test_names_are_as_prometheus_wants_them() -> None:
    """https://prometheus.io/docs/practices/naming/, and what `promtool check metrics` looks at."""
    for family in (*families(FIGURES, "1"), *families(SERVER, "1")):
        assert re.fullmatch(r"grapevine_[a-z][a-z0-9_]*", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not OTHER_UNITS.search(family.name), f"{family.name}: write a base unit"
        assert family.unit in ("", *BASE_UNITS), family.name
        assert not family.unit or family.name.endswith(f"_{family.unit}"), family.name
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_info")), family.name
        assert family.type in ("gauge", "counter", "info"), family.name
        for sample in family.samples:
            assert set(sample.labels) <= {*FIGURES_LABELS, *_info_labels(family)}, family.name
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


FIGURES_LABELS = {"task", "name", "metric", "broker", "reason", "limit", "kind"}


def _info_labels(family: Metric) -> set[str]:
    return {"peer", "role", "profile", "version", "strategy", "publisher"} if family.type == "info" else set()


def test_a_name_of_another_unit_is_noticed() -> None:
    assert OTHER_UNITS.search("grapevine_delay_ms")
    assert not OTHER_UNITS.search("grapevine_task_peers")


def test_the_figures_are_there() -> None:
    of_digits = f"Handwritten digits/{DIGITS.key}"
    assert values(FIGURES, "grapevine_task_metric")[f"accuracy/{of_digits}"] == 0.965
    assert values(FIGURES, "grapevine_task_baseline")[f"accuracy/{of_digits}"] == 0.25
    assert values(FIGURES, "grapevine_task_energy_joules")[of_digits] == 120.0
    assert values(FIGURES, "grapevine_messages_rejected") == {"replayed": 2.0}
    assert values(FIGURES, "grapevine_events") == {"merged": 41.0, "rejected": 2.0}
    assert values(FIGURES, "grapevine_broker_delay_seconds") == {"mqtt://hub:1883": 0.004}
    assert values(FIGURES, "grapevine_temperature_celsius") == {"": 51.26}
    assert values(FIGURES, "grapevine_sent_today_bytes") == {"": 1.5e6}
    (agent,) = parsed(FIGURES)["grapevine_agent"].samples
    assert (agent.labels["peer"], agent.labels["profile"]) == (PEER, "raspberry-pi-4b")


def test_a_server_tells_of_each_task_what_it_made_of_whom_and_what_it_refused() -> None:
    of_served = f"Served/{SERVED.key}"
    assert values(SERVER, "grapevine_server_model_version") == {of_served: 12}
    assert values(SERVER, "grapevine_server_members") == {of_served: 5}
    assert values(SERVER, "grapevine_server_clusters") == {of_served: 2}
    assert values(SERVER, "grapevine_server_updates_folded") == {of_served: 60}
    assert values(SERVER, "grapevine_server_updates_refused") == {
        f"Served/non-finite/{SERVED.key}": 2,
        f"Served/wrong-shape/{SERVED.key}": 1,
    }
    assert values(SERVER, "grapevine_server_held_bytes") == {of_served: 2_100_000}
    assert values(SERVER, "grapevine_server_since_published_seconds") == {of_served: 3.5}


def test_what_only_a_server_has_is_absent_of_members_and_of_a_server_that_published_nothing() -> None:
    assert all(not samples.samples for name, samples in parsed(FIGURES).items() if "_server_" in name)
    assert SERVED.served is not None
    silent = replace(SERVED, served=replace(SERVED.served, since_published_s=None))
    assert values(replace(SERVER, tasks=(silent,)), "grapevine_server_since_published_seconds") == {}


def test_the_process_is_measured_under_the_names_that_every_dashboard_knows() -> None:
    assert values(BARE, "process_resident_memory_bytes")[""] > 1e6


def test_what_was_not_measured_is_absent() -> None:
    assert not any(name.startswith("grapevine_temperature") for name in parsed(BARE))
    unknown = replace(FIGURES, governed=replace(GOVERNED, temperature_c=None), tasks=(replace(DIGITS, metric=None),))
    assert "grapevine_temperature_celsius" not in parsed(unknown)
    assert parsed(unknown)["grapevine_task_metric"].samples == []


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=1.0.0; escaping=nonsense",
        "text/plain; version=1.0.0.0.0.0; q=;;",
        "text/plain;version=" + "9" * 5_000,
        "\x00,,;;=",
    ],
)
def test_no_accept_header_is_an_error(accept: str) -> None:
    page, content_type = render(BARE, "0.1.0", accept)
    assert b"grapevine_uptime_seconds 12.5" in page
    assert content_type.isprintable()


def test_names_that_peers_chose_stay_within_their_quotes() -> None:
    wild = replace(DIGITS, name='a"} 1\n\\x{', strategy="\\")
    (name,) = (each.labels["name"] for each in parsed(replace(FIGURES, tasks=(wild,)))["grapevine_task"].samples)
    assert name == wild.name
