"""`chisme`: weigh by experience and by how alike the models' progress is, one update at a time.

Kuttivelil and Obraczka, "Chisme: Fully Decentralized Differentiated Deep Learning for IoT
Intelligence", equations 13 to 17 (9 to 12 are the agent's: start, training, sending). For each update
of k in order of arrival:

    M_k ← μ_k                 α = μ_k / Σ_j μ_j over the map M                                  (13)
    ω = S' / (1 + S')         S' = S'(Δ_ii, Δ_ki), Δ_ii = θ_i − θ_i^τ, Δ_ki = θ_k − θ_i^τ        (14)
    η = α·ω / ((1 − α)·(1 − ω) + α·ω)                                                          (15)
    θ_i ← (1 − η)·θ_i + η·θ_k                                                                  (16)
    μ_i ← (1 − η)·μ_i + η·μ_k         M_i ← μ_i                                                (17)

θ_i^τ is one's own model before its last training (`local.base`), θ_i the model as merged so far. In
words: the odds η/(1 − η) are the odds of α times the odds of ω, and the odds of ω are S' itself. So an update that
points the opposite way changes nothing, and one that points the same way weighs what experience says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from grapevine_agent.merge.convex import take_in
from grapevine_agent.merge.geometry import scaled_cosine
from grapevine_agent.merge.voices import Context, Merged, Strategy, Voice, unchanged


def merge_chisme(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:
    """Merge each received model in order of arrival.

    `context.experiences` is the map as it was before these updates; one's own entry and each sender's
    are set here. Nobody has any experience: α = 1/|M|. A Δ is zero, or `local` has no base: S' = 1/2.
    α = 1 and ω = 0, the formula's 0/0: η = 1/2. A server's odds are multiplied by its source weight.
    η of a peer is held at max(`context.max_share`, 1/2): the paper's own rule has no bound, which is `max_share` = 1.

    Shares: η of each update, by sender (the last, if one sent several), and so not a sum of 1; empty if
    nothing was received. Memory: 4p while merging one: the paper's 3p (local, its base, received) and
    the result, since nothing that is given is modified.
    """
    own, experience = local, float(local.experience)
    experiences: dict[str, float] = {**context.experiences, local.peer: experience}
    shares: dict[str, float] = {}
    for voice in received:
        experiences[voice.peer] = voice.experience
        total = sum(experiences.values())
        alpha = voice.experience / total if total > 0 else 1 / len(experiences)
        similarity = scaled_cosine(own.parameters, voice.parameters, local.base)
        omega = similarity / (1 + similarity)
        weights = (own.source_weight * (1 - alpha) * (1 - omega), voice.source_weight * alpha * omega)
        own, eta = take_in(own, voice, weights=weights, max_share=context.max_share)
        experience = (1 - eta) * experience + eta * voice.experience
        experiences[local.peer] = experience
        shares[voice.peer] = eta
    return replace(unchanged(own), experience=round(experience), shares=shares)


STRATEGY = Strategy(
    merge=merge_chisme,
    pairwise=True,
    source="Kuttivelil and Obraczka (Chisme), equations 9 to 17",
    memory="4p",
    personal=True,
)
