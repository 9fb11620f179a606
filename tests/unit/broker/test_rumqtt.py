"""The engine `rumqtt`: its configuration, and what is said where it cannot run as asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from grapevine_broker import rumqtt_process, start_broker
from grapevine_broker.limits import Limits
from grapevine_broker.rumqtt import RumqttBroker
from grapevine_broker.rumqtt_config import VERSIONS, Version, config_text
from grapevine_broker.sparing_log import SparingLog
from grapevine_broker.start import run_broker
from grapevine_proto.errors import BrokerError, RequestError


@pytest.mark.parametrize(("version", "table"), [("3.1.1", "v4"), ("5", "v5")])
def test_it_listens_once_for_one_version_and_takes_what_our_other_broker_takes(version: Version, table: str) -> None:
    read = tomllib.loads(config_text("127.0.0.1", 1883, version, Limits(max_connections=30)))
    assert set(read) == {"id", "router", table}, "two versions at one broker cost subscribers their connections"
    assert read["router"]["max_connections"] == 30
    (listener,) = read[table].values()
    assert listener["listen"] == "127.0.0.1:1883"
    assert listener["connections"]["max_payload_size"] == Limits().max_packet_bytes
    assert "[::1]:1883" in config_text("::1", 1883, version, Limits())


def test_a_slip_of_the_finger_is_answered_with_the_engine_that_was_meant() -> None:
    with pytest.raises(RequestError, match="--engine rumqt: there is no such engine; did you mean 'rumqtt'"):
        start_broker("rumqt")


def test_where_it_was_named_and_is_not_installed_it_is_said_how_and_nothing_else_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BrokerError, match=r"needs iotcore: .*\[rumqtt\].*or use --engine embedded.*x86-64"):
        start_broker("rumqtt")


def test_who_names_no_engine_gets_the_embedded_one() -> None:
    pytest.importorskip("amqtt", reason="the embedded broker is the extra `broker`")
    with start_broker() as broker:
        assert not isinstance(broker, RumqttBroker)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "rumqtt", "mqtt_version": "4"}, "--mqtt-version 4: rumqttd speaks 3.1.1 or 5"),
        ({"engine": "embedded", "mqtt_version": "5"}, "is for --engine rumqtt; the embedded broker speaks 3.1.1"),
        ({"engine": "mosquitto", "mqtt_version": "5"}, "is for --engine rumqtt; Mosquitto speaks both"),
        ({"engine": "rumqtt", "password_file": Path("x")}, "the engine rumqtt knows no users.*--engine mosquitto"),
        ({"engine": "rumqtt", "state_dir": Path("x")}, "--state-dir x needs --engine mosquitto"),
    ],
)
def test_what_it_does_not_have_is_refused_with_who_has_it(options: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        run_broker(**options, say=lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_speaks_the_version_that_was_asked_for(version: Version) -> None:
    pytest.importorskip("iotcore", reason="rumqttd is the extra `rumqtt`")
    with RumqttBroker(version=version) as broker:
        assert broker.url.endswith(f"?version={version}")
        assert broker.answers()


def test_it_ends_with_a_reason_when_its_router_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rumqtt_process, "LOOK_EVERY_S", 0.01)
    looks = iter((True, True, False))
    monkeypatch.setattr(rumqtt_process, "has_router", lambda: next(looks))
    assert rumqtt_process._serve(SparingLog()) == 1
    assert "router has ended" in caplog.text


def test_the_router_is_looked_for_among_the_threads_of_the_process() -> None:
    assert not rumqtt_process.has_router(), "there is none here"
