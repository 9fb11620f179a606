"""What the models of several servers weigh in a merge: each contributor counts once, whoever names it.

A server alone weighs S = ρ·h(τ), ρ the contributors whose work is in its model (see `server_link`). Where two servers
name the same contributor its one voice is divided between them, in proportion to their h(τ):

    S_s = Σ_c h_s/Σ_{s' names c} h_{s'} · max_{s' names c} h_{s'}

So servers that share the members weigh together what one would that had all of them; two that were sent the same
updates weigh no more together than either alone; and what a silent server loses, another that names the same
contributors has at once. The task's cap on a server's voices is one for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from grapevine_agent.core.learning.server_link import FADED, ServerLink


def weights(servers: Mapping[str, ServerLink], now_s: float, *, known: Collection[str], cap: float) -> dict[str, float]:
    """S of each server whose model still counts. `known`: the peers that this agent has itself heard of."""
    named = {peer: link.contributors(known) for peer, link in servers.items()}
    fades = {
        peer: link.source_weight(now_s, known=known, cap=math.inf) / max(1, len(named[peer]))
        for peer, link in servers.items()
    }
    fades = {peer: fade for peer, fade in fades.items() if fade > 0}
    # A server whose model holds nobody's work that we know, as one from its disk may, is a voice of its own.
    found = {peer: 0.0 if named[peer] else fade for peer, fade in fades.items()}
    contributors = set().union(*(named[peer] for peer in fades))
    for contributor in contributors:
        by = {peer: fade for peer, fade in fades.items() if contributor in named[peer]}
        largest, total = max(by.values()), sum(by.values())
        for peer, fade in by.items():
            found[peer] += largest * fade / total
    num_voices = len(contributors) + sum(not named[peer] for peer in fades)
    scale = min(1.0, cap / num_voices) if num_voices else 1.0
    return {peer: weight * scale for peer, weight in found.items() if weight * scale >= FADED}
