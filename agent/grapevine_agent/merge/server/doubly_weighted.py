"""`doubly-weighted`: the age-weighted mean of the members heard lately. Grapevine's own, and the default.

    θ ← Σ_k w_k·θ_k / Σ_k w_k        a ← Σ_k w_k·a_k / Σ_k w_k        w_k = g(a_k)·2^−t_k/h

over all members, with g of `voices.age_weights` (held against the largest age heard when it comes) and t_k the time since
the update came. It is the server's half of doubly weighted averaging (see `merge.doubly_weighted` for the members'):
asynchronous, nobody is selected, nobody is waited for, and no round is closed.

Updates are folded in as they come (`running`). What a member said fades to an eighth in one of its rounds (h is a third of
it), and is a five hundredth after three, when it is no longer named; its next update brings it back to its full weight, and
no further. Whose rounds are longer than usual would be heard less on average: there are three means, of those who need
a round, two, and four, and each fades by its own. Held between calls: 3p, p for each pace that somebody has, and the
newest model of the heaviest member.
"""

from __future__ import annotations

import math
from typing import Final

from grapevine_agent.merge.server.held import Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.server.running import BoundedMean, Said
from grapevine_agent.merge.voices import age_weights

HALF_LIFE: Final = 1 / 3  # of what a member said, in its rounds
PACES: Final = (1.0, 2.0, 4.0)  # usual rounds that a member's round takes, about
BETWEEN: Final = 1.5  # times as long: from here on the next pace is nearer


class DoublyWeighted:
    """See the module's docstring. Untrained members, all of age 0, weigh the same.

    Nothing is kept over a restart: the mean is made of what members send, and they send it again.
    """

    def __init__(self, start: ServerStart) -> None:  # noqa: ARG002 - the interface's
        self._mean = BoundedMean(num_paces=len(PACES))
        self._heard: Newest[None] = Newest()
        self._largest_age = 0
        self._faded_s = 0.0
        self._fresh = False

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Fold the member's model in."""
        self._fade(context)
        self._largest_age = max(self._largest_age, update.age)
        weight, _ = age_weights([update.age, self._largest_age], context.constants)
        said = Said(
            peer=update.peer,
            weight=weight,
            parameters=update.parameters,
            buffers=update.buffers,
            age=update.age,
        )
        self._mean.add(said, max_share=context.max_share, pace=_pace(update.every_s / context.round_s))
        self._heard.put(update.peer, update.heard_s, None)
        self._fresh = True

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The mean, if somebody was heard since the last one."""
        self._heard.forget_old(context)
        fresh, self._fresh = self._fresh, False
        if not fresh or not len(self._heard):
            return []
        self._fade(context)
        mean = self._mean.mean(context.max_share)
        return [
            ClusterModel(
                parameters=mean.parameters, buffers=mean.buffers, age=mean.age, contributors=self._heard.named()
            )
        ]

    def _fade(self, context: ServerContext) -> None:
        past_s, self._faded_s = context.now_s - self._faded_s, context.now_s
        if math.isfinite(context.round_s) and past_s > 0:
            rounds = past_s / (HALF_LIFE * context.round_s)
            self._mean.fade([2.0 ** -(rounds / pace) for pace in PACES])

    def state(self) -> ServerState:
        """Nothing."""
        return ServerState()

    def restore(self, state: ServerState) -> None:
        """Nothing to go on from."""


def _pace(rounds: float) -> int:
    """Which of the means is for a member whose round takes so many usual ones."""
    return sum(rounds > BETWEEN * pace for pace in PACES[:-1])
