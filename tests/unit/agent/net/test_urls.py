from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "port"),
    [("mqtt://hub", 1883), ("mqtts://hub", 8883), ("ws://hub", 80), ("wss://hub", 443), ("mqtt://hub:7", 7)],
)
def test_each_scheme_has_its_usual_port(text: str, port: int) -> None:
    assert BrokerUrl.parse(text).port == port


def test_a_full_url_is_read_completely() -> None:
    url = BrokerUrl.parse("wss://me:se%2Fcret@hub.local:9001/deep/mqtt?version=5")
    assert (url.scheme, url.host, url.port) == ("wss", "hub.local", 9001)
    assert (url.username, url.password) == ("me", "se/cret")
    assert (url.path, url.version) == ("/deep/mqtt", "5")
    assert url.has_tls
    assert url.is_websocket


def test_an_ipv6_address_keeps_its_brackets() -> None:
    url = BrokerUrl.parse("mqtt://[::1]:1884")
    assert url.host == "::1"
    assert str(url) == "mqtt://[::1]:1884"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=6))
def test_a_password_is_never_printed(secret: str) -> None:
    secret = f"tell{secret}none"
    text = f"mqtt://me:{secret}@hub"
    if any(each in secret for each in "/#?[]"):  # these must be percent-encoded in a URL
        with pytest.raises(ConfigError) as raised:
            BrokerUrl.parse(text)
        assert secret not in str(raised.value)
        assert raised.value.__cause__ is None
        text = f"mqtt://me:{quote(secret, safe='')}@hub"
    url = BrokerUrl.parse(text)
    assert secret not in f"{url} {url!r} {url.without_credentials()!r}"
    assert BrokerUrl.parse(str(url)).password == ""


def test_printing_and_parsing_agree_but_for_the_password() -> None:
    for text in ("mqtt://hub:1883", "mqtts://me@hub:8883", "ws://hub:80/mqtt", "mqtt://hub:1883?version=3.1.1"):
        assert str(BrokerUrl.parse(text)) == text


def test_credentials_can_be_left_out() -> None:
    assert str(BrokerUrl.parse("mqtt://me:secret@hub").without_credentials()) == "mqtt://hub:1883"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("hub.local", "mqtt://hub.local"),
        ("hub.farm:1883", "mqtt://hub.farm:1883"),
        ("http://hub", "mqtt://"),
        ("mqtt://", "no host"),
        ("mqtt://hub:0", "port 0"),
        ("mqtt://hub:99999", "hub:99999"),
        ("mqtt://hub:x", "hub:x"),
        ("mqtt://hub/path", "path"),
        ("mqtt://hub?version=4", "version=4"),
        ("mqtt://hub?verison=5", "verison=5"),
        ("mqtt://[::1", "cannot read"),
        ("", "mqtt://"),
    ],
)
def test_a_wrong_url_is_answered_with_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        BrokerUrl.parse(text)
    assert hint in str(raised.value)
    assert "write for example" in str(raised.value) or "are known" in str(raised.value)
