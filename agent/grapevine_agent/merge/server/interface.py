"""What a server's strategy is given, what it gives back, and how it is found by name.

A server merges differently from a member: it has no model of its own to train, it hears many members,
and some strategies remember what came before. So each is a class with state:

    strategy = SERVER_STRATEGIES[name].make(ServerStart(parameters=…, buffers=…))
    strategy.accept(update, context)        for every update, when it comes
    strategy.aggregate(context)             at every heartbeat: the models that are new, or nothing

The models of one `aggregate` are published under one number, `context.version + 1`. That number is
what members send back as `base_version`, and what staleness is counted from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from grapevine_agent.merge.voices import Constant
from grapevine_proto.messages import Vector

MAX_MEMBERS = 4096  # of whom names and numbers are kept; the one heard longest ago goes first
MAX_NAMED = 1000  # contributors, or members of a cluster, that a message names: those heard last


@dataclass(frozen=True, kw_only=True)
class ServerUpdate:
    """A member's update, checked and decoded. Vectors are finite float32: `parameters`, `base` [p], `buffers` [b].

    `base` is what the sender's training started from, where the update says so. `base_version` is the number of the
    server's model that the sender merged last; 0 if it has merged none, or does not say. `heard_s` is when it came, on
    the clock of `ServerContext.now_s`; `every_s` how long its sender's rounds take, 0 where that is not known. The
    numbers are claims that the caller has bounded. The vectors may be kept by reference: the caller does not write to
    them again.
    """

    peer: str
    parameters: Vector
    buffers: Vector
    base: Vector | None = None
    base_version: int = 0
    age: int = 0
    experience: int = 0
    samples: int = 0
    heard_s: float = 0.0
    every_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ServerContext:
    """The world at the time of a call.

    `constants` has a value for every constant of the strategy. `round` counts the times that
    `aggregate` has given models so far, over restarts too; `version` is the number of the newest
    model that was published, and never falls. Who was heard more than `forget_s` seconds ago no longer speaks for
    itself; `round_s` is how long members' rounds take, 0 where that is not known. `max_share` bounds the share of
    any member in a weighted mean. `rng` is the only source of randomness (the signs of `sketch`).
    """

    constants: Mapping[str, float] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    now_s: float = 0.0
    round: int = 0
    version: int = 0
    forget_s: float = math.inf
    round_s: float = 0.0
    max_share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ClusterModel:
    """A model to publish, new float32 vectors that nobody writes to again.

    `members` says whom it is for, sorted; empty means everybody. `contributors` are the members heard
    lately whose updates are in it, sorted. `cluster` stays the same from one `aggregate` to the
    next. Cluster 0 is always there: it is for members that are named in no cluster, too.
    """

    parameters: Vector
    buffers: Vector
    age: int
    contributors: tuple[str, ...]
    members: tuple[str, ...] = ()
    cluster: int = 0


@dataclass(frozen=True, kw_only=True)
class ServerStart:
    """The server's model to go on from: the task's initial weights, or what was saved, with its published number.

    `is_restored`: it was saved, nobody knows when, and members may have come further. `num_places`: so many vectors of
    members may be held where a strategy compares them.
    """

    parameters: Vector
    buffers: Vector
    age: int = 0
    version: int = 0
    is_restored: bool = False
    num_places: int = 256


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What a strategy wants kept over a restart beside the server's model: float32 vectors and counters."""

    vectors: Mapping[str, Vector] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


class ServerStrategy(Protocol):
    """How a server makes one model, or one a cluster, of its members' updates."""

    def accept(self, update: ServerUpdate, context: ServerContext) -> None:
        """Take an update. Nothing that is given is modified."""
        ...

    def aggregate(self, context: ServerContext) -> list[ClusterModel]:
        """The models that have changed since the last call, by cluster; empty where nothing is new."""
        ...

    def state(self) -> ServerState:
        """What `restore` goes on from. What is left out is lost harmlessly; each strategy says why."""
        ...

    def restore(self, state: ServerState) -> None:
        """Go on from a saved state, before the first update. A state that does not fit is passed over."""
        ...


class Maker(Protocol):
    """Makes a strategy that goes on from a model."""

    def __call__(self, start: ServerStart, /) -> ServerStrategy:
        """A strategy that has heard nobody yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class ServerStrategyEntry:
    """A strategy with what the rest needs to know of it.

    `memory` is what it holds between calls, in words, with p the size of one model and |P| the places: it does not
    grow with the number of members, but for names and numbers of at most `MAX_MEMBERS`. `num_models`: so many models
    at most, or for each cluster, beside those of the places. `needs_base`: members should send base and delta.
    `clusters`: there may be several models at a time. `in_rounds`: each model closes a round, of those who were
    heard in it.
    """

    make: Maker
    source: str  # paper and equations
    memory: str
    num_models: int
    constants: Mapping[str, Constant] = field(default_factory=dict)
    needs_base: bool = False
    clusters: bool = False
    in_rounds: bool = False

    def with_defaults(self, given: Mapping[str, float]) -> dict[str, float]:
        """Every constant of the strategy: as given, else its default."""
        return {name: given.get(name, constant.default) for name, constant in self.constants.items()}
