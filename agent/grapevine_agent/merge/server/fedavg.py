"""`fedavg`: the mean of the members' models, by the sizes of their data sets.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS
2017), algorithm 1; equation 1 of the Chisme paper:

    θ ← Σ_k |D_k|·θ_k / Σ_k |D_k|

over the members whose updates came since the last aggregation. A round of the members is thus a round of the server,
and those who were heard in it are its participants. Updates are folded in as they come (`running`): of a member that
sends several in one round the first one counts, and later ones for what they add to |D_k|. Held between calls: p, and
the newest model of the heaviest member.
"""

from __future__ import annotations

from grapevine_agent.merge.server.held import Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.server.running import BoundedMean, Said


class FedAvg:
    """See the module's docstring. Where nobody has samples, all weigh the same.

    Nothing is kept over a restart: an open round is lost, and the members that were in it, whose
    models have what they learnt, speak again in the next.
    """

    def __init__(self, start: ServerStart) -> None:  # noqa: ARG002 - the interface's
        self._mean = BoundedMean()
        self._heard: Newest[None] = Newest()

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Fold the member's model in."""
        said = Said(
            peer=update.peer,
            weight=update.samples,
            parameters=update.parameters,
            buffers=update.buffers,
            age=update.age,
        )
        self._mean.add(said, context.max_share)
        self._heard.put(update.peer, update.heard_s, None)

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """Close the round."""
        if not len(self._heard):
            return []
        mean = self._mean.mean(context.max_share)
        model = ClusterModel(
            parameters=mean.parameters, buffers=mean.buffers, age=mean.age, contributors=self._heard.named()
        )
        self._mean.clear()
        self._heard.clear()
        return [model]

    def state(self) -> ServerState:
        """Nothing."""
        return ServerState()

    def restore(self, state: ServerState) -> None:
        """Nothing to go on from."""
