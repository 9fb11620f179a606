"""`agent.location` and `mqtt.scope`: what an owner may write, and what is said of a mistake."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.scope import ScopeConfig, core_scope
from grapevine_agent.core.settings import Scope
from grapevine_proto.errors import ConfigError
from grapevine_proto.location import Location

AT_HOME = (
    '[agent]\nsite = "lake"\nlocation = [52.5163, 13.3777]\n[mqtt]\nbrokers = ["mqtt://hub", "mqtt://barn:1884"]\n'
)


def scope(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Scope:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    config = load_config(file, environ or {})
    return core_scope(config.mqtt.scope, config.agent.site)


def test_a_word_or_a_table(tmp_path: Path) -> None:
    assert scope(tmp_path, AT_HOME) == Scope()
    assert scope(tmp_path, AT_HOME + 'scope = "everywhere"') == Scope()
    assert scope(tmp_path, AT_HOME + 'scope = "site"') == Scope(site="lake")
    assert scope(tmp_path, AT_HOME + "[mqtt.scope]\nsite = true") == Scope(site="lake")
    assert scope(tmp_path, AT_HOME + "[mqtt.scope]") == Scope()
    assert scope(tmp_path, AT_HOME, {"GRAPEVINE_MQTT_SCOPE": "site"}) == Scope(site="lake")
    table = '[mqtt.scope]\nsite = true\nwithin_km = 5\nwithin_ms = 40.5\nbrokers = ["mqtt://hub:1883?version=5"]'
    assert scope(tmp_path, AT_HOME + table) == Scope(
        site="lake", within_km=5.0, within_ms=40.5, brokers=frozenset(("mqtt://hub:1883",))
    )


def test_brokers_that_are_found_may_be_named(tmp_path: Path) -> None:
    text = '[mqtt]\ndiscover = true\n[mqtt.scope]\nbrokers = ["mqtt://192.168.1.7"]'
    assert scope(tmp_path, text) == Scope(brokers=frozenset(("mqtt://192.168.1.7:1883",)))


@pytest.mark.parametrize(
    ("written", "location"),
    [
        ("[52.5163, 13.3777]", Location(latitude=5252, longitude=1338)),
        ("[-90, 180]", Location(latitude=-9000, longitude=18000)),
        ("[0, 0]", Location(latitude=0, longitude=0)),
    ],
)
def test_a_place_is_kept_to_a_hundredth_of_a_degree(tmp_path: Path, written: str, location: Location) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"[agent]\nlocation = {written}")
    assert load_config(file, {}).agent.location == location
    file.write_text("")
    assert load_config(file, {}).agent.location is None
    assert load_config(file, {"GRAPEVINE_LOCATION": written.strip("[]")}).agent.location == location


@pytest.mark.parametrize(
    "written", ["[200, 10]", "[10, 181]", "[nan, 10]", "[10, inf]", "[10]", "[1, 2, 3]", '"home"', "[true, 1]", "12.5"]
)
def test_what_is_no_place_is_refused_with_what_one_looks_like(tmp_path: Path, written: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"[agent]\nlocation = {written}")
    with pytest.raises(
        ConfigError, match=r"agent\.toml, line 2: agent\.location = .*: .*location = \[52\.52, 13\.40\]"
    ):
        load_config(file, {})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("within_km = -5", r"mqtt\.scope\.within_km = -5: must be a number from 1 to 20040"),
        ("within_km = nan", r"mqtt\.scope\.within_km = nan: must be a number from 1 to 20040"),
        ("within_km = 0.2", r"mqtt\.scope\.within_km = 0\.2: must be a number from 1 to 20040"),
        ("within_ms = 0", r"mqtt\.scope\.within_ms = 0: must be a number from 0\.1 to 600000"),
        ("within_ms = '40'", r"mqtt\.scope\.within_ms = '40': must be a number"),
        ("within_miles = 5", r"mqtt\.scope\.within_miles: unknown key; did you mean 'within_ms'"),
        ("site = 'lake'", r"mqtt\.scope\.site = 'lake': must be true or false"),
        ("brokers = ['mqtt://elsewhere']", r"'mqtt://elsewhere' is none of mqtt\.brokers.*write mqtt://"),
        ("brokers = []", r"mqtt\.scope\.brokers = \[\]: is empty, which would be any broker"),
        ("brokers = ['hub']", r"broker URL 'hub' must begin with mqtt://"),
    ],
)
def test_a_mistake_in_the_table_is_named_with_its_remedy(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scope(tmp_path, f"{AT_HOME}[mqtt.scope]\n{table}")


def test_a_scope_needs_what_it_is_measured_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'mqtt\.scope .*site = "lakeside"'):
        scope(tmp_path, "[mqtt.scope]\nsite = true")
    with pytest.raises(ConfigError, match=r"mqtt\.scope .*location = \[52\.52, 13\.40\]"):
        scope(tmp_path, "[mqtt.scope]\nwithin_km = 5")
    with pytest.raises(ConfigError, match=r"mqtt\.scope = 5: write scope = .*\[mqtt\.scope\]"):
        scope(tmp_path, "[mqtt]\nscope = 5")
    with pytest.raises(ConfigError, match=r"mqtt\.scope = 'sites': must be one of .*did you mean 'site'"):
        scope(tmp_path, "[mqtt]\nscope = 'sites'")


def test_a_password_in_the_scope_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="credentials") as caught:
        scope(tmp_path, f"{AT_HOME}[mqtt.scope]\nbrokers = ['mqtt://me:secret@hub']")
    assert "secret" not in str(caught.value)


def test_by_default_nobody_is_out() -> None:
    assert ScopeConfig() == ScopeConfig(site=False, within_km=math.inf, within_ms=math.inf, brokers=())
