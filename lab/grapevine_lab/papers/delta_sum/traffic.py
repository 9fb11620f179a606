"""Fig. 4: traffic, counted. Nobody trains, since what is sent does not depend on what is learned.

Gossip sends base and change to every neighbour after each epoch, the base once a window; FedAvg's
members send their model to the server after each epoch, and get its model back. Both are real agents,
and every byte on every link is counted, once where it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import read_scenario

ROUNDS = 40  # the second half of which is counted
CONSTANT_DEGREE = 4  # the paper's topologies have 3.3, 3.2 and 4.2 neighbours a node
MODEL_BYTES = 4 * 55_338


@dataclass(frozen=True)
class Traffic:
    """Models' worth of bytes that a node sends in a round (1 = 221 kB), and messages."""

    num_nodes: int
    neighbours: float
    models: float
    messages: float


def gossip(num_nodes: int, degree: int) -> Traffic:
    """Delta Sum among nodes with so many neighbours each. Nothing but their number counts: they are drawn at random."""
    return _count(num_nodes, [f"topology={{ kind = 'random-regular', degree = {degree} }}"])


def federated(num_nodes: int, sync_rounds: int = 1) -> Traffic:
    """FedAvg: what members send up, and what they are sent, every round; or every so many rounds."""
    interval_s = 10.0
    return _count(
        num_nodes,
        [
            "topology={ kind = 'ring' }",  # whom nobody talks to while there is a server
            "task.merging.strategy=follow-server",
            "task.merging.server_strategy=fedavg",
            "task.merging.constants={}",
            "task.merging.window_rounds=1",
            "task.merging.gossip_share_with_server=0",
            "server.present=[[0, inf]]",
            f"server.heartbeat_s={interval_s * sync_rounds}",
        ],
        received=True,
        # Members gossip until they have heard the server twice.
        rounds=max(ROUNDS, 8 * sync_rounds),
    )


def _count(num_nodes: int, changes: list[str], *, received: bool = False, rounds: int = ROUNDS) -> Traffic:
    prepared = prepare(
        read_scenario(
            find_scenario("delta-sum"),
            changes=[
                f"scenario.rounds={rounds}",
                "nodes.trainer=none",
                f"nodes.num={num_nodes}",
                "task.epochs_per_round=0",
                "task.training.num_rounds=0",
                *changes,
            ],
        )
    )
    samples = run_seed(prepared, 0).measurements.samples
    column, half = samples.column("round"), rounds // 2

    def rate(name: str) -> float:
        """Of a node in a round, over the second half: by then everybody is there."""
        values = samples.column(name)
        return float(np.mean(values[column == rounds]) - np.mean(values[column == half])) / (rounds - half)

    sent = rate("bytes_sent") + (rate("bytes_received") if received else 0.0)
    messages = rate("messages_sent") + (rate("messages_received") if received else 0.0)
    neighbours = float(np.mean(samples.column("num_neighbours")[column == rounds]))
    return Traffic(num_nodes, neighbours, sent / MODEL_BYTES, messages)
