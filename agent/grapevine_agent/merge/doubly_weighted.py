"""`doubly-weighted`: weigh every model by its age and by its source.

The DecentraLearn poster asks for "doubly weighted averaging: server model vs. model age" and leaves
the formula open. This is Grapevine's:

    θ ← Σ_j s_j·g(a_j)·θ_j / Σ_j s_j·g(a_j)        a ← Σ_j s_j·g(a_j)·a_j / Σ_j s_j·g(a_j)

over oneself, the peers' models that have arrived, and the server's model. s_j = 1 for oneself and
for peers. For the server's model s = ρ·h(τ): as many voices as it has contributors that we know,
halved for each heartbeat interval that the server has been silent (see `core.server_link`). A lost
server therefore fades, and what remains is the age-weighted mean of gossip: there is no switch. Where a share is
held at `max_share`, so is its part of the age: age follows what was taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from grapevine_agent.merge.convex import merge_gathered
from grapevine_agent.merge.voices import AGE_CONSTANTS, Context, Merged, Strategy, Voice, age_weights


def merge_doubly_weighted(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
    """Merge the gathered set at once. All ages zero: g = 1 for all.

    Shares: each model's part of the result. Memory: (|R| + 2)p, the result and the models themselves.
    """
    voices = [local, *received]
    by_age = age_weights([voice.age for voice in voices], context.constants)
    weights = [voice.source_weight * weight for voice, weight in zip(voices, by_age, strict=True)]
    return merge_gathered(local=local, received=received, weights=weights, max_share=context.max_share)


STRATEGY = Strategy(
    merge=merge_doubly_weighted,
    pairwise=False,
    source="DecentraLearn poster; the formula is Grapevine's",
    memory="(|R| + 2)p",
    constants=AGE_CONSTANTS,
    is_mean=True,
)
