"""Algorithm 1 of the scale-robust paper on its two synthetic tasks, in plain NumPy: no agents, no messages.

Every node has two Poisson clocks: at μ it adds the change of one gradient step, at λ it sends its model to another
node drawn at random, which mixes it in (β ~ U(0, 1)). It says what the simulator's agents should come to, and it is
quick enough to tell what the send rate does from what the draw of the data does: that takes many runs of each setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.datasets import DatasetPlan
from grapevine_lab.simulator.datasets.dataset import data_folder
from grapevine_lab.simulator.datasets.regression import load_regression

Reals = NDArray[np.float64]

NOTES_PER_UPDATE = 2  # of the loss, in the mean time between two updates of a node
START = {"linear-regression": 0.0, "nonlinear-regression": 0.1}  # of every parameter, as the tasks' models have it


@dataclass(frozen=True, kw_only=True)
class Learning:
    """One setting. Rates in 1/s."""

    plan: DatasetPlan
    send_rate: float  # λ
    learning_rate: float  # α
    batch_size: int = 1  # 0: all that the user has
    update_rate: float = 1.0  # μ
    is_delayed: bool = True  # the gradient is of the model a wait before it is added, as where the wait is the training
    like_agents: bool = False  # not the paper: who has not trained sends nothing, and nobody gets a model that it has


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Loss over all users' test samples, mean over the users' models [k], at `times_s` [k].

    `of_mean` is the loss of the mean model: what is between the two is that users' models are not one.
    """

    times_s: Reals
    loss: Reals
    of_mean: Reals


def run(learning: Learning, *, duration_s: float, seed: int) -> Curve:
    """Run until `duration_s` of virtual time; the data are drawn from the plan's seed, all else from this one."""
    return _Run(learning, np.random.default_rng(seed)).go(duration_s)


class _Run:
    def __init__(self, learning: Learning, rng: np.random.Generator) -> None:
        plan = learning.plan
        dataset = load_regression(plan, data_folder())
        self.learning, self.rng, self.num_nodes = learning, rng, plan.num_users
        self.x = dataset.x.astype(np.float64).reshape(plan.num_users, plan.samples_per_user, -1)
        self.y = dataset.y.astype(np.float64).reshape(plan.num_users, plan.samples_per_user)
        self.x_test, self.y_test = dataset.x_test.astype(np.float64), dataset.y_test.astype(np.float64)[:, 0]
        self.is_linear = plan.name == "linear-regression"
        self.models: Reals = np.full((plan.num_users, self.x.shape[2]), START[plan.name])
        self.changes: Reals = np.zeros_like(self.models)  # that are being computed
        self.has: NDArray[np.bool_] = np.eye(plan.num_users, dtype=bool)  # [sender, receiver]: the sender's model
        self.sends: NDArray[np.bool_] = np.full(plan.num_users, not learning.like_agents)

    def go(self, duration_s: float) -> Curve:
        learning, rng, n = self.learning, self.rng, self.num_nodes
        updates = [(float(rng.exponential(1 / learning.update_rate)), node) for node in range(n)]
        heapify(updates)
        for node in range(n):
            self.changes[node] = self._change(node)
        between_s = 1.0 / (n * learning.send_rate)
        next_send_s = rng.exponential(between_s)
        notes: list[tuple[float, float, float]] = []
        next_note_s = 0.0
        while (now_s := min(updates[0][0], next_send_s)) < duration_s:
            while next_note_s < now_s:
                notes.append((next_note_s, *self._loss()))
                next_note_s += 1.0 / (NOTES_PER_UPDATE * learning.update_rate)
            if now_s == next_send_s:
                self._mix()
                next_send_s += rng.exponential(between_s)
                continue
            _, node = heappop(updates)
            self.models[node] += self.changes[node] if learning.is_delayed else self._change(node)
            self._is_new(node)
            self.sends[node] = True
            if learning.is_delayed:
                self.changes[node] = self._change(node)
            heappush(updates, (now_s + float(rng.exponential(1 / learning.update_rate)), node))
        times_s, loss, of_mean = np.array(notes).T
        return Curve(times_s=times_s, loss=loss, of_mean=of_mean)

    def _mix(self) -> None:
        sender = int(self.rng.integers(self.num_nodes))
        lacking = np.flatnonzero(~self.has[sender])
        if not len(lacking) or not self.sends[sender]:
            return
        receiver = int(lacking[self.rng.integers(len(lacking))])
        beta = self.rng.random()
        self.models[receiver] = beta * self.models[receiver] + (1 - beta) * self.models[sender]
        self._is_new(receiver)
        self.has[sender, receiver] = self.learning.like_agents

    def _is_new(self, node: int) -> None:
        """The node's model has changed: nobody else has it."""
        self.has[node] = np.arange(self.num_nodes) == node

    def _change(self, node: int) -> Reals:
        x, y = self.x[node], self.y[node]
        if self.learning.batch_size:
            chosen = self.rng.integers(len(x), size=self.learning.batch_size)
            x, y = x[chosen], y[chosen]
        theta = self.models[node]
        if self.is_linear:
            gradient = 2 * x.T @ (x @ theta - y) / len(x)
        else:
            first, second = theta
            slope = 2 * (first * x[:, 0] + first * second * x[:, 1] - y) / len(x)
            # ∂f/∂θ₁ is x₁ + θ₂x₂; the paper's text leaves θ₂x₂ out.
            gradient = np.array([slope @ (x[:, 0] + second * x[:, 1]), slope @ (first * x[:, 1])])
        return np.asarray(-self.learning.learning_rate * gradient)

    def _loss(self) -> tuple[float, float]:
        models = np.vstack([self.models, self.models.mean(axis=0)])
        weights = models if self.is_linear else np.stack([models[:, 0], models[:, 0] * models[:, 1]], axis=1)
        errors = np.square(weights @ self.x_test.T - self.y_test).mean(axis=1)
        return float(errors[:-1].mean()), float(errors[-1])
