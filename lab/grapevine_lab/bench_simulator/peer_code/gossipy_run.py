"""`python -m peer_code.gossipy_run PLAN`: gossip learning in gossipy.

In each round of 100 ticks, every node pushes its model to a random other one, which merges it with its own
(the plain average) and then trains: over all nodes, as many trainings as there are nodes. Messages arrive
in the tick in which they are sent, none is lost, every node is up.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor, nn

# gossipy imports torchvision to download data sets, without requiring it. We download none.
sys.modules.setdefault("torchvision", ModuleType("torchvision"))

from gossipy import set_seed  # type: ignore[import-not-found]  # noqa: E402 - it lives in the peer's environment
from gossipy.core import (  # type: ignore[import-not-found]  # noqa: E402
    AntiEntropyProtocol,
    CreateModelMode,
    Message,
    StaticP2PNetwork,
)
from gossipy.data import DataDispatcher  # type: ignore[import-not-found]  # noqa: E402
from gossipy.data.handler import ClassificationDataHandler  # type: ignore[import-not-found]  # noqa: E402
from gossipy.model import TorchModel  # type: ignore[import-not-found]  # noqa: E402
from gossipy.model.handler import TorchModelHandler  # type: ignore[import-not-found]  # noqa: E402
from gossipy.node import GossipNode  # type: ignore[import-not-found]  # noqa: E402
from gossipy.simul import GossipSimulator, SimulationEventReceiver  # type: ignore[import-not-found]  # noqa: E402

from .learner import Harness, Plan, Samples, accuracy, batches, new_model, read_plan, read_samples, rows_of  # noqa: E402

ROUND_TICKS = 100  # as in gossipy's own examples
NUM_EVALUATED = 10  # nodes


class Network(TorchModel):  # type: ignore[misc]
    """The plan's model, as gossipy wants one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def init_weights(self) -> None:
        """Keep the weights: like the others', these nodes begin with one and the same model."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, classes]."""
        scores: Tensor = self.module(x)
        return scores


class StepwiseHandler(TorchModelHandler):  # type: ignore[misc]
    """gossipy's own handler, but one that trains for a number of steps where that one counts epochs."""

    num_steps = 1

    def _update(self, samples: tuple[Tensor, Tensor]) -> None:
        x, y = samples
        for batch in batches(len(x), self.batch_size, self.num_steps):
            self._local_step(x[batch], y[batch])
        self.n_updates += 1


class RoundReporter(SimulationEventReceiver):  # type: ignore[misc]
    """Tells the harness when a round ends."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def update_message(self, failed: bool, msg: Message | None = None) -> None:
        """A message was sent, or lost."""

    def update_timestep(self, t: int) -> None:
        """A tick has passed; the first is number 0."""
        if (t + 1) % ROUND_TICKS == 0:
            self._harness.round_ended((t + 1) // ROUND_TICKS)

    def update_end(self) -> None:
        """The simulation is over."""


def simulator_of(plan: Plan, samples: Samples) -> GossipSimulator:
    """A simulator whose nodes hold the plan's samples, with their first models in place."""
    handler = StepwiseHandler(
        net=Network(new_model(plan)),
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": plan.learning_rate},
        criterion=nn.CrossEntropyLoss(),
        batch_size=plan.batch_size,
        create_model_mode=CreateModelMode.MERGE_UPDATE,
    )
    StepwiseHandler.num_steps = plan.num_steps
    num_samples = plan.num_nodes * plan.num_samples
    share = DataDispatcher(
        ClassificationDataHandler(samples.x[:num_samples], samples.y[:num_samples], test_size=0),
        n=plan.num_nodes,
        auto_assign=False,
    )
    rows = range(num_samples)
    share.set_assignments([list(rows[rows_of(node, plan)]) for node in range(plan.num_nodes)], None)
    nodes = GossipNode.generate(
        data_dispatcher=share,
        p2p_net=StaticP2PNetwork(plan.num_nodes),  # everybody may meet everybody
        model_proto=handler,
        round_len=ROUND_TICKS,
        sync=True,
    )
    simulator = GossipSimulator(
        nodes=nodes, data_dispatcher=share, delta=ROUND_TICKS, protocol=AntiEntropyProtocol.PUSH
    )
    # What init_nodes does, less a training of every node before the first round.
    for node in nodes.values():
        node.init_model(local_train=False)
    simulator.initialized = True
    return simulator


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    set_seed(plan.seed)
    samples = read_samples(plan.samples)
    simulator = simulator_of(plan, samples)
    simulator.add_receiver(RoundReporter(harness))
    harness.ready()
    simulator.start(n_rounds=plan.num_rounds)
    some = list(simulator.nodes.values())[:NUM_EVALUATED]
    harness.learned(sum(accuracy(node.model_handler.model, samples) for node in some) / len(some))


if __name__ == "__main__":
    main(sys.argv[1])
