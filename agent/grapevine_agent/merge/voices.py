"""What goes into a merge and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from grapevine_agent.merge.halves import BLOCK, by_halves
from grapevine_proto.messages import Vector


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One model that takes part in a merge.

    Vectors are float32: `parameters` and `base` [p], `buffers` [b]. `age` counts optimiser steps,
    `experience` samples processed (Chisme's μ), `samples` the size of the data set |D|. `base` is what
    the voice's delta is taken from: for an update, the first base of the sender's open window; for
    the local voice, the model before its last training. Without one the delta is zero.
    `source_weight` is 1 for peers and for oneself, and ρ·h(τ) for a server's model. `seen`: this very
    model of the server took part in an earlier merge. `freshness`: see `stale`.
    """

    peer: str
    parameters: Vector
    buffers: Vector
    age: int = 0
    experience: int = 0
    samples: int = 0
    base: Vector | None = None
    kind: Literal["peer", "server"] = "peer"
    source_weight: float = 1.0
    seen: bool = False
    freshness: float = 1.0  # what its share is multiplied by


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a strategy may need beside the voices.

    `constants` has a value for every constant of the strategy. `max_share` bounds the share of any single
    peer that is not a server, where a strategy has shares. `epoch` is t of Delta Sum: local epochs
    completed. `experiences` is Chisme's map M_i: the newest experience heard from each sender, and
    one's own. `spans` are the parameters' tensors in the vector, for what works per tensor. `rng` is
    the only source of randomness.
    """

    constants: Mapping[str, float] = field(default_factory=dict)
    max_share: float = 1.0
    epoch: int = 0
    experiences: Mapping[str, int] = field(default_factory=dict)
    spans: Sequence[slice] = ()
    rng: np.random.Generator = field(default_factory=np.random.default_rng)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The merged model and its counters.

    `shares` says what each voice weighed. In a convex strategy they sum to 1 and are what buffers were mixed by;
    for the others each docstring says what they are (Chisme: η of each update).
    """

    parameters: Vector
    buffers: Vector
    age: int
    experience: int
    shares: Mapping[str, float]


class Merger(Protocol):
    """A strategy: merge what was received into the local model. With nothing received, local comes back."""

    def __call__(self, *, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
        """Merge. Nothing that is given is modified; the same arguments give the same result."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A strategy's constant: its default, and its closed range."""

    default: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A merger with what the rest needs to know of it.

    `pairwise` strategies take updates one by one in order of arrival; the others take the gathered
    set. `needs_base`: updates should say where they started, so their senders send base and delta.
    `personal`: members keep models of their own, and there is no consensus. `is_mean`: what comes out is the mean of
    the voices by their shares. `hears_peers`: peers' models count; where they do not, members send each other none.
    `memory` is what a merge of |R| updates holds, in words, with p the size of one model.
    """

    merge: Merger
    pairwise: bool
    source: str  # paper and equations
    memory: str
    constants: Mapping[str, Constant] = field(default_factory=dict)
    needs_base: bool = False
    personal: bool = False
    is_mean: bool = False
    hears_peers: bool = True

    def with_defaults(self, given: Mapping[str, float]) -> dict[str, float]:
        """Every constant of the strategy: as given, else its default."""
        return {name: given.get(name, constant.default) for name, constant in self.constants.items()}


def age_weight(age: int, constants: Mapping[str, float]) -> float:
    """g(a) = a^p, p = 1 by default (Hegedűs et al. 2019)."""
    return math.pow(age, constants.get("p", 1.0))


def age_weights(ages: Sequence[int], constants: Mapping[str, float]) -> list[float]:
    """What models of these ages weigh in one merge; 1 for all of them while nobody has trained.

    g(a) = a^p, or g(a) = (1 + (a_max − a)/A)^−p where the constant A is above 0: the ages of an old
    crowd are nearly the same in proportion, and only their difference still tells fresh from stale.
    """
    newest, span, exponent = max(ages), constants["A"], constants["p"]
    if newest == 0:
        return [1.0] * len(ages)
    if span > 0:
        return [math.pow(1 + (newest - age) / span, -exponent) for age in ages]
    return [age_weight(age, constants) for age in ages]


AGE_CONSTANTS: Mapping[str, Constant] = {
    "p": Constant(default=1.0, low=0.0, high=4.0, meaning="the exponent of the age weight; 0: ages do not matter"),
    "A": Constant(
        default=0.0,
        low=0.0,
        high=1e9,
        meaning="optimiser steps behind the newest model that halve a model's weight (p = 1); 0: weigh by a^p",
    ),
}


def counted(received: Sequence[Voice]) -> list[Voice]:
    """The voices that a strategy without weights counts, once each.

    That is everybody but a server that has faded below one voice: one that is lost must not count for ever.
    """
    return [voice for voice in received if voice.source_weight >= 1]


def unchanged(local: Voice) -> Merged:
    """What a merge of nothing gives: the local model itself."""
    return Merged(
        parameters=local.parameters,
        buffers=local.buffers,
        age=local.age,
        experience=local.experience,
        shares={local.peer: 1.0},
    )


def mixed_count(counts: Sequence[int], shares: Sequence[float]) -> int:
    """Σ shares[j]·counts[j], rounded: the age, or the experience, of a mix of models.

    A model of which a tenth was taken brings a tenth of its steps. By the largest, what others trained
    between two of one's own steps would count as one's own, and ages would outrun anybody's training.
    """
    mixed = round(math.fsum(share * count for count, share in zip(counts, shares, strict=True)))
    taken = [count for count, share in zip(counts, shares, strict=True) if share > 0]
    return min(max(mixed, min(taken)), max(taken))  # shares sum to 1 but for their last digits


def larger_count(counts: Sequence[int], shares: Sequence[float]) -> int:
    """The largest count among the models that have a share: how papers merge ages (Hegedűs et al. 2019)."""
    return max(count for count, share in zip(counts, shares, strict=True) if share > 0)


def merged_of_equals(voices: Sequence[Voice], *, parameters: Vector, buffers: Vector) -> Merged:
    """A merge in which every one of n voices has the share 1/n; so have their ages and experiences."""
    equal = [1 / len(voices)] * len(voices)
    shares = dict.fromkeys((voice.peer for voice in voices), 0.0)
    for voice in voices:
        shares[voice.peer] += 1 / len(voices)
    return Merged(
        parameters=parameters,
        buffers=buffers,
        age=mixed_count([voice.age for voice in voices], equal),
        experience=mixed_count([voice.experience for voice in voices], equal),
        shares=shares,
    )


def weighted_sum(vectors: Sequence[Vector], shares: Sequence[float]) -> Vector:
    """Σ shares[j]·vectors[j], float32 [p]; `shares` are not negative and sum to 1.

    One pass over memory, or two over its halves (`halves`): it goes block by block, so that each block of the
    result is written while it is in cache, whatever the number of vectors. What comes from memory is only ever
    added; the weights enter through the block that is in cache, by Horner's rule, the smallest share first:

        ((s₀/s₁·v₀ + v₁)·s₁/s₂ + v₂)·…·sₙ

    That takes less time than scaling each vector apart, and one buffer less. No factor exceeds 1, so
    nothing is magnified; sums of elements beyond 1e37 could overflow, which no useful model has.
    """
    voiced = sorted(((share, j) for j, share in enumerate(shares) if share > 0))
    order = [vectors[j] for _, j in voiced]
    heavier = [*(share for share, _ in voiced[1:]), 1.0]
    # Arrays without dimensions: NumPy takes them twice as fast as its own scalars.
    factors = [np.array(share / next_, np.float32) for (share, _), next_ in zip(voiced, heavier, strict=True)]
    total = np.empty(vectors[0].shape, np.float32)

    def sum_up(first: int, end: int) -> None:
        for start in range(first, end, BLOCK):
            span = slice(start, min(start + BLOCK, end))
            out = total[span]
            np.multiply(order[0][span], factors[0], out=out)
            for vector, factor in zip(order[1:], factors[1:], strict=True):
                np.add(out, vector[span], out=out)
                np.multiply(out, factor, out=out)

    by_halves(total.size, sum_up)
    return total


def bounded_shares(weights: Sequence[float], bounded: Sequence[bool], max_share: float) -> list[float]:
    """Normalise weights to shares, holding every `bounded` one at `max_share` or below.

    Weights that are all zero become equal. What is cut off is given to the others in proportion to
    their weights; where there are no others, everybody gets the same.
    """
    if not sum(weights) > 0:
        weights = [1.0] * len(weights)
    limit = max(max_share, 1.0 / len(weights))
    held: set[int] = set()
    while True:
        free = [j for j in range(len(weights)) if j not in held]
        left = 1.0 - limit * len(held)
        mass = sum(weights[j] for j in free)
        if mass <= 0:
            spread = left / len(free) if free else 0.0
            shares = [limit if j in held else spread for j in range(len(weights))]
            total = sum(shares)
            return [share / total for share in shares]
        shares = [limit if j in held else left * (weights[j] / mass) for j in range(len(weights))]
        over = {j for j in free if bounded[j] and shares[j] > limit + 1e-12}
        if not over:
            return shares
        held |= over
