"""What `grapevine status` says of several brokers, and of those that were found."""

from __future__ import annotations

from grapevine_agent.cli.owner_commands import _broker_line, _discovery_lines, _shown_lines, _travel_words
from grapevine_agent.cli.peer_commands import scope_words


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
    assert scope_words({"site": "", "at_site": 0, "limits": "", "num_in": 3, "num_out": 0}) == ""
    assert scope_words({"site": "lake", "at_site": 3, "limits": "", "num_in": 3, "num_out": 0}) == ", 3 at lake"


def test_a_scope_says_how_many_are_out_of_it() -> None:
    assert scope_words({"site": "lake", "at_site": 3, "limits": "at lake, within 5 km", "num_in": 2, "num_out": 4}) == (
        ", 3 at lake, 4 out of scope (models go to those at lake, within 5 km: grapevine peers)"
    )
    assert scope_words({"site": "", "at_site": 0, "limits": "within 5 km", "num_in": 2, "num_out": 1}) == (
        ", 1 out of scope (models go to those within 5 km: grapevine peers)"
    )


def test_what_goes_in_chunks_or_is_larger_than_it_was_to_be_is_said() -> None:
    as_wanted = {"update_bytes": 1_200_000, "in_chunks": False, "encoding": "int8", "encoding_why": ""}
    assert _travel_words({}) == _travel_words(as_wanted) == ""  # of an agent that is older, and of one that is not
    assert _travel_words(as_wanted | {"in_chunks": True}) == ", 1.2 MB an update, in chunks"
    larger = as_wanted | {"encoding": "float32", "encoding_why": "the task does not allow int8, only float32"}
    assert _travel_words(larger) == ", sent as float32: the task does not allow int8, only float32"


def test_where_a_device_is_shown_is_said_and_what_is_in_the_way() -> None:
    assert _shown_lines(None, None) == ""
    home = {"topic": "homeassistant/device/x/config", "trouble": "", "counts": {"said": 9, "command-retained": 2}}
    page = {"url": "http://127.0.0.1:9464/metrics", "listening": True, "answered": 1_200, "trouble": ""}
    assert _shown_lines(home, page) == (
        "\nHome Assistant: homeassistant/device/x/config; 0 commands taken, 2 refused"
        "\nmetrics: http://127.0.0.1:9464/metrics, fetched 1,200 times"
    )
    taken = page | {"listening": False, "trouble": "cannot listen there"}
    assert _shown_lines(None, taken) == "\n[yellow]cannot listen there[/]"
