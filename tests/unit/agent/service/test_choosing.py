"""Which announced brokers are worth a connection."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import replace

import pytest

from grapevine_agent.core.overlay.election import rank_of
from grapevine_agent.net.discovery import AnnouncedBroker, check_installed, read_service
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.choosing import GIVES_WAY_AFTER_S, Choice, Configured, Surroundings
from grapevine_proto.errors import ConfigError

ROOT = "home"
HUB = AnnouncedBroker(name="hub", addresses=("192.168.1.5",), port=1883, host="hub.local", root=ROOT)
AROUND = Surroundings(
    addresses=frozenset(("192.168.1.2", "172.17.0.1")),
    networks=(ipaddress.IPv4Network("192.168.1.0/24"), ipaddress.IPv4Network("172.17.0.0/16")),
)


def chosen(
    *announced: AnnouncedBroker,
    configured: tuple[Configured, ...] = (),
    choice: Choice | None = None,
    met: frozenset[BrokerUrl] = frozenset(),
    now_s: float = 0.0,
) -> list[str]:
    choice = choice or Choice(root=ROOT)
    return [str(url) for url in choice.of(announced, configured, AROUND, met=met, now_s=now_s)]


def owners(url: str, *addresses: str) -> tuple[Configured, ...]:
    return (Configured(url=BrokerUrl.parse(url), addresses=frozenset(addresses)),)


def test_only_our_root_is_taken_unless_the_owner_takes_any() -> None:
    other, none = replace(HUB, name="o", port=1, root="homes"), replace(HUB, name="n", port=2, root="")
    assert chosen(HUB, other, none) == ["mqtt://192.168.1.5:1883"]
    assert len(chosen(HUB, other, none, choice=Choice(root=ROOT, takes_any=True))) == 3


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("mqtt://hub.local", ()),
        ("mqtt://192.168.1.5", ("192.168.1.5",)),
        ("mqtt://hub", ("192.168.1.5",)),
        ("mqtts://hub.example", ("192.168.1.5",)),  # its owner reaches it by TLS, and no other way is taken
        ("wss://hub.local", ()),
    ],
)
def test_what_the_owner_configured_is_not_found(url: str, addresses: tuple[str, ...]) -> None:
    assert chosen(HUB, configured=owners(url, *addresses)) == []


def test_the_broker_of_this_device_is_known_by_any_of_its_addresses() -> None:
    here = replace(HUB, addresses=("192.168.1.2",))
    assert chosen(here, configured=owners("mqtt://localhost", "127.0.0.1", "::1")) == []
    assert chosen(here, configured=owners("mqtt://localhost:1884", "127.0.0.1")) == ["mqtt://192.168.1.2:1883"]


def test_another_port_of_the_same_host_is_another_broker() -> None:
    assert chosen(HUB, configured=owners("mqtt://hub.local:1884")) == ["mqtt://192.168.1.5:1883"]


def test_an_address_on_a_network_of_ours_is_taken() -> None:
    several = replace(HUB, addresses=("10.9.9.9", "172.17.0.1", "192.168.1.5"))
    assert chosen(several) == ["mqtt://192.168.1.5:1883"]


def test_four_are_taken_elected_ones_first_and_the_silent_give_way() -> None:
    many = [replace(HUB, name=f"b{k}", port=1000 + k) for k in range(6)]
    elected = replace(HUB, name="e", port=2000, peer="bob", rank=rank_of(ROOT, "bob"))
    claims = replace(HUB, name="c", port=2001, peer="bob", rank="f" * 16)
    choice = Choice(root=ROOT)
    first = chosen(*many, claims, elected, choice=choice)
    assert [each[-4:] for each in first] == ["2000", "1000", "1001", "1002"]
    met = frozenset((BrokerUrl(host="192.168.1.5", port=1001, is_found=True),))
    later = chosen(*many, claims, elected, choice=choice, met=met, now_s=GIVES_WAY_AFTER_S)
    assert [each[-4:] for each in later] == ["1001", "1003", "1004", "1005"]


def test_what_a_service_says_is_read_as_far_as_it_can_be_meant() -> None:
    text = {b"root": b"home", b"version": b"3.1.1", b"peer": None, b"rank": b"\xff\xfe"}
    found = read_service("x", ("192.168.1.5", "0.0.0.0", "224.0.0.1", "fe80::1"), 1883, "Hub.local.", text)
    assert found == AnnouncedBroker(
        name="x", addresses=("192.168.1.5",), port=1883, host="hub.local", root="home", version="3.1.1"
    )
    assert read_service("x", ("0.0.0.0",), 1883, "", {}) is None
    assert read_service("x", ("192.168.1.5",), 0, "", {}) is None
    long = read_service("x", ("192.168.1.5",), 1, "", {b"root": b"a" * 300})
    assert long is not None
    assert long.root == ""


def test_who_lacks_zeroconf_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"mqtt.discover needs zeroconf.*discovery"):
        check_installed()
