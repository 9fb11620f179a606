"""`fedbuff`: gather the changes of K updates, then take one step.

Nguyen et al., "Federated learning with buffered asynchronous aggregation" (AISTATS 2022), algorithm 1
with the staleness scaling of its section 5:

    θ ← θ + (η/K)·Σ_k Δ_k/√(1 + s_k)        every K updates

s_k is the number of such steps since the model that the sender started from. (The paper's Δ points
the other way and is subtracted.) Steps are taken when the buffer is full, several between two
heartbeats if need be; what is published is the model after the last one. A member may fill several
places of a buffer, as in the paper: each is another piece of its training. That holds where a sender
sends one update a window; deltas from one base that overlap would be counted as often as they are sent.

Δ_k = θ_k − base. Where an update does not say its base, it is the model of the version that the sender
merged last, among the last 8 published, or the oldest of them.

Held between calls: p for the buffer, and the last 8 models, 8p (they are the same vectors as were
published). Buffers of the model (BatchNorm's) are not summed. They are mixed by the weights that the
step gives to models whose base is θ, which are convex:

    b ← (1 − c)·b + c·Σ w_k·b_k/Σ w_k        w_k = 1/√(1 + s_k)        c = min(1, η·Σ w_k/K)

The age is mixed likewise, and does not fall: the steps that were in θ are in it still.
"""

from __future__ import annotations

import math

import numpy as np

from grapevine_agent.merge.server.catching_up import CatchingUp
from grapevine_agent.merge.server.deltas import add_difference, moved
from grapevine_agent.merge.server.held import ByVersion, Newest
from grapevine_agent.merge.server.interface import ClusterModel, ServerContext, ServerStart, ServerState, ServerUpdate
from grapevine_agent.merge.voices import mixed_count, weighted_sum
from grapevine_proto.messages import Vector

HELD_MODELS = 8
REMEMBERED_VERSIONS = 256  # an update from before them counts as from the oldest of them


class FedBuff:
    """See the module's docstring.

    Kept over a restart: the count of steps. The buffer is lost, at most K − 1 updates: their senders'
    models have what was in them, and the next updates start from there. Earlier models are lost,
    so a delta without a base is taken from the saved model until its sender has merged a newer one. If members have
    come further than the saved model, it goes on from their mean (`catching_up`), without the steps that were
    taken meanwhile: they are in it.
    """

    def __init__(self, start: ServerStart) -> None:
        self._parameters, self._buffers, self._age = start.parameters, start.buffers, start.age
        self._catching_up = CatchingUp() if start.is_restored else None
        self._start_age = start.age
        self._published = start.version
        self._steps = 0
        self._steps_at: ByVersion[int] = ByVersion(REMEMBERED_VERSIONS)
        self._steps_at.put(start.version, 0)
        self._models: ByVersion[Vector] = ByVersion(HELD_MODELS)
        self._models.put(start.version, start.parameters)
        self._heard: Newest[None] = Newest()
        self._fresh = False
        self._total, self._total_buffers = np.empty_like(start.parameters), np.empty_like(start.buffers)
        self._empty()

    def _empty(self) -> None:
        self._total.fill(0)
        self._total_buffers.fill(0)
        self._weight = 0.0
        # Sender, heard_s, age, weight: theirs is not in the model yet.
        self._waiting: list[tuple[str, float, int, float]] = []

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Add the change to the buffer, and take a step if it is full."""
        if self._catching_up is not None:
            self._catching_up.hear(update, context.max_share)
        base = update.base if update.base is not None else self._models.at(update.base_version)
        staleness = max(0, self._steps - self._steps_at.at(update.base_version))
        weight = 1 / math.sqrt(1 + staleness)
        add_difference(self._total, update.parameters, base, weight)
        self._total_buffers += np.float32(weight) * update.buffers
        self._weight += weight
        self._waiting.append((update.peer, update.heard_s, update.age, weight))
        if len(self._waiting) >= round(context.constants["buffer"]):
            self._step(context.constants["eta"])

    def _step(self, eta: float) -> None:
        num_held = len(self._waiting)
        self._parameters = moved(self._parameters, self._total, eta / num_held)
        mixed = min(1.0, eta * self._weight / num_held)
        mean = self._total_buffers * np.float32(1 / self._weight)
        self._buffers = weighted_sum((self._buffers, mean), (1 - mixed, mixed))
        for peer, heard_s, _, _ in self._waiting:
            self._heard.put(peer, heard_s, None)
        shares = [weight / self._weight for *_, weight in self._waiting]
        mean_age = mixed_count([age for _, _, age, _ in self._waiting], shares)
        self._age = max(self._age, mixed_count((self._age, mean_age), (1 - mixed, mixed)))
        self._steps += 1
        self._fresh = True
        self._empty()

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The model after the last step, if that is new."""
        self._heard.forget_old(context)
        self._catch_up(context)
        if not self._fresh:
            return []
        self._fresh = False
        version = context.version + 1
        self._steps_at.put(version, self._steps)
        self._models.put(version, self._parameters)
        return [
            ClusterModel(
                parameters=self._parameters, buffers=self._buffers, age=self._age, contributors=self._heard.named()
            )
        ]

    def _catch_up(self, context: ServerContext) -> None:
        if self._catching_up is None or not self._catching_up.has_heard:
            return
        further = self._catching_up.further_than(self._start_age, context.max_share)
        self._catching_up = None
        if further is None:
            return
        self._parameters, self._buffers, self._age = further.parameters, further.buffers, further.age
        for peer, heard_s, _, _ in self._waiting:
            self._heard.put(peer, heard_s, None)
        self._fresh = True
        self._empty()

    def state(self) -> ServerState:
        """The count of steps."""
        return ServerState(counters={"steps": self._steps})

    def restore(self, state: ServerState) -> None:
        """Count on from where it was."""
        self._steps = max(0, state.counters.get("steps", 0))
        self._steps_at.put(self._published, self._steps)
