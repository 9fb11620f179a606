"""Flower's server, in its simulation and in its SuperLink: its own FedAvg, which tells of rounds."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import (  # type: ignore[import-not-found]  # it lives in the peer's environment
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
)
from flwr.serverapp import Grid  # type: ignore[import-not-found]
from flwr.serverapp.strategy import FedAvg  # type: ignore[import-not-found]

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
        self._num_models = 0

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
        self._num_models += 2 * len(answers)  # there and back
        self._harness.round_ended(server_round, models=self._num_models)
        return arrays, metrics


def serve(grid: Grid, path: str, harness: Harness) -> None:
    """Run the plan at `path`, and say how well the last model does."""
    plan = read_plan(path)
    model = new_model(plan)
    found = ReportingFedAvg(plan, harness).start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        num_rounds=plan.num_rounds,
        train_config=ConfigRecord({"plan": path}),
    )
    model.load_state_dict(found.arrays.to_torch_state_dict())
    harness.learned(accuracy(model, read_samples(plan.samples)))
