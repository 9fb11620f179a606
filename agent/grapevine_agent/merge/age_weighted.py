"""`age-weighted`: weigh two models by the optimiser steps that they have seen.

Hegedűs, Danner and Jelasity, "Gossip learning as a decentralized alternative to federated
learning" (DAIS 2019), algorithm 2; equation 2 of the Chisme paper writes it as
α = a_k / (a_i + a_k), θ_i ← (1 − α)·θ_i + α·θ_k, a_i ← max(a_i, a_k).

By default a_i ← (1 − α)·a_i + α·a_k here, as everywhere in Grapevine: where members train side by side,
the larger age grows two to three times as fast as anybody trains. `age_by_max` = 1 is the paper's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from grapevine_agent.merge.convex import merge_in_turn
from grapevine_agent.merge.voices import AGE_CONSTANTS, Constant, Context, Merged, Strategy, Voice, age_weights


def merge_age_weighted(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
    """Merge each received model in order of arrival; two untrained models weigh the same.

    Weights: s·g(a), s the source weight. Shares: each model's part of the result. Memory: 3p while
    merging one (local, received, result).
    """

    def weigh(own: Voice, voice: Voice) -> tuple[float, float]:
        mine, theirs = age_weights((own.age, voice.age), context.constants)
        return own.source_weight * mine, voice.source_weight * theirs

    by_max = bool(context.constants["age_by_max"])
    return merge_in_turn(local=local, received=received, weigh=weigh, max_share=context.max_share, age_by_max=by_max)


STRATEGY = Strategy(
    merge=merge_age_weighted,
    pairwise=True,
    source="Hegedűs et al. 2019, algorithm 2; Chisme equation 2",
    memory="3p",
    constants={
        **AGE_CONSTANTS,
        "age_by_max": Constant(
            default=0.0, low=0.0, high=1.0, meaning="1: a merge takes the larger age, the paper's rule; 0: by shares"
        ),
    },
)
