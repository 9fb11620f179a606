"""A host with several addresses: which error is told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.ports import free_port

from grapevine_agent.net.client import Client
from grapevine_agent.net.explaining import explain
from grapevine_agent.net.reaching import connect_to, telling
from grapevine_agent.net.urls import BrokerUrl

NO_ADDRESS = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
NO_NETWORK = OSError(errno.ENETUNREACH, "Network is unreachable")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([ConnectionRefusedError(), NO_ADDRESS], ConnectionRefusedError),
        ([NO_ADDRESS, ConnectionRefusedError()], ConnectionRefusedError),
        ([NO_NETWORK, TimeoutError()], TimeoutError),
        ([TimeoutError(), ConnectionRefusedError()], ConnectionRefusedError),
    ],
)
def test_of_several_addresses_errors_the_one_that_says_most_is_told(errors: list[OSError], told: type[OSError]) -> None:
    assert isinstance(telling(errors), told)


def test_where_none_says_much_the_first_is_told() -> None:
    assert telling([NO_ADDRESS, NO_NETWORK]) is NO_ADDRESS


def connect_as_a_client(host: str, port: int) -> None:
    Client(CallbackAPIVersion.VERSION2).connect(host, port)


@pytest.mark.parametrize("connect", [lambda host, port: connect_to(host, port, 2.0).close(), connect_as_a_client])
def test_localhost_where_ipv6_is_off_and_nothing_listens_is_said_so(
    connect: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    off = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [here, off])
    plain = socket.socket

    def without_ipv6(family: int = -1, *rest: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise NO_ADDRESS
        return plain(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with pytest.raises(ConnectionRefusedError) as found:
        connect("localhost", port)
    url = BrokerUrl.parse(f"mqtt://localhost:{port}")
    assert explain(found.value, url) == f"nothing listens on localhost:{port}: is the broker running?"
