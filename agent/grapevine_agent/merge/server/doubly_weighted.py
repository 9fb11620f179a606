"""`doubly-weighted`: the age-weighted mean of the members heard lately. Grapevine's own, and the default.

    θ ← Σ_k g(a_k)·θ_k / Σ_k g(a_k)        a ← Σ_k g(a_k)·a_k / Σ_k g(a_k)

over the newest update of each member heard within `forget_s`, with g of `voices.age_weights`. It is
the server's half of doubly weighted averaging (see `merge.doubly_weighted` for the members'):
asynchronous, nobody is selected, nobody is waited for, and no round is closed. A member that is slow
keeps its voice until it is forgotten. Held between calls: |R|·p.
"""

from __future__ import annotations

from dataclasses import replace

from grapevine_agent.merge.server.held import Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.voices import age_weights, bounded_shares, mixed_count, weighted_sum


class DoublyWeighted:
    """See the module's docstring. Untrained members, all of age 0, weigh the same.

    Nothing is kept over a restart: the mean is made of what members send, and they send it again.
    """

    def __init__(self, start: ServerStart) -> None:  # noqa: ARG002 - the interface's
        self._updates: Newest[ServerUpdate] = Newest()
        self._fresh = False

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:  # noqa: ARG002 - the interface's
        """Hold the member's newest model."""
        self._updates.put(update.peer, update.heard_s, replace(update, base=None))
        self._fresh = True

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The mean, if somebody was heard since the last one."""
        self._updates.forget_old(context)
        fresh, self._fresh = self._fresh, False
        updates = [update for _, update in self._updates.items()]
        if not fresh or not updates:
            return []
        weights = age_weights([update.age for update in updates], context.constants)
        shares = bounded_shares(weights, [True] * len(updates), context.max_share)
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
