"""`python -m peer_code.quinkgl_node PLAN NUMBER`: one node of QuinkGL, which gossips as QuinkGL does by itself.

A node trains, sends its model to one random other (by itself it would take up to three), and goes on as soon as a model
has come to merge. It is told where the others are, in place of IPv8's public bootstrap servers.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import ipv8.configuration  # type: ignore[import-not-found]  # it lives in the peer's environment
import torch
from ipv8.messaging.interfaces.udp.endpoint import UDPEndpoint  # type: ignore[import-not-found]
from quinkgl.gossip.aggregator import ModelAggregator  # type: ignore[import-not-found]
from quinkgl.models.base import TrainingConfig  # type: ignore[import-not-found]
from quinkgl.models.pytorch import PyTorchModel  # type: ignore[import-not-found]
from quinkgl.network.gossip_node import GossipNode  # type: ignore[import-not-found]

from .crew import MEET_VARIABLE, ports
from .learner import Harness, LocalTraining, accuracy, read_plan, read_samples

MEET_S = 180.0  # all of them import PyTorch at once before
WALK_S = 0.5
GOSSIP_INTERVAL_S = 30.0  # a node waits no longer for a model; it rarely does
BESIDE_BYTES = 8  # of a UDP header

ipv8.configuration.default_bootstrap_defs.clear()
ModelAggregator._select_fanout = staticmethod(lambda num_candidates: min(1, num_candidates))


class Sent:
    """What this process has sent, counted in the function of IPv8 that sends."""

    num_bytes = 0
    num_models = 0


def _count_sent() -> None:
    send = UDPEndpoint.send

    def counted(endpoint: UDPEndpoint, address: Any, packet: bytes) -> None:
        Sent.num_bytes += len(packet) + BESIDE_BYTES
        send(endpoint, address, packet)

    UDPEndpoint.send = counted


async def run(path: str, number: int) -> None:
    """Run one node of the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    addresses = [("127.0.0.1", port) for port in ports(MEET_VARIABLE)]
    training = LocalTraining(plan, number)
    node = GossipNode(
        f"node-{number}",
        domain="digits",
        model=PyTorchModel(training.model),
        port=addresses[number][1],
        gossip_interval=GOSSIP_INTERVAL_S,
        training_config=TrainingConfig(
            epochs=1, batch_size=plan.batch_size, learning_rate=plan.learning_rate, optimizer=torch.optim.SGD
        ),
        stale_round_tolerance=plan.num_rounds,
        enable_fallback=False,
        quiet=True,
    )
    await node.start()
    async with asyncio.timeout(MEET_S):
        while node.community.get_peer_count() < plan.num_nodes - 1:
            for address in addresses[:number] + addresses[number + 1 :]:
                node.community.walk_to(address)
            await asyncio.sleep(WALK_S)
    harness.ready()
    told = 0

    def sent(peers: list[str], _size: int) -> None:
        Sent.num_models += len(peers)

    def batches_of_a_round() -> list[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal told
        if node.gl_node.current_round > 1 and told < plan.num_rounds:  # the one before is over
            told += 1
            harness.round_ended(told, models=Sent.num_models, num_bytes=Sent.num_bytes)
            if told == plan.num_rounds:
                harness.learned(accuracy(training.model, read_samples(plan.samples)))
        return training.round_of_batches()

    node.gl_node.register_hook("on_model_sent", sent)
    await node.run_continuous(data_provider=batches_of_a_round)


def main(path: str, number: int) -> None:
    """Run one node."""
    _count_sent()
    asyncio.run(run(path, number))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
