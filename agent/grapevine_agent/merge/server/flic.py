"""`flic`: federated averaging at first; then, once, clusters of members whose updates are alike.

Espinoza Castellon, Mayoue, Sublemontier and Gouy-Pailler, "Federated learning with incremental
clustering for heterogeneous data" (IJCNN 2022), read with the code that its first author published,
which this follows:

- The server holds the newest update of each member, from whatever round it is: hence "incremental", no
  member is ever asked to send at a given moment. Their similarities are 1 + cos(Δ_i, Δ_j), in [0, 2].
  (The code brings its matrix up to date after every round; all of it depends on the newest updates
  alone, so it is computed here when it is needed.)
- After T rounds of federated averaging the members are clustered, once: communities of the graph that
  the similarities weigh, by the Louvain method. It decides how many clusters there are.
- Each cluster goes on with federated averaging from the model of that moment.

Chisme's authors cluster half-way through their experiments: `cluster_round` is T/2 of the whole.

Left open by the paper or settled by the code alone. *Loops*: the code fills the diagonal with 2, the
similarity of a member with itself, as a loop of the graph. That sets how fine the clusters are: a pair
is joined only if it is more similar than most, and in a small or nearly homogeneous crowd every member
ends up alone. `self_similarity` = 2 is the code's value; with 0 a crowd of equals stays
together, but groups of two or three are not told apart. *No structure*: where no pair is more similar
than another, nothing is divided. *Order*: theirs is random, ours is by name. *Opposites*: the code
takes a cosine of exactly −1 for a missing value and sets it to 2; here it is 0. *Members that were not
heard*: by the accuracy of each cluster's model on their data there; see `clusters` for ours. A newcomer
is like the mean of a cluster's members. *A restart* before the division: gathering begins again, so
nothing is divided until `gather_rounds` after it. There are at most `max_clusters` clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.merge.server.clusters import Clusters
from grapevine_agent.merge.server.deltas import cosines
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.server.louvain import communities

NO_STRUCTURE = 1e-6  # similarities that differ by less are the same


class Flic:
    """See the module's docstring. Held between calls: see `clusters`.

    Kept over a restart: whether it has clustered, the clusters' models, and who is in which. The newest
    deltas are lost, and members send their next ones.
    """

    def __init__(self, start: ServerStart) -> None:
        self._clusters = Clusters(start, likeness=lambda similarities: float(similarities.mean()))
        self._clustered = False
        self._gathers_since: int | None = None  # the round of the first update since the start

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Hold what the member changed."""
        if self._gathers_since is None:
            self._gathers_since = context.round
        self._clusters.take(update, context)

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """Cluster if it is time, then move each cluster by its members' new deltas."""
        self._clusters.forget_old(context)
        if not self._clusters.anything_new:
            return []
        if not self._clustered and self._gathers_since is not None:
            constants = context.constants
            if context.round >= max(constants["cluster_round"], self._gathers_since + constants["gather_rounds"]):
                self._cluster(context)
        return self._clusters.step(context)

    def _cluster(self, context: ServerContext) -> None:
        everybody = self._clusters.all()[0]
        if everybody.catching_up is not None:
            return  # it is not certain yet which model it goes on from
        moved = [(peer, delta.delta) for peer, delta in self._clusters.members_heard(everybody) if delta.norm > 0]
        if len(moved) < 2:
            return  # nobody to compare: at the next aggregation
        self._clustered = True
        vectors = [delta for _, delta in moved]
        most = round(context.constants["max_clusters"])
        groups = alike(1 + cosines(vectors, vectors), context.constants["self_similarity"], most)
        if len(groups) > 1:
            self._clusters.divide(everybody, [[moved[i][0] for i in group] for group in groups], context)

    def state(self) -> ServerState:
        """The clusters, and that there will be no others."""
        state = self._clusters.state()
        return ServerState(vectors=state.vectors, counters={**state.counters, "clustered": int(self._clustered)})

    def restore(self, state: ServerState) -> None:
        """Go on from the clusters."""
        self._clusters.restore(state)
        self._clustered = bool(state.counters.get("clustered", 0))


def alike(similarities: NDArray[np.float64], self_similarity: float, most: int) -> list[list[int]]:
    """Groups of rows that are alike. `similarities`: symmetric [n, n] in [0, 2], n ≥ 2; its diagonal has no say."""
    n = len(similarities)
    between = similarities[np.triu_indices(n, 1)]
    if n > 2 and float(between.max() - between.min()) < NO_STRUCTURE:
        return [list(range(n))]
    graph = similarities.copy()
    np.fill_diagonal(graph, 2 * self_similarity)  # a loop has two ends
    return communities(graph, most)
