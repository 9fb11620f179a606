"""`cfl`: divide a cluster in two where its members pull a settled model apart.

Sattler, Müller and Samek, "Clustered federated learning: model-agnostic distributed multitask
optimization under privacy constraints" (IEEE TNNLS 2020). A cluster is divided when its model has
settled and its members have not (their criteria for ε₁ and ε₂):

    ‖Σ_k |D_k|·Δ_k / Σ_k |D_k|‖ < ε₁        and        max_k ‖Δ_k‖ > ε₂

into the two groups whose most similar pair across is least similar (their optimal bipartition):

    c₁, c₂ = argmin over c₁ ∪ c₂ = c of  max over i ∈ c₁, j ∈ c₂ of  cos(Δ_i, Δ_j)

and only if γ < √((1 − that cosine)/2), their bound on how noisy the updates may be; γ = 0 asks for no
more than that not all point the same way. The optimum is found exactly, as their algorithm 1 does:
members are joined pair by pair, the most similar first, until two groups are left. (The code that the
authors published uses complete linkage instead, which need not find the optimum, and no γ.)

The paper leaves open, and this is what we do: ε₁ and ε₂ are lengths of updates and depend on the model and
its training; the defaults are those of the authors' code, as is that clusters of fewer than 3 heard
members are not divided, and that nothing is divided in the first 20 rounds: here, of a cluster's
life, because updates that set out before a division arrive after it. The criteria are taken over the
newest delta of each member heard lately. Members that have changed nothing take no part in a division.
There are at most `max_clusters` clusters, which bounds memory. Steps, deltas and newcomers: see
`clusters`. A newcomer is like the member that it is most like, as in the bipartition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.merge.server.clusters import Cluster, Clusters, sample_shares
from grapevine_agent.merge.server.deltas import cosines, norm
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.voices import weighted_sum


class Cfl:
    """See the module's docstring. Held between calls: see `clusters`.

    Kept over a restart: the clusters' models, and who is in which. The newest deltas are lost: members
    send their next ones, and a cluster that was to be divided will be, some rounds later.
    """

    def __init__(self, start: ServerStart) -> None:
        self._clusters = Clusters(start, likeness=lambda similarities: float(similarities.max()))

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Hold what the member changed."""
        self._clusters.take(update, context)

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """Divide what is to be divided, then move each cluster by its members' new deltas."""
        self._clusters.forget_old(context)
        if not self._clusters.anything_new:
            return []
        for cluster in self._clusters.all():
            if len(self._clusters) < context.constants["max_clusters"]:
                self._divide(cluster, context)
        return self._clusters.step(context)

    def _divide(self, cluster: Cluster, context: ServerContext) -> None:
        constants = context.constants
        if cluster.catching_up is not None:
            return  # it is not certain yet which model it goes on from
        heard = self._clusters.members_heard(cluster)
        if context.round < cluster.born + constants["settle_rounds"] or len(heard) < constants["min_members"]:
            return
        deltas = [delta for _, delta in heard]
        if max(delta.norm for delta in deltas) <= constants["eps2"]:
            return
        if norm(weighted_sum([delta.delta for delta in deltas], sample_shares(deltas))) >= constants["eps1"]:
            return
        moved = [(peer, delta.delta) for peer, delta in heard if delta.norm > 0]
        if len(moved) < 2:
            return
        vectors = [delta for _, delta in moved]
        first, second, across = bipartition(cosines(vectors, vectors))
        if constants["gamma"] < np.sqrt((1 - across) / 2):
            groups = [[moved[i][0] for i in group] for group in (first, second)]
            self._clusters.divide(cluster, groups, context)

    def state(self) -> ServerState:
        """The clusters."""
        return self._clusters.state()

    def restore(self, state: ServerState) -> None:
        """Go on from the clusters."""
        self._clusters.restore(state)


def bipartition(similarities: NDArray[np.float64]) -> tuple[list[int], list[int], float]:
    """The two groups of rows whose largest similarity across is smallest, and that similarity.

    `similarities` is symmetric, [n, n] with n ≥ 2. Joining the most similar pairs first until two groups
    are left is optimal: a pair more similar than the result is never across. Of equal pairs the one
    with the lowest rows is first. The first group is row 0's.
    """
    n = len(similarities)
    assert n >= 2, "one row cannot be divided"
    rows, columns = np.triu_indices(n, 1)
    group_of = np.arange(n)
    num_groups = n
    # A stable sort of the negated similarities: the most similar first, equal ones in order of rows.
    for pair in np.argsort(-similarities[rows, columns], kind="stable"):
        if num_groups == 2:
            break
        one, other = group_of[rows[pair]], group_of[columns[pair]]
        if one != other:
            group_of[group_of == other] = one
            num_groups -= 1
    with_first = group_of == group_of[0]
    across = float(similarities[with_first][:, ~with_first].max())
    return np.flatnonzero(with_first).tolist(), np.flatnonzero(~with_first).tolist(), across
