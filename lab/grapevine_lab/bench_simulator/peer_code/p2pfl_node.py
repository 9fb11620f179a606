"""`python -m peer_code.p2pfl_node PLAN NUMBER`: one node of p2pfl. It connects to those before it; the last one begins.

Its learner is a plain PyTorch loop, not Lightning's trainer, and it does not evaluate. All nodes train in every round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset  # type: ignore[import-not-found]  # it lives in the peer's environment
from p2pfl.settings import Settings  # type: ignore[import-not-found]

Settings.general.DISABLE_RAY = True  # else a Ray cluster is started for each node as soon as p2pfl is imported

from p2pfl.communication.protocols.protobuff.grpc import (  # type: ignore[import-not-found]  # noqa: E402
    GrpcClient,
    GrpcCommunicationProtocol,
    GrpcServer,
)
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.learning.frameworks import Framework  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.learning.frameworks.learner import Learner  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.learning.frameworks.p2pfl_model import P2PFLModel  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.node import Node  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.utils.node_component import allow_no_addr_check  # type: ignore[import-not-found]  # noqa: E402
from p2pfl.utils.utils import set_standalone_settings  # type: ignore[import-not-found]  # noqa: E402

from .crew import LISTEN_VARIABLE, MEET_VARIABLE, ports  # noqa: E402
from .learner import Harness, LocalTraining, accuracy, read_plan, read_samples  # noqa: E402

MEET_S = 180.0  # all of them import PyTorch at once before
LATER_S = 600.0  # no node waits longer for the others' end
POLL_S = 0.01


class TorchModel(P2PFLModel):  # type: ignore[misc]
    """A module, as p2pfl wants one."""

    def get_parameters(self) -> list[np.ndarray[Any, Any]]:
        """What is sent."""
        return [tensor.detach().cpu().numpy() for tensor in self.model.state_dict().values()]

    def set_parameters(self, params: list[np.ndarray[Any, Any]] | bytes) -> None:
        """Take what was received."""
        if isinstance(params, bytes):
            params, info = self.decode_parameters(params)
            self.additional_info.update(info)
        names = self.model.state_dict().keys()
        self.model.load_state_dict({name: torch.tensor(array) for name, array in zip(names, params, strict=True)})

    def get_framework(self) -> str:
        """As p2pfl calls it."""
        return str(Framework.PYTORCH.value)


class StepwiseLearner(Learner):  # type: ignore[misc]
    """One that trains for the plan's steps."""

    training: LocalTraining

    def fit(self) -> P2PFLModel:
        """Train."""
        self.training.train()
        model = self.get_model()
        model.set_contribution([self.addr], len(self.training.x))
        return model

    def interrupt_fit(self) -> None:
        """It is over soon."""

    def evaluate(self) -> dict[str, float]:
        """Nobody evaluates during the rounds."""
        return {}

    def get_framework(self) -> str:
        """As p2pfl calls it."""
        return str(Framework.PYTORCH.value)


class CountingClient(GrpcClient):  # type: ignore[misc]
    """p2pfl's own client that counts the models that it sends."""

    num_models = 0

    def send(self, msg: Any, *arguments: Any, **named: Any) -> str:
        """Send."""
        if msg.HasField("weights"):
            CountingClient.num_models += 1
        answer: str = super().send(msg, *arguments, **named)
        return answer


class OwnPortServer(GrpcServer):  # type: ignore[misc]
    """p2pfl's own server, which may listen at another port than that at which the others know it."""

    listen = ""

    def start(self, wait: bool = False) -> None:
        """Listen."""
        known: str = self.addr
        self.addr: str = self.listen
        super().start(wait)
        self.addr = known


class Protocol(GrpcCommunicationProtocol):  # type: ignore[misc]
    """p2pfl's own protocol, with both."""

    @allow_no_addr_check  # type: ignore[untyped-decorator]
    def bluid_client(self, *arguments: Any, **named: Any) -> GrpcClient:
        """A client."""
        return CountingClient(*arguments, **named)

    @allow_no_addr_check  # type: ignore[untyped-decorator]
    def build_server(self, *arguments: Any, **named: Any) -> GrpcServer:
        """A server."""
        return OwnPortServer(*arguments, **named)


def wait_until(true: Callable[[], bool], what: str, limit_s: float = MEET_S) -> None:
    """Wait. Raises RuntimeError where it takes too long."""
    deadline_s = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"not within {limit_s:g} s: {what}")
        time.sleep(POLL_S)


def main(path: str, number: int) -> None:
    """Run one node of the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    set_standalone_settings()  # as in p2pfl's own examples
    meet = [f"127.0.0.1:{port}" for port in ports(MEET_VARIABLE)]
    OwnPortServer.listen = f"127.0.0.1:{ports(LISTEN_VARIABLE)[number]}"
    learner = StepwiseLearner()
    learner.training = LocalTraining(plan, number)
    node = Node(
        TorchModel(learner.training.model, num_samples=plan.num_samples, contributors=[meet[number]]),
        P2PFLDataset(Dataset.from_dict({"none": [0]}), batch_size=plan.batch_size),  # the learner has its own
        addr=meet[number],
        learner=learner,
        protocol=Protocol(),
    )
    told = 0

    def tell_of_rounds(increase: Callable[[], None]) -> Callable[[], None]:
        def increased() -> None:
            nonlocal told
            increase()
            told += 1
            harness.round_ended(told, models=CountingClient.num_models)

        return increased

    node.state.increase_round = tell_of_rounds(node.state.increase_round)
    node.start()
    for other in meet[:number]:
        wait_until(lambda other=other: node.connect(other), f"a connection to {other}")  # type: ignore[misc]
    wait_until(lambda: len(node.get_neighbors()) == plan.num_nodes - 1, "all the others are neighbours")
    harness.ready()
    if number == plan.num_nodes - 1:
        node.set_start_learning(rounds=plan.num_rounds, epochs=1, trainset_size=plan.num_nodes)
    wait_until(lambda: told == plan.num_rounds, "the last round", LATER_S)
    harness.learned(accuracy(node.get_model().get_model(), read_samples(plan.samples)))
    time.sleep(LATER_S)  # others may still want something of it; the crew ends it


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
