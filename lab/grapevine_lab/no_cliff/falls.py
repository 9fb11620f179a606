"""Figures of a run, out of what each agent's released model was worth at the beginning of each of its rounds.

A *fall* is what accuracy goes below the mean of the five readings before an event, within the fifteen rounds after it
(of a flapping server: until it is back for good, where that is later). Negative: it never went below. In points of a
hundred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BEFORE: Final = 5  # readings, of which the mean is what was there
AFTER: Final = 15  # rounds
SHARE_OF_FINAL: Final = 0.95

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Fall:
    """Around one event, in points."""

    event: str
    mean: float  # of the agents' mean
    agent: float  # of the agent that fell most


def fall_at(metric: Array, event: str, round_: int, until: int = 0) -> Fall:
    """The fall of accuracies [agents, rounds] after an event's round. Raises ValueError where it is out of them."""
    last = max(until, round_ + AFTER)
    if round_ < BEFORE or round_ >= metric.shape[1]:
        raise ValueError(f"{event} at round {round_} of {metric.shape[1]}: {BEFORE} rounds are needed before it")
    before, after = metric[:, round_ - BEFORE : round_], metric[:, round_:last]
    mean = before.mean() - after.mean(axis=0).min()
    agent = (before.mean(axis=1) - after.min(axis=1)).max()
    return Fall(event=event, mean=100 * float(mean), agent=100 * float(agent))


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What it took until the agents' mean reached a value; infinite where it never did."""

    rounds: float = math.inf
    seconds: float = math.inf  # virtual
    megabytes: float = math.inf  # of all agents, sent and received


def reached(metric: Array, time_s: Array, traffic: Array, target: float) -> Reached:
    """When the mean of accuracies [agents, rounds] was at a value first; `traffic`: bytes of each agent until then."""
    at = np.flatnonzero(metric.mean(axis=0) >= target)
    if not len(at):
        return Reached()
    turn = int(at[0])
    return Reached(rounds=turn, seconds=float(time_s[:, turn].mean()), megabytes=float(traffic[:, turn].sum()) / 1e6)
