"""A lab's lines, over real sockets: late, narrow, cut, healed and broken."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from grapevine_broker.probe import claim_port
from grapevine_lab.testbed.lines import Lines

PATIENCE_S = 20.0


class Echo:
    """Says back what it hears, on a port of its own; `connections` that there have been."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while heard := connection.recv(65_536):
                connection.sendall(heard)


@pytest.fixture
def echo() -> Iterator[Echo]:
    there = Echo()
    yield there
    there.listener.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    yield made
    made.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def said_back(line: socket.socket, text: bytes) -> float:
    """Say something, hear all of it again, and how long that took."""
    began_s = time.monotonic()
    line.sendall(text)
    heard = b""
    while len(heard) < len(text):
        piece = line.recv(65_536)
        assert piece, "it hung up"
        heard += piece
    assert heard == text
    return time.monotonic() - began_s


def hears_nothing(line: socket.socket, for_s: float = 0.3) -> bool:
    line.settimeout(for_s)
    try:
        return not line.recv(1) and False
    except TimeoutError:
        return True
    finally:
        line.settimeout(PATIENCE_S)


def test_a_delay_holds_in_both_directions_and_can_be_taken_away(lines: Lines, echo: Echo) -> None:
    with connected(lines.port("peer-0", "broker", echo.port)) as line:
        said_back(line, b"first")
        lines.shape("peer-0", delay_ms=150.0, kbit_per_s=0.0)
        assert said_back(line, b"late") >= 0.3
        lines.shape("peer-0", delay_ms=0.0, kbit_per_s=0.0)
        assert said_back(line, b"soon") < 0.3


def test_a_limit_lets_so_many_bits_through(lines: Lines, echo: Echo) -> None:
    with connected(lines.port("peer-0", "broker", echo.port)) as line:
        lines.shape("peer-0", delay_ms=0.0, kbit_per_s=800.0)
        assert said_back(line, b"x" * 50_000) >= 0.45  # 0.5 s for each way, half of it at once


def test_what_is_said_over_a_cut_line_comes_when_it_is_healed(lines: Lines, echo: Echo) -> None:
    port = lines.port("peer-0", "broker", echo.port)
    with connected(port) as line, connected(lines.port("peer-1", "broker", echo.port)) as other:
        said_back(line, b"first")
        lines.cut([("peer-0", "broker")])
        line.sendall(b"held")
        assert hears_nothing(line)
        said_back(other, b"the other line passes")
        lines.heal([("peer-0", "broker")])
        assert line.recv(4) == b"held"


def test_a_new_connection_over_a_cut_line_hangs_until_it_is_healed(lines: Lines, echo: Echo) -> None:
    port = lines.port("peer-0", "broker", echo.port)
    lines.cut([("peer-0", "broker")])
    with connected(port) as line:
        line.sendall(b"hello")
        assert hears_nothing(line)
        assert not echo.connections
        lines.heal()
        assert line.recv(5) == b"hello"


def test_who_gives_up_on_a_cut_line_is_not_missed_before_it_is_healed(lines: Lines, echo: Echo) -> None:
    ended = threading.Event()

    def hear(connection: socket.socket) -> None:
        with connection:
            while connection.recv(100):
                pass
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = lines.port("peer-0", "broker", listener.getsockname()[1])
        line = connected(port)
        far, _ = listener.accept()
        threading.Thread(target=hear, args=(far,), daemon=True).start()
        lines.cut([("peer-0", "broker")])
        line.close()
        assert not ended.wait(0.3)
        lines.heal()
        assert ended.wait(PATIENCE_S)


def test_a_dropped_line_breaks_and_can_be_used_anew(lines: Lines, echo: Echo) -> None:
    port = lines.port("peer-0", "broker", echo.port)
    with connected(port) as line:
        said_back(line, b"first")
        lines.drop("peer-0")
        with contextlib.suppress(ConnectionError):
            assert line.recv(1) == b""
    with connected(port) as line:
        said_back(line, b"again")


def test_a_line_stays_where_it_is_while_its_broker_is_away(lines: Lines) -> None:
    away = claim_port("127.0.0.1", 0)
    port = lines.port("peer-0", "broker", away)
    with connected(port) as line:
        assert line.recv(1) == b""
    with socket.create_server(("127.0.0.1", away)) as listener, connected(port) as line:
        line.sendall(b"hello")
        there, _ = listener.accept()
        with there:
            assert there.recv(5) == b"hello"
    assert lines.port("peer-0", "broker", away) == port
