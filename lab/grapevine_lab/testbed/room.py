"""Whether this host has room for a lab: memory, about, and its brokers' ports.

It is said before anything starts: a host that runs out of memory ends the wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import psutil

from grapevine_broker.probe import claim_port
from grapevine_lab.proxy import HERE
from grapevine_lab.testbed.engine import Machine
from grapevine_proto.errors import BrokerError, ConfigError

AGENT_MB: Final = 75.0
TRAINER_MB: Final = 260.0
BROKER_MB: Final = 10.0
KEEPER_MB: Final = 120.0


def check_room(machines: Iterable[Machine]) -> None:
    """Raise `ConfigError` where they do not fit, or a port that was a broker's is taken."""
    machines = tuple(machines)
    check_memory(machines, psutil.virtual_memory().available / 1e6)
    for machine in machines:
        if machine.kind == "broker":
            _check_port(machine)


def _check_port(broker: Machine) -> None:
    try:
        claim_port(HERE, broker.port)
    except BrokerError:
        raise ConfigError(
            f"port {broker.port}, which {broker.name} was to listen on, is taken: try again, or stop what listens there"
        ) from None


def estimate_mb(machines: Iterable[Machine]) -> float:
    """What they take together, with the lab's own process."""
    of = {"broker": BROKER_MB, "peer": AGENT_MB + TRAINER_MB}
    return KEEPER_MB + sum(of.get(each.kind, AGENT_MB) for each in machines)


def check_memory(machines: Iterable[Machine], available_mb: float) -> None:
    """Raise `ConfigError` where they take more than there is."""
    machines = tuple(machines)
    needed_mb = estimate_mb(machines)
    if needed_mb <= available_mb:
        return
    num_peers = sum(each.kind == "peer" for each in machines)
    fit = int(num_peers - (needed_mb - available_mb) / (AGENT_MB + TRAINER_MB))
    remedy = f"take --peers {fit} or fewer" if fit >= 2 else "end something else, or take a larger machine"
    raise ConfigError(
        f"{num_peers} peers take about {needed_mb:,.0f} MB, {AGENT_MB:.0f} for each agent and {TRAINER_MB:.0f} for "
        f"each trainer, and this machine has {available_mb:,.0f} MB left: {remedy}"
    )
