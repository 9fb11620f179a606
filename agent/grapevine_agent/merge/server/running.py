"""A weighted mean of models that are folded in one by one, so that none of them has to be kept.

    S ← S + q·θ        Q ← Q + q        mean = S/Q        q = u·weight

S is one float32 vector. What stands of each sender is remembered as a number, not as a model, and a sender that speaks
again adds only what is missing to its weight: however often it speaks, it weighs no more than once.

    q = u·max(0, weight − what stands of it)

S is brought back to Q = 1 when Q has outgrown `LARGEST_WEIGHT`, so that no sum of finite models overflows.

A mean of which somebody's share is bounded (`BoundedMean`) keeps its heaviest senders apart: with shares of at most 1/2
there is one that can be above, with 1/m at most m − 1. Their newest models are held as they came, until somebody
heavier comes or the mean is made; all others are in S. The shares are those that `bounded_shares` gives for all of
them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from grapevine_agent.merge.halves import BLOCK, by_halves
from grapevine_agent.merge.server.interface import MAX_MEMBERS
from grapevine_agent.merge.voices import bounded_shares, mixed_count, weighted_sum
from grapevine_proto.messages import Vector

LARGEST_WEIGHT: Final = 1024.0  # that Q reaches before S is scaled; models are below 1e30, float32 ends at 3e38
LEAST_WEIGHT: Final = 1e-6  # of a sender that has nothing to show: nothing beside one that has, a voice among its like
MOST_TIMES: Final = 1e6  # as heavy as one model all others may be; models are below 1e30, float32 ends at 3e38
MOST_APART: Final = 16  # senders of which a model is held, whatever their share may be at most


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is folded in: a member's model, float32 [p] and [b], with its age and its weight in the mean."""

    peer: str
    weight: float
    parameters: Vector
    buffers: Vector
    age: int


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean of models, new vectors; `age` is mixed by the same shares."""

    parameters: Vector
    buffers: Vector
    age: int


def fold(total: Vector, vector: Vector, factor: float, keep: float = 1.0) -> None:
    """`total` ← keep·`total` + factor·`vector`, in place, float32, by blocks: 12 bytes of memory move a number."""
    # Without dimensions: NumPy takes them twice as fast as its own scalars.
    by, kept = np.array(factor, np.float32), np.array(keep, np.float32)

    def add(first: int, end: int) -> None:
        scratch = np.empty(min(BLOCK, end - first), np.float32)
        for start in range(first, end, BLOCK):
            span = slice(start, min(start + BLOCK, end))
            out = total[span]
            if keep != 1.0:
                np.multiply(out, kept, out=out)
            np.add(out, np.multiply(vector[span], by, out=scratch[: out.size]), out=out)

    by_halves(total.size, add)


def add_to_scaled(total: Vector, vector: Vector, keep: float) -> None:
    """`total` ← keep·`total` + `vector`, in place, float32, by blocks: what is in cache is scaled, what comes is added.

    A third less time than `fold` where memory is fast, and no scratch.
    """
    kept = np.array(keep, np.float32)

    def add(first: int, end: int) -> None:
        for start in range(first, end, BLOCK):
            span = slice(start, min(start + BLOCK, end))
            out = total[span]
            np.multiply(out, kept, out=out)
            np.add(out, vector[span], out=out)

    by_halves(total.size, add)


@dataclass
class RunningMean:
    """See the module's docstring. Its vectors are made with the first model, and used again after `clear`."""

    max_names: int = MAX_MEMBERS  # of whom it is known what stands of them: who was heard longest ago goes first
    _total: Vector | None = None
    _total_buffers: Vector | None = None
    _scaled: float = 1.0  # by what the vectors are Σ q·θ: so that the newest model is in them as it came
    _weight: float = 0.0  # Q
    _unit: float = 1.0  # u
    _age: float = 0.0  # Σ q·age
    _ages: tuple[int, int] = (0, 0)  # the least and the largest of those that are in it
    _standing: OrderedDict[str, float] = field(default_factory=OrderedDict)  # sender → q

    @property
    def weight(self) -> float:
        """What all that stands weighs, in the unit of `Said.weight`."""
        return self._weight / self._unit

    @property
    def age(self) -> int:
        """The mean of the ages."""
        low, high = self._ages
        return min(max(round(self._age / self._weight), low), high) if self._weight else 0

    def standing(self, peer: str) -> float:
        """What stands of a sender, in the unit of `Said.weight`."""
        return self._standing.get(peer, 0.0) / self._unit

    def clear(self) -> None:
        """Nothing stands any more."""
        self._weight = self._age = 0.0
        self._standing.clear()

    def add(self, said: Said) -> None:
        """Fold a model in, for all of its weight."""
        if not said.weight > 0:
            return
        if not self._weight:
            self._unit, self._ages = 1 / said.weight, (said.age, said.age)
        share = said.weight * self._unit
        if self._weight and self._weight + share > LARGEST_WEIGHT:
            self._scale(1 / (self._weight + share))
            share = said.weight * self._unit
        self._fold(said, share)
        self._weight += share
        self._age += share * said.age
        low, high = self._ages
        self._ages = min(low, said.age), max(high, said.age)
        self._standing[said.peer] = self._standing.get(said.peer, 0.0) + share
        self._standing.move_to_end(said.peer)
        if len(self._standing) > self.max_names:
            self._standing.popitem(last=False)

    def _fold(self, said: Said, share: float) -> None:
        if self._total is None or self._total_buffers is None:
            self._total, self._total_buffers = np.empty_like(said.parameters), np.empty_like(said.buffers)
        pairs = ((self._total, said.parameters), (self._total_buffers, said.buffers))
        if self._weight > MOST_TIMES * share:  # scaled so far up that this model counts as it came, it might overflow
            for total, vector in pairs:
                fold(total, vector, share * self._scaled)
            return
        scaled = 1 / share
        for total, vector in pairs:
            if self._weight:
                add_to_scaled(total, vector, scaled / self._scaled)
            else:
                np.copyto(total, vector)
        self._scaled = scaled

    def _scale(self, factor: float) -> None:
        assert self._total is not None
        assert self._total_buffers is not None
        self._total *= np.float32(factor)
        self._total_buffers *= np.float32(factor)
        self._weight *= factor
        self._unit *= factor
        self._age *= factor
        for peer in self._standing:
            self._standing[peer] *= factor

    def take(self, other: RunningMean, weight: float, own_weight: float) -> None:
        """Take the mean of another one in for `weight`; what is in this one weighs `own_weight` from now on.

        The names stay as they are, and no longer say what stands of whom.
        """
        assert other._total is not None
        assert other._total_buffers is not None
        self._unit = self._weight / own_weight
        said = Said(
            peer="",
            weight=weight / (other._weight * other._scaled),
            parameters=other._total,
            buffers=other._total_buffers,
            age=other.age,
        )
        if self._weight + weight * self._unit > LARGEST_WEIGHT:
            self._scale(1 / (self._weight + weight * self._unit))
        self._fold(said, said.weight * self._unit)
        self._weight += weight * self._unit
        self._age += weight * self._unit * other.age
        (low, high), (its_low, its_high) = self._ages, other._ages
        self._ages = min(low, its_low), max(high, its_high)

    def part(self) -> tuple[Vector, Vector, float]:
        """What is summed, its buffers, and what they are divided by. They are not to be written to."""
        assert self._total is not None
        assert self._total_buffers is not None
        return self._total, self._total_buffers, self._weight * self._scaled


@dataclass
class BoundedMean:
    """The mean of what members say, the share of each bounded: see the module's docstring."""

    _mean: RunningMean = field(default_factory=RunningMean)
    _apart: dict[str, Said] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many models are held: the sum, and those that are kept apart."""
        return (self._mean.weight > 0) + len(self._apart)

    def clear(self) -> None:
        """Nothing stands any more."""
        self._apart.clear()
        self._mean.clear()

    def add(self, said: Said, max_share: float) -> None:
        """Fold in what is missing to this sender's weight; of one that is kept apart, the newest model alone."""
        self._apart.pop(said.peer, None)
        missing = max(said.weight, LEAST_WEIGHT) - self._mean.standing(said.peer)
        if missing <= 0:
            return
        self._apart[said.peer] = replace(said, weight=missing)
        while len(self._apart) > most_apart(max_share):
            self._mean.add(pop_lightest(self._apart))

    def mean(self, max_share: float) -> Mean:
        """The mean of all that stands, of which there must be something."""
        sums = [(self._mean, self._mean.weight)] if self._mean.weight > 0 else []
        return mean_of(list(self._apart.values()), sums, max_share)


def most_apart(max_share: float) -> int:
    """How many senders at most can be above this share, or would be without a bound."""
    return min(MOST_APART, math.ceil(1 / max_share - 1e-9) - 1) if max_share < 1 else 0


def pop_lightest(apart: dict[str, Said]) -> Said:
    """The one that is no longer kept apart. Of equals the one that came first."""
    return apart.pop(min(apart, key=lambda peer: apart[peer].weight))


def mean_of(apart: Sequence[Said], sums: Sequence[tuple[RunningMean, float]], max_share: float) -> Mean:
    """The mean of models that are kept apart, the share of each bounded, and of sums with what each weighs.

    There must be something of either.
    """
    weights, crowd = [said.weight for said in apart], math.fsum(weight for _, weight in sums)
    if sums:
        *shares, left = bounded_shares([*weights, crowd], [*([True] * len(apart)), False], max_share)
    else:
        shares, left = bounded_shares(weights, [True] * len(apart), max_share), 0.0
    of_sums = [left * weight / crowd for _, weight in sums]
    parts = [(said.parameters, said.buffers, share) for said, share in zip(apart, shares, strict=True)]
    for (mean, _), share in zip(sums, of_sums, strict=True):
        total, total_buffers, by = mean.part()
        parts.append((total, total_buffers, share / by))
    factors = [factor for _, _, factor in parts]
    ages = [*(said.age for said in apart), *(mean.age for mean, _ in sums)]
    return Mean(
        parameters=weighted_sum([parameters for parameters, _, _ in parts], factors),
        buffers=weighted_sum([buffers for _, buffers, _ in parts], factors),
        age=mixed_count(ages, [*shares, *of_sums]),
    )
