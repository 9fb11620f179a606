"""`fedavg`: the mean of the members' models, by the sizes of their data sets.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS
2017), algorithm 1; equation 1 of the Chisme paper:

    θ ← Σ_k |D_k|·θ_k / Σ_k |D_k|

over the members whose updates came since the last aggregation, the newest of each. A heartbeat is
thus a round, and those who were heard in it are its participants. Held between calls: |R|·p.
"""

from __future__ import annotations

from dataclasses import replace

from grapevine_agent.merge.server.held import Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.voices import bounded_shares, mixed_count, weighted_sum


class FedAvg:
    """See the module's docstring. Where nobody has samples, all weigh the same.

    Nothing is kept over a restart: an open round is lost, and the members that were in it, whose
    models have what they learnt, speak again in the next.
    """

    def __init__(self, start: ServerStart) -> None:  # noqa: ARG002 - the interface's
        self._updates: Newest[ServerUpdate] = Newest()

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:  # noqa: ARG002 - the interface's
        """Hold the member's newest model."""
        self._updates.put(update.peer, update.heard_s, replace(update, base=None))

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """Close the round."""
        updates = [update for _, update in self._updates.items()]
        self._updates.clear()
        if not updates:
            return []
        shares = bounded_shares([update.samples for update in updates], [True] * len(updates), context.max_share)
        return [
            ClusterModel(
                parameters=weighted_sum([update.parameters for update in updates], shares),
                buffers=weighted_sum([update.buffers for update in updates], shares),
                age=mixed_count([update.age for update in updates], shares),
                contributors=tuple(update.peer for update in updates),
            )
        ]

    def state(self) -> ServerState:
        """Nothing."""
        return ServerState()

    def restore(self, state: ServerState) -> None:
        """Nothing to go on from."""
