"""`doubly-weighted`: the age-weighted mean of the members heard lately. Grapevine's own, and the default.

    θ ← Σ_k g(a_k)·θ_k / Σ_k g(a_k)        a ← Σ_k g(a_k)·a_k / Σ_k g(a_k)

over the newest update of each member heard within `forget_s`, with g of `voices.age_weights`, held against the largest
age that was heard. It is the server's half of doubly weighted averaging (see `merge.doubly_weighted` for the members'):
asynchronous, nobody is selected, nobody is waited for, and no round is closed. A member that is slow
keeps its voice until it is forgotten.

Updates are folded in as they come: see `slices` for what then stands for a member's newest model. Held between calls:
6p where members are about equally fast, 14p at most, and the newest model of the heaviest one.
"""

from __future__ import annotations

from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.server.running import Said
from grapevine_agent.merge.server.slices import Slices
from grapevine_agent.merge.voices import age_weights


class DoublyWeighted:
    """See the module's docstring. Untrained members, all of age 0, weigh the same.

    Nothing is kept over a restart: the mean is made of what members send, and they send it again.
    """

    def __init__(self, start: ServerStart) -> None:  # noqa: ARG002 - the interface's
        self._slices = Slices()
        self._largest_age = 0
        self._fresh = False

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Fold the member's model in."""
        self._largest_age = max(self._largest_age, update.age)
        # Beside a model that was trained one that was not weighs next to nothing, whichever of them comes first.
        weight, _ = age_weights([update.age, max(1, self._largest_age)], context.constants)
        said = Said(
            peer=update.peer,
            weight=weight,
            parameters=update.parameters,
            buffers=update.buffers,
            age=update.age,
        )
        self._slices.add(
            said,
            now_s=update.heard_s,
            round_s=context.round_s,
            every_s=update.every_s,
            max_share=context.max_share,
        )
        self._fresh = True

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The mean, if somebody was heard since the last one."""
        self._slices.forget(context.now_s - context.forget_s)
        fresh, self._fresh = self._fresh, False
        if not fresh or not len(self._slices):
            return []
        mean = self._slices.mean(context.max_share)
        self._slices.end(context.now_s, context.round_s)
        return [
            ClusterModel(
                parameters=mean.parameters, buffers=mean.buffers, age=mean.age, contributors=self._slices.named()
            )
        ]

    def state(self) -> ServerState:
        """Nothing."""
        return ServerState()

    def restore(self, state: ServerState) -> None:
        """Nothing to go on from."""
