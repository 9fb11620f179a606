"""Small models and the world around a server's strategy, for its tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from grapevine_agent.merge.server import (
    SERVER_STRATEGIES,
    ClusterModel,
    ServerContext,
    ServerStart,
    ServerState,
    ServerStrategy,
    ServerUpdate,
)
from grapevine_proto.messages import Vector


def vector(*values: float) -> Vector:
    """A vector that nobody may write to."""
    made = np.array(values, np.float32)
    made.setflags(write=False)
    return made


def update(
    peer: str,
    values: Sequence[float],
    *,
    base: Sequence[float] | None = None,
    buffers: Sequence[float] = (),
    base_version: int = 0,
    age: int = 0,
    samples: int = 0,
    heard_s: float = 0.0,
    every_s: float = 0.0,
) -> ServerUpdate:
    return ServerUpdate(
        peer=peer,
        parameters=vector(*values),
        buffers=vector(*buffers),
        base=None if base is None else vector(*base),
        base_version=base_version,
        age=age,
        samples=samples,
        heard_s=heard_s,
        every_s=every_s,
    )


class Server:
    """A strategy with the world that an aggregator gives it: versions and rounds count up as models are published."""

    def __init__(
        self,
        name: str,
        parameters: Sequence[float] = (0.0,),
        buffers: Sequence[float] = (),
        *,
        constants: Mapping[str, float] | None = None,
        version: int = 0,
        round: int = 0,  # noqa: A002 - the context's word
        forget_s: float = np.inf,
        round_s: float = 0.0,
        max_share: float = 1.0,
        age: int = 0,
        is_restored: bool = False,
        num_places: int = 256,
    ) -> None:
        entry, constants = SERVER_STRATEGIES[name], constants or {}
        unknown = constants.keys() - entry.constants.keys()
        assert not unknown, f"{name} has no {unknown}"
        start = ServerStart(
            parameters=vector(*parameters),
            buffers=vector(*buffers),
            age=age,
            version=version,
            is_restored=is_restored,
            num_places=num_places,
        )
        self.strategy: ServerStrategy = entry.make(start)
        self.context = ServerContext(
            constants=entry.with_defaults(constants),
            version=version,
            round=round,
            forget_s=forget_s,
            round_s=round_s,
            max_share=max_share,
        )

    def hear(self, *updates: ServerUpdate) -> None:
        for each in updates:
            self.strategy.accept(each, self.context)

    def aggregate(self, *updates: ServerUpdate, now_s: float = 0.0) -> list[ClusterModel]:
        self.hear(*updates)
        self.context = replace(self.context, now_s=now_s)
        models = self.strategy.aggregate(self.context)
        if models:
            self.context = replace(self.context, version=self.context.version + 1, round=self.context.round + 1)
        return models

    def model(self, *updates: ServerUpdate, now_s: float = 0.0) -> ClusterModel:
        (model,) = self.aggregate(*updates, now_s=now_s)
        return model

    def restore(self, state: ServerState) -> None:
        self.strategy.restore(state)


def members(models: Sequence[ClusterModel]) -> list[tuple[str, ...]]:
    return [model.members for model in models]
