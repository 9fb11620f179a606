"""Thousands of malformed connections leave nothing of them in the embedded broker's process."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra `broker`")

from tests.raw_mqtt import connect, publish, subscribe

from grapevine_broker.probe import answers_mqtt

NUM_CONNECTIONS = 3000
NUM_AT_A_TIME = 40
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Process:
    """A broker's process, from outside."""

    pid: int
    port: int
    log: Path

    def num_descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def num_half_closed(self) -> int:
        """Sockets of its port whose other side has gone (CLOSE_WAIT)."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(line[1].endswith(f":{self.port:04X}") and line[3] == "08" for line in lines)

    def resident_kb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Process]:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "grapevine_broker.embedded_process", "--parent-pid", str(os.getpid())]
    command += ["--retained-max-age-s", "600"]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdout is not None
        yield Process(process.pid, json.loads(process.stdout.readline())["port"], log)
        process.terminate()
        assert process.wait(10) == 0


def malformed(number: int, dice: random.Random) -> bytes:
    """Noise at the start, in a CONNECT, behind one or in a packet; or a CONNECT cut off, or with a huge length."""
    noise = dice.randbytes(dice.randint(1, 200))
    greeting = connect(f"client-{number % 100}", clean=number % 4 > 0, will=("will", noise[:20]))
    return (
        noise,
        b"\x10" + noise,
        greeting + noise,
        greeting + dice.choice([publish("t", b"x", 2), subscribe(("t", 1))])[:-1] + noise,
        greeting[: dice.randint(1, len(greeting))],
        b"\x10\xff\xff\xff\x7f" + noise,
    )[number % 6]


def flood(port: int, num_connections: int) -> None:
    """Make malformed connections one after the other; of the last ones some are held, half-closed or not."""
    dice = random.Random(1)
    held: deque[socket.socket] = deque()
    for number in range(num_connections):
        connection = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        held.append(connection)
        try:
            connection.sendall(malformed(number, dice))
            if number % 3 == 0:
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # it was quicker
        if len(held) > NUM_AT_A_TIME:
            held.popleft().close()
    for connection in held:
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_malformed_connections_leave_no_descriptor_no_socket_no_memory_and_few_lines(broker: Process) -> None:
    flood(broker.port, NUM_CONNECTIONS)  # what as many at a time cost for good: the allocator keeps it
    _wait_for_quiet(broker, max_descriptors=broker.num_descriptors())
    before_kb, num_descriptors = broker.resident_kb(), broker.num_descriptors()
    flood(broker.port, NUM_CONNECTIONS)
    _wait_for_quiet(broker, max_descriptors=num_descriptors)
    assert broker.resident_kb() - before_kb < 2_000
    lines = broker.log.read_text().splitlines()
    assert 0 < len(lines) < 100
    assert answers_mqtt("127.0.0.1", broker.port)


def _wait_for_quiet(broker: Process, *, max_descriptors: int) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while broker.num_descriptors() > max_descriptors or broker.num_half_closed() > 0:
        assert time.monotonic() < give_up_at, (broker.num_descriptors(), broker.num_half_closed())
        time.sleep(0.05)
