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

Held between calls: 2p, and 256 numbers. Buffers and age are mixed by the same α_s. `max_share` has no say: the
share of an update is what α_s is.
"""

from __future__ import annotations

from grapevine_agent.merge.server.catching_up import CatchingUp
from grapevine_agent.merge.server.held import ByVersion, Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.server.running import fold

REMEMBERED_VERSIONS = 256  # an update from before them counts as from the oldest of them


class FedAsync:
    """See the module's docstring.

    Kept over a restart: the count of versions. The number of mixed updates at each published model is lost, so what
    started before the restart counts as started at it: a few updates weigh somewhat more than they should. If members
    have come further than the saved model, it goes on from their mean (`catching_up`). Updates mixed since the model
    was saved are lost too; their senders still have what they learnt.
    """

    def __init__(self, start: ServerStart) -> None:
        self._parameters, self._buffers = start.parameters.copy(), start.buffers.copy()  # updates are mixed in in place
        self._catching_up = CatchingUp() if start.is_restored else None
        self._start_age = start.age
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
        fold(self._parameters, update.parameters, alpha, keep=1 - alpha)
        fold(self._buffers, update.buffers, alpha, keep=1 - alpha)
        self._age += alpha * (update.age - self._age)
        self._steps += 1
        self._heard.put(update.peer, update.heard_s, None)
        if self._catching_up is not None:
            self._catching_up.hear(update, context.max_share)
        self._fresh = True

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The model as mixed so far, if that is new."""
        self._heard.forget_old(context)
        if not self._fresh:
            return []
        self._fresh = False
        self._catch_up(context)
        self._steps_at.put(context.version + 1, self._steps)
        return [
            ClusterModel(
                parameters=self._parameters.copy(),
                buffers=self._buffers.copy(),
                age=round(self._age),
                contributors=self._heard.named(),
            )
        ]

    def _catch_up(self, context: ServerContext) -> None:
        catching_up, self._catching_up = self._catching_up, None
        if catching_up is None:
            return
        further = catching_up.further_than(self._start_age, context.max_share)
        if further is not None:
            self._parameters, self._buffers, self._age = further.parameters, further.buffers, float(further.age)

    def state(self) -> ServerState:
        """The count of versions."""
        return ServerState(counters={"steps": self._steps})

    def restore(self, state: ServerState) -> None:
        """Count on from where it was."""
        self._steps = max(0, state.counters.get("steps", 0))
        self._steps_at.put(self._published, self._steps)
