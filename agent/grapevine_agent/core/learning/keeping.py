"""When a task's model goes to disk: when it has changed, and no more often than the owner lets it.

Two things bound what a kill or a power cut can cost, and what saving costs a memory card:

    save_every_s       no model is saved more often: so much of a task's training is lost at most, and
    bytes_per_day      all tasks together write so much: where their models are large, each is saved more seldom

`SaveBudget.interval_s` is what follows from the two, and what `status` tells. A model that has not changed is not
written; that merging equal models moves its last digits is no change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Final

from grapevine_agent.core.effects import SaveBest, SaveModel
from grapevine_agent.core.learning.rest import MOVES
from grapevine_agent.core.learning.traces import Trace, has_moved, trace_of

DAY_S: Final = 86_400.0
FILE_BYTES: Final = 8 * 1024  # of a saved model beside its numbers: header, whole blocks, the folder's entry
_ROUNDS_ONLY = frozenset(("round", "window", "num_released"))  # counters that move in a task in which nothing happens


@dataclass(kw_only=True)
class SaveBudget:
    """What all tasks of an agent may write of their models."""

    save_every_s: float
    bytes_per_day: float = math.inf
    _sizes: dict[str, int] = field(default_factory=dict)

    @property
    def interval_s(self) -> float:
        """Each task's model is saved so often at most: what a kill costs of its training."""
        return max(self.save_every_s, DAY_S * sum(self._sizes.values()) / self.bytes_per_day)

    def enter(self, task: str, num_bytes: int) -> None:
        """From now on a model of this size is saved, too."""
        self._sizes[task] = num_bytes

    def leave(self, task: str) -> None:
        """A task's model is saved no more."""
        self._sizes.pop(task, None)


@dataclass(frozen=True)
class _Kept:
    """What is remembered of a model that is on disk."""

    counters: Mapping[str, int]
    traces: Mapping[str, Trace]

    @classmethod
    def of(cls, model: SaveModel) -> _Kept:
        return cls(_told(model.counters), {name: trace_of(vector) for name, vector in model.vectors.items()})

    def is_same(self, model: SaveModel) -> bool:
        if self.counters != _told(model.counters) or self.traces.keys() != model.vectors.keys():
            return False
        return not any(has_moved(trace, model.vectors[name], MOVES) for name, trace in self.traces.items())


@dataclass(kw_only=True)
class Keeper:
    """Decides for one task. `next_s` (monotonic) is when to look whether its model has changed."""

    budget: SaveBudget
    kept: InitVar[SaveModel | None] = None  # what is on disk, or on its way there
    kept_best: InitVar[SaveBest | None] = None
    next_s: float = 0.0
    _kept: _Kept | None = None
    _best: tuple[object, object] | None = None  # counters and figures

    def __post_init__(self, kept: SaveModel | None, kept_best: SaveBest | None) -> None:
        self._kept = _Kept.of(kept) if kept is not None else None
        self._best = (kept_best.counters, kept_best.figures) if kept_best is not None else None

    def due(self, model: SaveModel, now_s: float, best: SaveBest | None = None) -> list[SaveModel | SaveBest]:
        """What is to be saved at this look: the model, the best one, both or neither."""
        self.budget.enter(model.task, _num_bytes(model) + (_num_bytes(best) if best is not None else 0))
        self.next_s = now_s + self.budget.interval_s
        return self.if_changed(model, best)

    def if_changed(self, model: SaveModel, best: SaveBest | None = None) -> list[SaveModel | SaveBest]:
        """The models, but for those that are kept as they are."""
        changed: list[SaveModel | SaveBest] = []
        if self._kept is None or not self._kept.is_same(model):
            self._kept = _Kept.of(model)
            changed.append(model)
        # Another best model was trained for another time, or measured on other samples.
        if best is not None and self._best != (told := (best.counters, best.figures)):
            self._best = told
            changed.append(best)
        return changed


def _num_bytes(model: SaveModel | SaveBest) -> int:
    return FILE_BYTES + sum(vector.nbytes for vector in model.vectors.values())


def _told(counters: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counters.items() if name not in _ROUNDS_ONLY}
