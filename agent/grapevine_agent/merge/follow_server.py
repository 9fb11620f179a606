"""`follow-server`: the client of federated learning, which takes the server's model and trains on.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS
2017), algorithm 1, ClientUpdate: every round starts from the model that the server has just made.

    θ_i ← θ_server        when a new one has come; else θ_i

Several servers that share the members have a part of them each: their mean is followed, by what each counts for.

This is the baseline that gossip is compared with. Members send each other nothing, and what a peer sends is left
aside, so without a server everybody learns alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from grapevine_agent.merge.voices import (
    Context,
    Merged,
    Strategy,
    Voice,
    counted,
    mixed_count,
    unchanged,
    weighted_sum,
)


def follow_server(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:  # noqa: ARG001
    """Take the servers' mean, by their weights, when one of them has a new model. Memory: p with several, else none."""
    servers = [voice for voice in counted(received) if voice.kind == "server"]
    if all(voice.seen for voice in servers):
        return unchanged(local)
    total = math.fsum(voice.source_weight for voice in servers)
    shares = [voice.source_weight / total for voice in servers]
    is_one = len(servers) == 1  # whose model need not be copied
    return Merged(
        parameters=servers[0].parameters if is_one else weighted_sum([each.parameters for each in servers], shares),
        buffers=servers[0].buffers if is_one else weighted_sum([each.buffers for each in servers], shares),
        age=mixed_count([voice.age for voice in servers], shares),
        experience=mixed_count([voice.experience for voice in servers], shares),
        shares={voice.peer: share for voice, share in zip(servers, shares, strict=True)},
    )


STRATEGY = Strategy(
    merge=follow_server,
    pairwise=False,
    source="McMahan et al. 2017, algorithm 1, ClientUpdate",
    memory="2p",
    hears_peers=False,
)
