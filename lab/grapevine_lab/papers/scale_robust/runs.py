"""The paper's settings, and its scenarios run by the simulator's agents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES, staleness_bound
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.measurements import grouped
from grapevine_lab.simulator.plots import Curve
from grapevine_lab.simulator.run import Outcome, run_seed
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_lab.simulator.summary import SETTLED_SHARE

Task: TypeAlias = Literal["linear", "nonlinear"]

ROUND_S: Final = 0.01  # of the tasks: sends_per_round is λ times this
NUM_SPANS: Final = 40  # of a run, in which losses are averaged
RATES: Final[Mapping[str, Callable[[int], float]]] = {
    "Θ(1)": lambda _n: 10.0,
    "Θ(log log n)": lambda n: 10.0 * math.log(math.log(n)),
    "Θ(log n)": lambda n: 10.0 * math.log(n),
}
"""The paper's λ by the number of users. Not the agents' policies, which send at least as often as `constant`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One curve of figs. 3 and 4."""

    task: Task
    num_nodes: int
    send_rate: float  # λ, 1/s
    num_distributions: int = 1  # m
    duration_s: float = 40.0
    learning_rate: float = 0.0  # 0: the task's
    batch_size: int = 1
    seed: int = 0

    def changes(self) -> list[str]:
        """What `--set` would take, over the scenario `scale-robust-<task>`."""
        optimiser = [f"task.training.optimiser={{ name = 'sgd', learning_rate = {self.learning_rate!r} }}"]
        return [
            f"nodes.num={self.num_nodes}",
            f"task.merging.sends_per_round={round(self.send_rate * ROUND_S, 6)!r}",
            f"data.num_distributions={self.num_distributions}",
            f"data.seed={self.seed}",
            f"scenario.duration_s={self.duration_s!r}",
            f"task.training.batch_size={self.batch_size}",
            *(optimiser if self.learning_rate else ()),
        ]


def loss_curve(setting: Setting) -> Curve:
    """Mean loss over the users' models in each of `NUM_SPANS` spans of virtual time, as a share of it at the start.

    A model is read when its node begins a round, merged and not yet trained.
    """
    readings = _run(f"scale-robust-{setting.task}", setting.changes(), setting.seed).measurements.readings
    times_s, loss, turns = (readings.column(name) for name in ("time_s", "loss", "round"))
    start = float(loss[turns == 0].mean())
    width_s = setting.duration_s / NUM_SPANS
    spans = np.minimum(times_s // width_s, NUM_SPANS - 1)
    groups = grouped(spans, np.nan_to_num(loss, nan=np.inf, posinf=np.finfo(float).max))
    x = np.append(0.0, (groups.keys + 0.5) * width_s)
    mean = np.append(1.0, groups.mean() / start)
    return Curve(x=x, median=mean, low=mean, high=mean)


@dataclass(frozen=True, kw_only=True)
class AgentsStaleness:
    """Staleness among agents, in versions, and Lemma 1's bound with the rates that they had."""

    mean: float
    bound: float
    update_rate: float  # measured, 1/s


def agents_staleness(
    *, num_nodes: int, policy: str, duration_s: float, seed: int = 0, changes: Sequence[str] = (), loss: float = 0.0
) -> AgentsStaleness:
    """Run `scale-robust-staleness`: mean over the second half of the run, and over all agents' samples in it."""
    told = [
        f"nodes.num={num_nodes}",
        f"task.merging.send_rate={policy}",
        f"scenario.duration_s={duration_s!r}",
        f"network.loss={loss!r}",
        *changes,
    ]
    samples = _run("scale-robust-staleness", told, seed).measurements.samples
    times_s = samples.column("time_s")
    settled = times_s >= SETTLED_SHARE * duration_s
    nodes, versions = samples.column("node"), samples.column("version")
    # Versions per second, each node between its first and its last sample of all.
    rates = []
    for node in range(num_nodes):
        own = nodes == node
        rates.append(np.ptp(versions[own]) / np.ptp(times_s[own]))
    update_rate = float(np.mean(rates))
    send_rate = (1 - loss) * SEND_RATE_POLICIES[policy](num_nodes)
    return AgentsStaleness(
        mean=float(samples.column("staleness")[settled].mean()),
        bound=staleness_bound(num_members=num_nodes, update_rate=update_rate, send_rate=send_rate),
        update_rate=update_rate,
    )


def _run(scenario: str, changes: Sequence[str], seed: int) -> Outcome:
    return run_seed(prepare(read_scenario(find_scenario(scenario), changes=changes)), seed)
