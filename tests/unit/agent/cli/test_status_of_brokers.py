"""What `grapevine status` says of several brokers, and of those that were found."""

from __future__ import annotations

from grapevine_agent.cli.owner_commands import _broker_line, _discovery_lines, _site_words


def test_each_of_several_brokers_has_a_line() -> None:
    broker = {
        "url": "mqtt://hub:1883",
        "found": True,
        "connected": True,
        "mqtt_version": "5",
        "peers": 2,
        "delay_ms": 4.4,
        "cannot": [],
        "trouble": "",
    }
    assert _broker_line(broker) == "connected to mqtt://hub:1883, which was found (MQTT 5): 2 peers, 4 ms"
    away = broker | {"found": False, "connected": False, "trouble": "nothing listens"}
    assert _broker_line(away) == "[yellow]not connected[/] to mqtt://hub:1883: nothing listens"


def test_what_was_found_and_what_is_hosted_is_said() -> None:
    assert _discovery_lines(None) == ""
    nothing = {"found": [], "hosting": "", "trouble": "", "why": ""}
    assert _discovery_lines(nothing) == "\nbrokers found: none yet"
    some = {"found": ["mqtt://a:1"], "hosting": "mqtt://b:2", "trouble": "", "why": "no broker answered for 30 s"}
    assert _discovery_lines(some).endswith("\nhosting a broker at mqtt://b:2: no broker answered for 30 s")


def test_a_site_is_named_where_there_is_one() -> None:
    assert _site_words({"name": "", "keeps_to_it": False, "alive": 0}) == ""
    assert _site_words({"name": "lake", "keeps_to_it": True, "alive": 3}) == (
        ", 3 at lake (others are not gossiped with)"
    )
