"""Clusters of members with a model each, as `cfl` and `flic` have them.

A server starts with one cluster that is everybody's. Its strategy decides when to divide one, and into
which groups; each part goes on from the model of the whole. What is the same for both is here:

*The step.* θ_c ← θ_c + Σ_k |D_k|·Δ_k / Σ_k |D_k| over the updates of the cluster's members that came since the
last aggregation, the newest of each; every Δ_k moves the model once. (Both papers are synchronous:
there, that is every member, each round.) Buffers become the mean of these updates' buffers by the same
weights.

*Deltas.* Δ_k = θ_k − base; where an update does not say its base, the model of its cluster that it merged
last, among the last 4 published, or the oldest of them.

*Newcomers.* Who is first heard after a division joins the cluster whose members' newest deltas are most
like its own. Until it has changed anything (Δ = 0) it belongs to none. (Flic's authors ask each newcomer
how well every cluster's model does on its data, and Sattler et al. send it down the tree of earlier
divisions; a server that gets nothing but updates can compare only these.)

*Who is named.* A model names the members of its cluster, so that they know which one is theirs; not those who were not
heard for `NAMED_FOR` times as long as an update speaks for its sender. Whose cluster is whose is remembered for longer.

*What is held.* The newest delta of each member, to be compared, while there are no more members than places for vectors
(`ServerStart.num_places`, at most 256): up to there a step is made of them, and reproductions of the papers are exact.
From the first member on that finds none, for good, their sketches are held instead (`sketch`), of the 256 members heard
last, and each delta is folded into its cluster's next step as it comes (`running`; of several of one member the first,
and later ones for what they add to |D_k|). A cluster that is divided takes the step first that was folded for all of
it. Held between calls: |R|·p with |R| at most the places, or sketches; and up to 5p a cluster, 7p with sketches.

*After a restart* a cluster's model may be older than what its members have: see `catching_up`. It is published when the
first of its members was heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.merge.server.catching_up import CatchingUp
from grapevine_agent.merge.server.deltas import cosines, difference, moved, norm
from grapevine_agent.merge.server.held import ByVersion, Newest
from grapevine_agent.merge.server.interface import (
    MAX_MEMBERS,
    MAX_NAMED,
    ClusterModel,
    ServerContext,
    ServerStart,
    ServerState,
    ServerUpdate,
)
from grapevine_agent.merge.server.running import BoundedMean, Mean, Said
from grapevine_agent.merge.server.sketch import Sketcher
from grapevine_agent.merge.voices import bounded_shares, mixed_count, weighted_sum
from grapevine_proto.messages import Vector

HELD_MODELS = 4
NAMED_FOR = 30.0  # times `forget_s`: who takes no part for so long is not waiting for a model
MAX_COMPARED = 256  # members whose deltas are compared: pairs of them are looked at

Likeness = Callable[[NDArray[np.float64]], float]  # of the cosines of a newcomer with each member of a cluster


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a member's newest update changed, or a sketch of it; `norm` is ‖delta‖ of the whole."""

    delta: Vector
    norm: float
    buffers: Vector
    age: int
    samples: int


@dataclass(kw_only=True)
class Cluster:
    """A model, and the round in which the cluster came to be."""

    number: int
    parameters: Vector
    buffers: Vector
    age: int
    models: ByVersion[Vector]
    born: int = 0
    changed: bool = False
    folded: BoundedMean = field(default_factory=BoundedMean)  # of the next step, where deltas are not held
    catching_up: CatchingUp | None = None  # it was restored, and not published since

    def part(self, number: int, born: int) -> Cluster:
        """A cluster that goes on from this one's model. Vectors are shared: they are never written to."""
        return Cluster(
            number=number,
            parameters=self.parameters,
            buffers=self.buffers,
            age=self.age,
            models=self.models.copy(),
            born=born,
            changed=True,
        )


@dataclass
class Clusters:
    """See the module's docstring. `likeness` decides which cluster a newcomer is most like."""

    start: ServerStart
    likeness: Likeness
    deltas: Newest[Delta] = field(default_factory=Newest)
    _sketcher: Sketcher | None = None  # there are more members than places
    _clusters: dict[int, Cluster] = field(default_factory=dict)
    _cluster_of: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _heard_s: dict[str, float] = field(default_factory=dict)  # of members: last, or when a restored one was first named
    _fresh: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.deltas.capacity = max(1, min(self.start.num_places, MAX_COMPARED))
        self._clusters[0] = self._cluster(0, self.start.parameters, self.start.buffers, self.start.age)

    def _cluster(self, number: int, parameters: Vector, buffers: Vector, age: int) -> Cluster:
        models: ByVersion[Vector] = ByVersion(HELD_MODELS)
        models.put(self.start.version, parameters)
        catching_up = CatchingUp() if self.start.is_restored else None
        return Cluster(
            number=number, parameters=parameters, buffers=buffers, age=age, models=models, catching_up=catching_up
        )

    def __len__(self) -> int:
        return len(self._clusters)

    def all(self) -> list[Cluster]:
        """The clusters, by number."""
        return [self._clusters[number] for number in sorted(self._clusters)]

    def take(self, update: ServerUpdate, context: ServerContext) -> None:
        """Hold the update's delta, or fold it in, and find its sender's cluster if it has none."""
        number = self._cluster_of.get(update.peer, 0)
        base = update.base if update.base is not None else self._clusters[number].models.at(update.base_version)
        change = difference(update.parameters, base)
        delta = Delta(delta=change, norm=norm(change), buffers=update.buffers, age=update.age, samples=update.samples)
        if self._sketcher is None and self.deltas.get(update.peer) is None and self.deltas.is_full:
            self._sketch_all(context)
        if update.peer not in self._cluster_of:
            if len(self._clusters) > 1 and delta.norm == 0:
                return  # it says nothing of where it belongs
            number = self._most_alike(update.peer, change if self._sketcher is None else self._sketcher(change))
        self._cluster_of[update.peer] = number
        self._cluster_of.move_to_end(update.peer)
        self._heard_s[update.peer] = update.heard_s
        if len(self._cluster_of) > MAX_MEMBERS:
            self._heard_s.pop(self._cluster_of.popitem(last=False)[0], None)
        cluster = self._clusters[number]
        if cluster.catching_up is not None:
            cluster.catching_up.hear(update, context.max_share)
        if self._sketcher is not None:
            delta = self._folded(update.peer, delta, cluster, context)
        self.deltas.put(update.peer, update.heard_s, delta)
        self._fresh.add(update.peer)

    def _sketch_all(self, context: ServerContext) -> None:
        """From now on there are more members than places: what is held becomes sketches, and steps are folded."""
        self._sketcher = Sketcher(context.rng, self.start.parameters.size)
        for peer, delta in self.deltas.items():
            cluster = self._clusters[self._cluster_of[peer]]
            is_fresh = peer in self._fresh
            sketched = self._folded(peer, delta, cluster if is_fresh else None, context)
            self.deltas.replace(peer, sketched)
        self.deltas.capacity = MAX_COMPARED

    def _folded(self, peer: str, delta: Delta, cluster: Cluster | None, context: ServerContext) -> Delta:
        """The delta with a sketch in its place; itself goes into the next step of its cluster, if it has one."""
        assert self._sketcher is not None
        if cluster is not None:
            said = Said(peer=peer, weight=delta.samples, parameters=delta.delta, buffers=delta.buffers, age=delta.age)
            cluster.folded.add(said, context.max_share)
        return replace(delta, delta=self._sketcher(delta.delta), buffers=delta.buffers[:0])

    def _most_alike(self, newcomer: str, delta: Vector) -> int:
        """The cluster that is most like `delta`; of equals the one with the most members, then the oldest."""
        if len(self._clusters) == 1:
            return 0
        ranks = []
        for cluster in self.all():
            held = [(peer, other) for peer, other in self.members_heard(cluster) if peer != newcomer]
            likeness = self.likeness(cosines([delta], [other.delta for _, other in held])[0]) if held else -np.inf
            ranks.append((-likeness, -len(self._names(cluster)), cluster.number))
        return min(ranks)[2]

    def _names(self, cluster: Cluster) -> tuple[str, ...]:
        return tuple(sorted(peer for peer, number in self._cluster_of.items() if number == cluster.number))

    def _named(self, cluster: Cluster, context: ServerContext) -> tuple[str, ...]:
        """The members of a cluster that its model names: of many those heard last."""
        oldest_s = context.now_s - NAMED_FOR * context.forget_s
        names = (peer for peer, number in reversed(self._cluster_of.items()) if number == cluster.number)
        heard = (peer for peer in names if self._heard_s.setdefault(peer, context.now_s) >= oldest_s)
        return tuple(sorted(islice(heard, MAX_NAMED)))

    def members_heard(self, cluster: Cluster) -> list[tuple[str, Delta]]:
        """The members of a cluster whose newest delta is held, sorted by name."""
        return [(peer, delta) for peer, delta in self.deltas.items() if self._cluster_of.get(peer) == cluster.number]

    def forget_old(self, context: ServerContext) -> None:
        """Let go of the deltas of members that were not heard lately. Whose cluster is whose is remembered."""
        self.deltas.forget_old(context)
        self._fresh.intersection_update(self.deltas.peers())

    @property
    def anything_new(self) -> bool:
        """Whether a step would give a model."""
        return bool(self._fresh) or any(each.changed or len(each.folded) for each in self._clusters.values())

    def divide(self, cluster: Cluster, groups: Sequence[Sequence[str]], context: ServerContext) -> None:
        """Make a cluster of each group of members heard; the largest keeps the number.

        Members that are in no group are without a cluster until they are heard again.
        """
        assert len(groups) > 1, "a division gives parts"
        if self._sketcher is not None:
            self._move(cluster, context)
        ordered = sorted(groups, key=lambda group: (-len(group), min(group)))
        for peer in self._names(cluster):
            del self._cluster_of[peer]
            self._heard_s.pop(peer, None)
        numbers = [cluster.number, *range(max(self._clusters) + 1, max(self._clusters) + len(groups))]
        for number, group in zip(numbers, ordered, strict=True):
            self._clusters[number] = cluster.part(number, context.round)
            for peer in sorted(group):
                self._cluster_of[peer] = number
        for peer in set(self.deltas.peers()) - set(self._cluster_of):
            self.deltas.drop(peer)
            self._fresh.discard(peer)

    def step(self, context: ServerContext) -> list[ClusterModel]:
        """Move each cluster by what is new of its members; the models that have changed."""
        models = [self._step(cluster, context) for cluster in self.all()]
        self._fresh.clear()
        return [model for model in models if model is not None]

    def _step(self, cluster: Cluster, context: ServerContext) -> ClusterModel | None:
        catching_up = cluster.catching_up
        if catching_up is not None and not catching_up.has_heard:
            return None  # it may be old, and nobody has said how old
        further = catching_up.further_than(cluster.age, context.max_share) if catching_up is not None else None
        cluster.catching_up = None
        if further is not None:
            cluster.parameters, cluster.buffers, cluster.age = further.parameters, further.buffers, further.age
            cluster.folded.clear()
        elif not self._move(cluster, context) and not cluster.changed:
            return None
        cluster.models.put(context.version + 1, cluster.parameters)
        cluster.changed = False
        return ClusterModel(
            parameters=cluster.parameters,
            buffers=cluster.buffers,
            age=cluster.age,
            contributors=tuple(peer for peer, _ in self.members_heard(cluster)),
            members=self._named(cluster, context) if len(self._clusters) > 1 else (),
            cluster=cluster.number,
        )

    def _move(self, cluster: Cluster, context: ServerContext) -> bool:
        """Move a cluster's model by what is new of its members; whether there was anything."""
        step = self._next_step(cluster, context)
        if step is None:
            return False
        cluster.parameters = moved(cluster.parameters, step.parameters)
        cluster.buffers = step.buffers
        # It does not fall: deltas are added, and the steps that were in the model are in it still.
        cluster.age = max(cluster.age, step.age)
        cluster.changed = True
        return True

    def _next_step(self, cluster: Cluster, context: ServerContext) -> Mean | None:
        if self._sketcher is not None:
            if not len(cluster.folded):
                return None
            step = cluster.folded.mean(context.max_share)
            cluster.folded.clear()
            return step
        fresh = [delta for peer, delta in self.members_heard(cluster) if peer in self._fresh]
        if not fresh:
            return None
        shares = sample_shares(fresh, context.max_share)
        return Mean(
            parameters=weighted_sum([delta.delta for delta in fresh], shares),
            buffers=weighted_sum([delta.buffers for delta in fresh], shares),
            age=mixed_count([delta.age for delta in fresh], shares),
        )

    def state(self) -> ServerState:
        """The clusters' models and who is in which; nothing while there is one, whose model the server keeps."""
        if len(self._clusters) == 1:
            return ServerState()
        vectors: dict[str, Vector] = {}
        counters = {f"member {peer}": number for peer, number in self._cluster_of.items()}
        for cluster in self.all():
            name = f"cluster {cluster.number}"
            vectors[name], vectors[f"{name} buffers"] = cluster.parameters, cluster.buffers
            counters[f"{name} age"], counters[f"{name} born"] = cluster.age, cluster.born
        return ServerState(vectors=vectors, counters=counters)

    def restore(self, state: ServerState) -> None:
        """Go on from `state`'s clusters, all of them to be published again; from one where it has none that fit."""
        restored: dict[int, Cluster] = {}
        for name, parameters in state.vectors.items():
            number = _number(name.removeprefix("cluster "))
            buffers = state.vectors.get(f"{name} buffers")
            if number is None or buffers is None:
                continue
            if (parameters.size, buffers.size) != (self.start.parameters.size, self.start.buffers.size):
                return
            cluster = self._cluster(number, parameters, buffers, max(0, state.counters.get(f"{name} age", 0)))
            cluster.born, cluster.changed = max(0, state.counters.get(f"{name} born", 0)), True
            restored[number] = cluster
        if 0 not in restored:
            return
        self._clusters = restored
        for name, number in state.counters.items():
            if name.startswith("member ") and number in restored:
                self._cluster_of[name.removeprefix("member ")] = number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def sample_shares(deltas: Sequence[Delta], max_share: float = 1.0) -> list[float]:
    """|D_k| / Σ|D|; equal where nobody has samples."""
    return bounded_shares([delta.samples for delta in deltas], [True] * len(deltas), max_share)
