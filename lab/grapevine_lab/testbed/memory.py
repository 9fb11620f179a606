"""How much memory a lab takes, about. It is said before anything starts: a host that runs out ends the wrong ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from grapevine_lab.testbed.engine import Machine
from grapevine_proto.errors import ConfigError

AGENT_MB: Final = 75.0
TRAINER_MB: Final = 260.0
BROKER_MB: Final = 10.0
KEEPER_MB: Final = 120.0


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
