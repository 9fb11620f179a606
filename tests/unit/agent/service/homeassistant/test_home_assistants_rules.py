"""What we say of a device is held against Home Assistant's own code: see `tests/home_assistant`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import jinja2
import pytest
from tests.home_assistant.package import held_against_home_assistant
from tests.unit.agent.service.shown import BARE, DIGITS, FIGURES, GOVERNED, PEER, SERVED, WEATHER

from grapevine_agent.service.figures import Figures, TaskFigures
from grapevine_agent.service.homeassistant import components as parts
from grapevine_agent.service.homeassistant.components import Platform, Shape, Topics

pytestmark = pytest.mark.timeout(400)  # the first time it downloads 68 MB

TOPICS = Topics(prefix="homeassistant", root="grapevine-homeassistant", peer=PEER)
NAMES = ("A" * 64, "ünïcode 雪 ❄", "{{ 1 / 0 }}", '"}], quoted', "<script>")


def described(figures: Figures, *, gone: dict[str, Platform] | None = None, commands: bool = True) -> bytes:
    shape = Shape(commands=commands, expire_after_s=900).with_governed(figures.governed)
    return parts.config(figures, TOPICS, parts.components(figures, TOPICS, shape), gone or {}, "0.1.0")


def named(name: str) -> TaskFigures:
    return replace(DIGITS, id=name.encode().hex().ljust(64, "0")[:64], name=name)


def test_home_assistant_takes_every_component_of_every_device() -> None:
    gone: dict[str, Platform] = {f"task_{'0' * 16}_round": "sensor"}
    messages = [
        described(FIGURES),
        described(BARE),
        described(BARE, gone=gone),
        described(FIGURES, commands=False),
        described(replace(FIGURES, tasks=(SERVED,), role="server")),
        described(replace(FIGURES, tasks=tuple(map(named, NAMES)), name=NAMES[2])),
    ]
    answers = held_against_home_assistant(messages)
    for message, answer in zip(messages, answers, strict=True):
        asked = json.loads(message)["components"]
        kept = {name: each for name, each in asked.items() if len(each) > 1}
        assert "refused" not in answer, answer
        assert set(answer["taken"]) == set(kept)
        for name, component in kept.items():
            lost = {key for key in component if key not in answer["taken"][name] and key != "platform"}
            assert not lost, f"Home Assistant knows no {lost} of {name}"


BROKEN: list[tuple[Callable[[Any], object], str]] = [
    (lambda said: said["components"]["temperature"].update(unit_of_measurement="m"), "unit of measurement"),
    (lambda said: said["components"]["traffic"].update(unit_of_measurement="bytes"), "unit of measurement"),
    (lambda said: said["components"]["peers"].pop("unique_id"), "unique_id"),
    (lambda said: said["components"]["peers"].pop("platform"), "platform"),
    (lambda said: said["components"]["peers"].update(icon="account"), "icon"),
    (lambda said: said["components"]["activity"].update(options=[]), "options"),
    (lambda said: said["components"]["limit"].update(entity_category="config"), "category"),
    (lambda said: said["components"]["limit"].update(value_template="{{ value_json."), "template"),
    (lambda said: said["components"]["pause"].pop("command_topic"), "command_topic"),
    (lambda said: said["components"]["pause"].update(command_topic="a/+"), "command_topic"),
    (lambda said: said["components"][f"task_{DIGITS.key}_leave"].update(qos=3), "qos"),
    (lambda said: said["device"].pop("identifiers"), "identif"),
    (lambda said: said.pop("origin"), "origin"),
    (lambda said: said.update(stat="a"), "stat"),
]


def test_home_assistant_refuses_what_is_wrong() -> None:
    """Else the test above proves nothing."""
    messages = []
    for change, _ in BROKEN:
        said = json.loads(described(FIGURES))
        change(said)
        messages.append(json.dumps(said))
    for (_, why), answer in zip(BROKEN, held_against_home_assistant(messages), strict=True):
        assert why in answer.get("refused", "it was taken"), answer


@pytest.mark.parametrize(
    "figures",
    [
        FIGURES,
        BARE,
        replace(FIGURES, governed=replace(GOVERNED, is_paused=True, limit="x" * 400, until_s=None, temperature_c=None)),
        replace(FIGURES, governed=replace(GOVERNED, until_s=1e300)),
        replace(FIGURES, tasks=tuple(map(named, NAMES))),
        replace(FIGURES, tasks=(replace(DIGITS, metric=None, baseline=None),)),
        replace(FIGURES, tasks=(SERVED,), role="server"),
    ],
    ids=["all", "bare", "paused", "for ever", "names", "not measured", "server"],
)
def test_every_template_makes_a_state_of_what_is_said(figures: Figures) -> None:
    said = {TOPICS.state: parts.state(figures)}
    said |= {TOPICS.task(task.key): parts.task_state(task) for task in figures.tasks}
    for component in json.loads(described(figures))["components"].values():
        if component["platform"] == "button":
            continue
        shown = jinja2.Template(component["value_template"], undefined=jinja2.StrictUndefined).render(
            value_json=json.loads(said[component["state_topic"]])
        )
        assert 0 < len(shown) <= 255, component["name"]
        if "options" in component:
            assert shown in component["options"]
        elif shown == "None":
            continue  # unknown
        elif component["platform"] == "switch":
            assert shown in (component["payload_on"], component["payload_off"])
        elif "state_class" in component:
            assert math.isfinite(float(shown))
        elif component.get("device_class") == "timestamp":
            assert datetime.fromisoformat(shown).tzinfo is not None


def test_a_limit_is_said_in_a_sentence_where_there_is_one() -> None:
    limited = replace(GOVERNED, limit="pause_above_c", why="it is 83 °C hot")
    assert json.loads(parts.state(replace(FIGURES, governed=limited)))["limit"] == "it is 83 °C hot"
    assert json.loads(parts.state(replace(FIGURES, governed=replace(limited, why=""))))["limit"] == "pause_above_c"
    assert json.loads(parts.state(FIGURES))["limit"] == "nothing"


def test_shares_are_said_in_percent_and_energy_in_watt_hours() -> None:
    digits, weather = json.loads(parts.task_state(DIGITS)), json.loads(parts.task_state(WEATHER))
    assert (digits["metric"], digits["baseline"], weather["metric"]) == (96.5, 25.0, 1.5)
    state = json.loads(parts.state(FIGURES))
    assert (state["energy"], state["traffic"], state["temperature"]) == (2.0, 1.5, 51.3)
