"""`python -m peer_code.flower_run PLAN`: federated averaging in Flower's simulation engine.

All clients train in every round, and are not evaluated. Flower's engine, Ray, runs as many of them at a
time as there are cores, in processes that stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from flwr.app import (  # type: ignore[import-not-found]  # it lives in the peer's environment
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
)
from flwr.serverapp import Grid, ServerApp  # type: ignore[import-not-found]
from flwr.serverapp.strategy import FedAvg  # type: ignore[import-not-found]
from flwr.simulation import run_simulation  # type: ignore[import-not-found]

from .flower_client import app as client_app
from .learner import Harness, Plan, accuracy, new_model, read_plan, read_samples


class ReportingFedAvg(FedAvg):  # type: ignore[misc]
    """Flower's own FedAvg that tells the harness when a round begins and ends."""

    def __init__(self, plan: Plan, harness: Harness) -> None:
        super().__init__(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=plan.num_nodes,
            min_available_nodes=plan.num_nodes,
        )
        self._harness = harness

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Make the messages of a round."""
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        if server_round == 1:
            self._harness.ready()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the answers of a round. Raises RuntimeError when a client has failed."""
        answers = list(replies)
        if failed := [answer for answer in answers if answer.has_error()]:
            raise RuntimeError(f"{len(failed)} clients failed: {failed[0].error.reason}")
        arrays, metrics = super().aggregate_train(server_round, answers)
        self._harness.round_ended(server_round)
        return arrays, metrics


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Grid, _context: Context) -> None:
        model = new_model(plan)
        found = ReportingFedAvg(plan, harness).start(
            grid=grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            num_rounds=plan.num_rounds,
            train_config=ConfigRecord({"plan": path}),
        )
        model.load_state_dict(found.arrays.to_torch_state_dict())
        harness.learned(accuracy(model, read_samples(plan.samples)))

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=plan.num_nodes,
        backend_config={
            "init_args": {"num_cpus": plan.num_cores, "include_dashboard": False, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
