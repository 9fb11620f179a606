"""`follow-server`: the client of federated learning, which takes the server's model and trains on.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS
2017), algorithm 1, ClientUpdate: every round starts from the model that the server has just made.

    θ_i ← θ_server        when a new one has come; else θ_i

This is the baseline that gossip is compared with. Members send each other nothing, and what a peer sends is left
aside, so without a server everybody learns alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from grapevine_agent.merge.voices import Context, Merged, Strategy, Voice, counted, unchanged


def follow_server(*, local: Voice, received: Sequence[Voice], context: Context) -> Merged:  # noqa: ARG001
    """Take the model of the server that counts most, once. Shares: all to whoever made the result. Memory: none."""
    fresh = [voice for voice in counted(received) if voice.kind == "server" and not voice.seen]
    if not fresh:
        return unchanged(local)
    server = max(fresh, key=lambda voice: voice.source_weight)
    return Merged(
        parameters=server.parameters,
        buffers=server.buffers,
        age=server.age,
        experience=server.experience,
        shares={server.peer: 1.0},
    )


STRATEGY = Strategy(
    merge=follow_server,
    pairwise=False,
    source="McMahan et al. 2017, algorithm 1, ClientUpdate",
    memory="2p",
    hears_peers=False,
)
