"""`cos-sim-dfl`: data set sizes, scaled by how alike the models' progress is.

Kuttivelil and Obraczka, "Chisme: Fully Decentralized Differentiated Deep Learning for IoT
Intelligence", section III-C, equations 5 to 8:

    θ_i ← Σ_k |D_k|·ω_k·θ_k / Σ_j |D_j|·ω_j        k, j over R + i
    ω_k = S'(Δ_ii, Δ_ki),  Δ_ii = θ_i − θ_i^τ,  Δ_ki = θ_k − θ_i^τ

θ_i^τ is one's own model before its last training (`local.base`). The paper's sum in equation 8 runs
over the received models; here it includes oneself, as equation 1 which it adapts does, and
ω_i = S'(Δ_ii, Δ_ii) = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from grapevine_agent.merge.convex import merge_gathered
from grapevine_agent.merge.geometry import scaled_cosine
from grapevine_agent.merge.voices import Context, Merged, Strategy, Voice


def merge_cos_sim_dfl(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
    """Merge the gathered set at once.

    Where a Δ is zero, or `local` has no base, ω = 1/2. All weights zero (no samples, or all others
    opposite and no samples of one's own): all become equal. A server weighs by its source weight
    besides. Shares: each model's part of the result. Memory: (|R| + 3)p, the result, the
    models themselves and one's own base.
    """
    weights = [local.source_weight * local.samples]
    for voice in received:
        omega = scaled_cosine(local.parameters, voice.parameters, local.base)
        weights.append(voice.source_weight * voice.samples * omega)
    return merge_gathered(local=local, received=received, weights=weights, max_share=context.max_share)


STRATEGY = Strategy(
    merge=merge_cos_sim_dfl,
    pairwise=False,
    source="Kuttivelil and Obraczka (Chisme), equations 5 to 8",
    memory="(|R| + 3)p",
    personal=True,
)
