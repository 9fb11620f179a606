"""`fedasync`: mix each update into the server's model when it comes, the staler the less.

Xie, Koyejo and Gupta, "Asynchronous federated optimization" (2019), algorithm 1 with the polynomial
staleness function:

    θ ← (1 − α_s)·θ + α_s·θ_k        α_s = α·(1 + s)^−a

s is the number of versions of the server's model since the one that the sender started from. As in
the paper, *every mixed update makes a version*, although models are published only at heartbeats: of
a hundred members that trained on the same published model, the last to arrive has s = 99. (With s
counted in published models all hundred would weigh α, and the last three would be nine tenths of the
result.) The paper numbers the version that is being made, so that its freshest update may have t − τ =
1; here that update has s = 0.

Held between calls: p, and 256 numbers. Buffers and age are mixed by the same α_s. `max_share` has no say: the
share of an update is what α_s is.
"""

from __future__ import annotations

from grapevine_agent.merge.server.held import ByVersion, Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.voices import weighted_sum

REMEMBERED_VERSIONS = 256  # an update from before them counts as from the oldest of them


class FedAsync:
    """See the module's docstring.

    Kept over a restart: the count of versions. The number of mixed updates at each published model is
    lost, so what started before the restart counts as started at it: a few updates weigh somewhat
    more than they should. Updates mixed since the model was saved are lost too; their senders still
    have what they learnt.
    """

    def __init__(self, start: ServerStart) -> None:
        self._parameters, self._buffers = start.parameters, start.buffers
        self._age = float(start.age)  # the share of a stale update would round to nothing
        self._published = start.version
        self._steps = 0
        self._steps_at: ByVersion[int] = ByVersion(REMEMBERED_VERSIONS)
        self._steps_at.put(start.version, 0)
        self._heard: Newest[None] = Newest()
        self._fresh = False

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Mix the update in."""
        constants = context.constants
        staleness = max(0, self._steps - self._steps_at.at(update.base_version))
        alpha = constants["alpha"] * (1 + staleness) ** -constants["a"]
        self._parameters = weighted_sum((self._parameters, update.parameters), (1 - alpha, alpha))
        self._buffers = weighted_sum((self._buffers, update.buffers), (1 - alpha, alpha))
        self._age += alpha * (update.age - self._age)
        self._steps += 1
        self._heard.put(update.peer, update.heard_s, None)
        self._fresh = True

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The model as mixed so far, if that is new."""
        self._heard.forget_old(context)
        if not self._fresh:
            return []
        self._fresh = False
        self._steps_at.put(context.version + 1, self._steps)
        return [
            ClusterModel(
                parameters=self._parameters,
                buffers=self._buffers,
                age=round(self._age),
                contributors=self._heard.peers(),
            )
        ]

    def state(self) -> ServerState:
        """The count of versions."""
        return ServerState(counters={"steps": self._steps})

    def restore(self, state: ServerState) -> None:
        """Count on from where it was."""
        self._steps = max(0, state.counters.get("steps", 0))
        self._steps_at.put(self._published, self._steps)
