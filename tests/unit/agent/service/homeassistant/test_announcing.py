"""When which of a device's words go to a broker for Home Assistant."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.service.shown import BARE, DIGITS, FIGURES, GOVERNED, PEER, WEATHER

from grapevine_agent.service.figures import Figures
from grapevine_agent.service.homeassistant.announcing import AGAIN_S, MOST_GONE, SETTLE_S, Announcer, Say
from grapevine_agent.service.homeassistant.components import Shape, Topics, named_before

TOPICS = Topics(prefix="homeassistant", root="ha", peer=PEER)
EVERY_S, REFRESH_S = 60.0, 300.0


def announcer() -> Announcer:
    return Announcer(topics=TOPICS, shape=Shape(expire_after_s=900), version="1", every_s=EVERY_S, refresh_s=REFRESH_S)


def begun(figures: Figures = FIGURES) -> Announcer:
    """One that has said everything at 0 s."""
    made = announcer()
    made.connected(-SETTLE_S)
    assert made.due(figures, 0.0)
    return made


def topics(said: list[Say]) -> list[str]:
    return [each.topic.removeprefix(f"ha/{PEER}/") for each in said]


def components(said: list[Say]) -> dict[str, dict[str, str]]:
    (config,) = (each for each in said if each.topic == TOPICS.config)
    found: dict[str, dict[str, str]] = json.loads(config.payload)["components"]
    return found


def test_all_is_said_once_a_broker_has_us_and_has_had_time_to_give_what_it_retains() -> None:
    made = announcer()
    assert made.due(FIGURES, 0.0) == []
    made.connected(10.0)
    assert made.due(FIGURES, 10.0 + SETTLE_S - 0.1) == []
    said = made.due(FIGURES, 10.0 + SETTLE_S)
    digits, weather = (f"task/{task.key}" for task in (DIGITS, WEATHER))
    assert topics(said) == [TOPICS.config, "availability", "state", digits, weather]
    assert [each.qos for each in said] == [1, 1, 0, 0, 0]
    assert made.due(FIGURES, 10.0 + SETTLE_S) == []


def test_a_new_connection_hears_it_all_again() -> None:
    made = begun()
    made.lost()
    assert made.due(FIGURES, 1_000.0) == []
    made.connected(1_000.0)
    assert len(made.due(FIGURES, 1_000.0 + SETTLE_S)) == 5


def test_numbers_wait_for_their_time_and_facts_do_not() -> None:
    made = begun()
    digits = replace(DIGITS, round=21)
    figures = replace(FIGURES, tasks=(digits, WEATHER))
    assert made.due(figures, EVERY_S - 0.1) == []
    assert topics(made.due(figures, EVERY_S)) == [f"task/{DIGITS.key}"]
    paused = replace(figures, governed=replace(GOVERNED, is_paused=True, limit="too hot"))
    assert topics(made.due(paused, EVERY_S + 0.1)) == ["state"]
    assert made.due(paused, EVERY_S + 0.2) == []


def test_a_state_that_does_not_change_is_said_again_before_it_expires() -> None:
    made = begun()
    assert made.due(FIGURES, REFRESH_S - 0.1) == []
    assert topics(made.due(FIGURES, REFRESH_S)) == ["state", f"task/{DIGITS.key}", f"task/{WEATHER.key}"]
    assert made.due(FIGURES, REFRESH_S + EVERY_S) == []


def test_a_task_that_is_left_disappears() -> None:
    made = begun()
    said = made.due(replace(FIGURES, tasks=(DIGITS,)), 1.0)
    gone = {name: each for name, each in components(said).items() if WEATHER.key in name}
    assert gone == {
        f"task_{WEATHER.key}_{key}": {"platform": "sensor"} for key in ("round", "metric", "baseline", "peers")
    } | {f"task_{WEATHER.key}_leave": {"platform": "button"}}
    assert Say(topic=TOPICS.task(WEATHER.key), payload=b"") in said
    assert components(said)[f"task_{DIGITS.key}_round"]["unique_id"] == f"{PEER}_task_{DIGITS.key}_round"


def test_a_task_that_is_joined_again_is_there_again() -> None:
    made = begun()
    made.due(replace(FIGURES, tasks=(DIGITS,)), 1.0)
    said = made.due(FIGURES, 2.0)
    assert all(len(each) > 1 for each in components(said).values())
    assert TOPICS.task(WEATHER.key) in [each.topic for each in said if each.payload]


def test_what_was_left_while_we_were_not_there_is_named_as_gone() -> None:
    before = begun()
    before.connected(0.0)
    (retained,) = (each.payload for each in before.due(FIGURES, SETTLE_S) if each.topic == TOPICS.config)
    made = announcer()
    made.connected(10.0)
    made.retained(retained, 10.1)
    said = made.due(replace(FIGURES, tasks=(DIGITS,)), 10.1)  # it need not wait any longer
    assert components(said)[f"task_{WEATHER.key}_leave"] == {"platform": "button"}
    assert Say(topic=TOPICS.task(WEATHER.key), payload=b"") in said


VALUES = st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.binary(max_size=200) | VALUES.map(json.dumps).map(str.encode))
def test_whatever_is_retained_in_our_place_names_nothing(payload: bytes) -> None:
    assert named_before(payload) == {}


def test_names_that_a_stranger_retains_are_ours_or_nothing_and_bounded() -> None:
    names = dict.fromkeys((*(f"task_{k:016x}_round" for k in range(1000)), "task_x_round", "limit", "../x"), "")
    made = announcer()
    made.connected(0.0)
    made.retained(json.dumps({"components": names}).encode(), 0.1)
    gone = [name for name, each in components(made.due(BARE, 0.1)).items() if len(each) == 1]
    assert len(gone) == MOST_GONE
    assert all(name.startswith("task_0") and name.endswith("_round") for name in gone)


def test_home_assistants_start_is_answered_once_in_a_while() -> None:
    made = begun()
    made.started(10.0, delay_s=2.0)
    assert made.due(FIGURES, 11.9) == []
    assert len(made.due(FIGURES, 12.0)) == 5
    made.started(13.0, delay_s=0.0)
    assert made.due(FIGURES, 13.0) == []
    made.started(10.0 + AGAIN_S, delay_s=0.0)
    assert len(made.due(FIGURES, 10.0 + AGAIN_S)) == 5


def test_home_assistants_start_makes_no_connection() -> None:
    made = announcer()
    made.started(0.0, delay_s=0.0)
    assert made.due(FIGURES, 100.0) == []
    assert made.goodbye() == []


def test_a_goodbye_makes_it_unavailable() -> None:
    assert begun().goodbye() == [Say(topic=TOPICS.availability, payload=b"offline", qos=1)]


def test_what_was_measured_once_stays_an_entity() -> None:
    made = begun()
    later = replace(FIGURES, governed=replace(GOVERNED, temperature_c=None))
    assert TOPICS.config not in [each.topic for each in made.due(later, REFRESH_S)]


def test_a_device_that_measures_nothing_has_no_temperature_and_no_energy() -> None:
    made = announcer()
    made.connected(0.0)
    shown = {"activity", "learns", "tasks", "peers", "limit", "until", "traffic", "pause"}
    assert set(components(made.due(BARE, SETTLE_S))) == shown
