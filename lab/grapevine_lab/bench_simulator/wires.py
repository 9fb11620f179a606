"""The ports of a system whose nodes are processes, and lines before them that count what passes.

A process that listens does so on one of `BENCH_LISTEN`, and is reached at the port of the same place in `BENCH_MEET`:
the same one in a run that is timed, a counting line to it in the run that is not.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from grapevine_lab.proxy import HERE, Counting, running

LISTEN_VARIABLE, MEET_VARIABLE = "BENCH_LISTEN", "BENCH_MEET"


@dataclass(frozen=True, kw_only=True)
class Wires:
    """The ports of one run."""

    listen: tuple[int, ...] = ()
    meet: tuple[int, ...] = ()
    lines: tuple[Counting, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """How the system is told."""
        return {LISTEN_VARIABLE: _joined(self.listen), MEET_VARIABLE: _joined(self.meet)} if self.listen else {}

    def carried(self) -> int:
        """Bytes that have passed, in both directions."""
        return sum(line.num_up + line.num_down for line in self.lines)


@contextmanager
def wires(number: int, *, counted: bool) -> Iterator[Wires]:
    """So many free ports, with lines that count before them or none."""
    listen = free_ports(number)
    with ExitStack() as stack:
        lines = tuple(stack.enter_context(running(Counting(port))) for port in listen) if counted else ()
        yield Wires(listen=listen, meet=tuple(line.port for line in lines) or listen, lines=lines)


def free_ports(number: int) -> tuple[int, ...]:
    """Ports of this machine that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((HERE, 0))
        return tuple(each.getsockname()[1] for each in sockets)


def _joined(ports: tuple[int, ...]) -> str:
    return ",".join(map(str, ports))
