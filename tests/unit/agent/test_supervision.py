"""What a supervisor is told, heard at the other end of its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from grapevine_agent.supervision import MOST_STATUS, Supervisor


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def address(ear: socket.socket) -> str:
    return str(ear.getsockname())


def test_each_word_is_a_datagram_of_lines(ear: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": address(ear), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7", "HOME": "/"}
    supervisor = Supervisor.of(environ, 7)
    assert supervisor.listens
    assert supervisor.every_s == 20.0
    assert environ == {"HOME": "/"}, "a child must not speak for us"

    supervisor.ready("waits")
    assert ear.recv(4096) == b"READY=1\nSTATUS=waits"
    supervisor.status("waits")  # the same: nothing is said
    supervisor.status("goes\non")
    assert ear.recv(4096) == b"STATUS=goes on"
    supervisor.alive()
    assert ear.recv(4096) == b"WATCHDOG=1"
    supervisor.reloading()
    first, second = ear.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    supervisor.ready_again()
    assert ear.recv(4096) == b"READY=1"
    supervisor.stopping()
    assert ear.recv(4096) == b"STOPPING=1\nSTATUS=leaving"


def test_a_name_in_the_abstract_space_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0grapevine-test-supervision")
        listener.settimeout(5)
        Supervisor("@grapevine-test-supervision").alive()
        assert listener.recv(100) == b"WATCHDOG=1"


def test_a_status_is_one_line_of_bounded_length(ear: socket.socket) -> None:
    Supervisor(address(ear)).status("é\nREADY=1" * 1_000)
    said = ear.recv(65_536)
    assert b"\n" not in said
    assert len(said.decode()) == len("STATUS=") + MOST_STATUS


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, None),  # nobody to tell
        ({"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "60000000"}, None),
        ({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "60000000"}, 20.0),
        ({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),  # another's
        ({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/nowhere"}, None),
    ],
)
def test_it_is_watched_only_by_who_says_so(environ: dict[str, str], every_s: float | None) -> None:
    assert Supervisor.of(environ, 7).every_s == every_s


def test_a_supervisor_that_has_gone_or_does_not_read_holds_up_nothing(tmp_path: Path, ear: socket.socket) -> None:
    Supervisor(str(tmp_path / "gone")).ready("here")
    supervisor = Supervisor(address(ear))
    for _ in range(10_000):  # more than a socket holds: a call that waits would never come back
        supervisor.alive()
