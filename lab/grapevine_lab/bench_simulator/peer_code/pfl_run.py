"""`python -m peer_code.pfl_run PLAN`: federated averaging in pfl-research's simulator, in one process.

All users train in every round. What a user trains on in a round are the batches of that round, one after the other:
pfl ends a user's training when it has gone through the samples, however many steps are left.
"""

from __future__ import annotations

import sys

import torch
from pfl.aggregate.simulate import SimulatedBackend  # type: ignore[import-not-found]  # in the peer's environment
from pfl.algorithm.base import NNAlgorithmParams  # type: ignore[import-not-found]
from pfl.algorithm.federated_averaging import FederatedAveraging  # type: ignore[import-not-found]
from pfl.callback.base import TrainingProcessCallback  # type: ignore[import-not-found]
from pfl.data.dataset import Dataset  # type: ignore[import-not-found]
from pfl.data.federated_dataset import FederatedDataset  # type: ignore[import-not-found]
from pfl.data.sampling import get_user_sampler  # type: ignore[import-not-found]
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams  # type: ignore[import-not-found]
from pfl.metrics import Metrics  # type: ignore[import-not-found]
from pfl.model.pytorch import PyTorchModel  # type: ignore[import-not-found]
from torch import Tensor, nn

from .learner import Harness, Plan, accuracy, batches, new_model, read_plan, read_samples, rows_of


class Trained(nn.Module):
    """The plan's model, as pfl wants one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._loss = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, classes]."""
        scores: Tensor = self.module(x)
        return scores

    def loss(self, x: Tensor, y: Tensor, is_eval: bool = False) -> Tensor:
        """What is made less."""
        self.train(not is_eval)
        loss: Tensor = self._loss(self(x), y)
        return loss

    def metrics(self, _x: Tensor, _y: Tensor, _is_eval: bool = False) -> dict[str, float]:
        """None: nobody evaluates during the rounds."""
        return {}


class RoundReporter(TrainingProcessCallback):  # type: ignore[misc]
    """Tells the harness when a round ends."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def after_central_iteration(
        self, _aggregate_metrics: Metrics, _model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """A round has ended; the first is number 0."""
        self._harness.round_ended(central_iteration + 1)
        return False, Metrics()


def users_of(plan: Plan) -> FederatedDataset:
    """Users who hold the plan's samples."""
    samples = read_samples(plan.samples)

    def user(number: int) -> Dataset:
        rows = rows_of(number, plan)
        chosen = torch.cat(list(batches(plan.num_samples, plan.batch_size, plan.num_steps)))
        return Dataset(raw_data=[samples.x[rows][chosen], samples.y[rows][chosen]], user_id=str(number))

    return FederatedDataset(user, get_user_sampler("minimize_reuse", list(range(plan.num_nodes))))


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    module = Trained(new_model(plan))
    users = users_of(plan)
    harness.ready()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=plan.num_rounds,
            evaluation_frequency=plan.num_rounds + 1,  # of which the one before the first round is left
            train_cohort_size=plan.num_nodes,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=users, val_data=users),
        PyTorchModel(
            module,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        ),
        NNTrainHyperParams(
            local_num_epochs=None,
            local_num_steps=plan.num_steps,
            local_learning_rate=plan.learning_rate,
            local_batch_size=min(plan.batch_size, plan.num_samples),
        ),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[RoundReporter(harness)],
    )
    harness.learned(accuracy(module, read_samples(plan.samples)))


if __name__ == "__main__":
    main(sys.argv[1])
