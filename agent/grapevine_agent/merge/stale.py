"""Updates that are far behind weigh less: the polynomial staleness discount, around any strategy.

Xie, Koyejo and Gupta, "Asynchronous Federated Optimization" (2019), section 5.1: a server takes an update that is
t − τ steps behind with α·s(t − τ), s(x) = (1 + x)^−a, a = 0.5. Here what is behind by no more than `stale_after`
optimiser steps is not stale, and counts whole; beyond, x is counted in as many steps:

    s = (1 + (behind − stale_after)/stale_after)^−a

A share of s·α leaves (1 − s)·α to one's own model. So a pairwise strategy goes s of the way that it would have gone,
which is right to the letter whatever it weighs by. Of a gathered set each voice has an s of its own, and each
is moved towards one's own model before the strategy sees it: where models are mixed by weights that comes to the same,
a sum of changes has s of each change, and to those that judge models (medians, Krum, cosines) it is the moved one
that is judged. Nothing is ever pushed out of where the strategy alone could have gone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from grapevine_agent.merge.voices import Context, Merged, Strategy, Voice, mixed_count, weighted_sum
from grapevine_proto.messages import Vector

EXPONENT: Final = 0.5  # a of FedAsync


def is_stale(behind: int, stale_after: int) -> bool:
    """Whether a model that is so many optimiser steps behind is stale; with `stale_after` 0 none ever is."""
    return stale_after > 0 and behind > stale_after


def freshness(behind: int, stale_after: int) -> float:
    """s, above 0 and at most 1: what the share of a model is multiplied by that is so many steps behind."""
    return math.pow(behind / stale_after, -EXPONENT) if is_stale(behind, stale_after) else 1.0


def merge_by_freshness(strategy: Strategy, *, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
    """What the strategy makes of the voices, each of which has its share times its freshness. See the module."""
    if all(voice.freshness >= 1 for voice in received):
        return strategy.merge(local=local, received=received, context=context)
    if strategy.pairwise:
        (voice,) = received
        return _so_far(local, strategy.merge(local=local, received=received, context=context), voice.freshness)
    merged = strategy.merge(local=local, received=[_moved(local, voice) for voice in received], context=context)
    return _with_counts(merged, local, received)


def _so_far(local: Voice, merged: Merged, part: float) -> Merged:
    """A part of the way from the local model to what it was merged into."""
    parts = (1 - part, part)
    shares = {peer: part * share for peer, share in merged.shares.items()}
    if local.peer in shares:  # they sum to 1
        shares[local.peer] += 1 - part
    return Merged(
        parameters=weighted_sum((local.parameters, merged.parameters), parts),
        buffers=weighted_sum((local.buffers, merged.buffers), parts),
        age=mixed_count((local.age, merged.age), parts),
        experience=mixed_count((local.experience, merged.experience), parts),
        shares=shares,
    )


def _moved(local: Voice, voice: Voice) -> Voice:
    """A voice, moved towards the local one; its age stays, since weights are made of it."""
    if voice.freshness >= 1:
        return voice

    def between(own: Vector, theirs: Vector) -> Vector:
        return weighted_sum((own, theirs), (1 - voice.freshness, voice.freshness))

    base = None if voice.base is None else between(local.parameters, voice.base)
    parameters = between(local.parameters, voice.parameters)
    return replace(voice, parameters=parameters, buffers=between(local.buffers, voice.buffers), base=base)


def _with_counts(merged: Merged, local: Voice, received: Sequence[Voice]) -> Merged:
    """Shares, age and experience as they are when a part of each stale share is one's own."""
    shares = dict(merged.shares)
    age, experience = float(merged.age), float(merged.experience)
    for voice in received:
        left = (1 - voice.freshness) * shares.get(voice.peer, 0.0)
        if left:
            shares[voice.peer] -= left
            shares[local.peer] = shares.get(local.peer, 0.0) + left
            age += left * (local.age - voice.age)
            experience += left * (local.experience - voice.experience)
    most = max(voice.age for voice in (local, *received))
    return replace(merged, shares=shares, age=min(max(0, round(age)), most), experience=max(0, round(experience)))
