"""Who joins a crowd begins with the crowd's model: a member's released one, asked for before anything is trained.

    weights are here ─▶ nobody is there, or the task is new ───────────────────────────▶ begin with the initial weights
                     └▶ ModelRequest to a server of the task, or a member chosen at random
                          ├─ a model that fits ────────────────────────────────────────▶ begin with it
                          └─ refused, untrained, unfit, or silent for a while: the next, until `give_up_s` have passed
                                                                                    └──▶ begin with the initial weights

Untrained models pull a trained crowd back, and the more of them join, the further. Where members keep models of
their own (`personal` strategies, clusters) there is no crowd's model, and nobody is asked.

What comes is one peer's claim. Shapes and numbers are checked, counters are capped as an update's are; what it is
worth cannot be seen. A model that cannot be trained is left for the initial weights (see `Learning.fallback`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.learning.encodings import allowed_encodings
from grapevine_agent.core.learning.intake import Claims, Intake
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.answers import ANSWER_BYTES_PER_S
from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_proto.bulk import APART_BYTES
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import ReleasedModel
from grapevine_tasks.layout import ModelLayout

ANSWER_S = 2.0  # a member is given so long to answer, and what its model takes at the pace of answers
MAX_ANSWER_S = 20.0
NEW_FOR_ROUNDS = 10  # while members can have made no more since a task was published, all begin together
CLOCK_SLACK_MS = 60_000  # a task that is dated further ahead says nothing of how old it is: a clock is wrong
GIVE_UP_ANSWERS = 4.0  # waits, after which the initial weights must do


def may_have_crowds_model(manifest: TaskManifest, claims: Claims, now: Moment) -> bool:
    """Whether the members of a task have one model together, and can have trained it for a while."""
    plan = manifest.merging
    clusters = bool(manifest.servers) and SERVER_STRATEGIES[plan.server_strategy].clusters
    if STRATEGIES[plan.strategy].personal or clusters:
        return False
    is_ahead = manifest.created_at_ms > now.wall_ms + CLOCK_SLACK_MS
    return is_ahead or claims.most_rounds(now) > NEW_FOR_ROUNDS


@dataclass(kw_only=True)
class Newcomer:
    """One that is about to begin. `initial` is what it begins with where nobody gives it more."""

    initial: ModelState
    layout: ModelLayout
    began_s: float
    next_s: float = 0.0  # when to ask somebody, or to give up
    _asked: dict[str, float] = field(default_factory=dict)  # whom, and until when an answer is waited for
    _done: set[str] = field(default_factory=set)  # who has answered, and has no model for us

    @property
    def answer_s(self) -> float:
        """How long one peer is waited for."""
        num_bytes = min(self.initial.parameters.nbytes + self.initial.buffers.nbytes, APART_BYTES)
        return min(MAX_ANSWER_S, ANSWER_S + num_bytes / ANSWER_BYTES_PER_S)

    @property
    def give_up_s(self) -> float:
        """When the initial weights must do, monotonic."""
        return self.began_s + GIVE_UP_ANSWERS * self.answer_s

    def choose(self, servers: Sequence[str], members: Sequence[str], now_s: float, rng: np.random.Generator) -> str:
        """Whom to ask next: a server that was not asked, else such a member, else one again. "": nobody is left."""
        if now_s >= self.give_up_s:
            return ""
        circles = (
            [peer for peer in servers if peer not in self._asked],
            [peer for peer in members if peer not in self._asked],
            [peer for peer in (*servers, *members) if peer not in self._done],
        )
        for circle in circles:
            if circle:
                peer = circle[int(rng.integers(len(circle)))]
                self.next_s = now_s + self.answer_s
                self._asked[peer] = self.give_up_s
                return peer
        return ""

    def waits_for(self, peer: str) -> bool:
        """Whether a peer was asked, and has not answered."""
        return peer in self._asked and peer not in self._done

    def coming(self) -> None:
        """A model is on its way, and may take its time: nobody else is asked meanwhile."""
        self.next_s = math.inf

    def failed(self, peer: str, now_s: float) -> None:
        """What was on its way from a peer will not come: another one is asked."""
        self._done.add(peer)
        self.next_s = now_s

    def take(self, peer: str, released: ReleasedModel, claims: Claims, now: Moment) -> ModelState | None:
        """The model to begin with, or None: then the next one is asked. Raises `WireError` if it is not fit."""
        self._done.add(peer)
        self.next_s = now.monotonic_s
        if released.refusal or released.age == 0:
            return None
        intake = Intake(layout=self.layout, allowed=allowed_encodings(claims.manifest.merging))
        parameters, buffers = intake.model(peer, released.full, released.buffers)
        age = claims.believed_age(peer, released.age, now)
        model = ModelState.initial(parameters, buffers)
        model.age = age
        model.steps = max(age, min(released.steps, claims.pace_limit(now)))
        model.num_released = min(released.round, claims.most_rounds(now))  # else its first rounds alone would undo it
        model.experience = age * claims.manifest.training.batch_size  # the samples of so many steps
        return model
