"""The best of a member's released models, by its own held-out samples: what is worth pulling.

Training goes on for as long as a task lasts, and a model that is trained for too long learns its members' samples by
heart. So the best released model is kept beside the newest one, on disk too:

    an evaluation ─▶ better than the best? ─▶ it is the best from now on
                  └▶ other samples than the best was measured on ─▶ the best is measured again, then compared

Equal metrics are told apart by the loss. Only what is better by more than a thousandth counts as an improvement, which
`rounds_since` of a `Figure` counts from: a model that creeps along has come to its end (see `patience`).

A member's figure is about its own samples, and so is its best; what others say of theirs is a claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from grapevine_agent.core.effects import Evaluate, Evaluated, SaveBest, SavedModel
from grapevine_proto.messages import Figure
from grapevine_tasks.closed_sets import METRICS
from grapevine_tasks.layout import ModelLayout

IMPROVES: Final = 1e-3  # of the metric that was the best
MAX_CONTRIBUTIONS: Final = 1_000  # that are kept of the best model
_BY = "by/"  # before a contributor's name, among what is saved


@dataclass(frozen=True, kw_only=True)
class Held:
    """A released model that was evaluated, and what came of it."""

    asked: Evaluate  # the model, and where its member stood
    metric: float
    loss: float
    num_evaluated: int
    contributions: Mapping[str, int]


@dataclass(kw_only=True)
class BestModel:
    """See the module's docstring, of one task."""

    task: str
    higher_is_better: bool
    held: Held | None = None
    latest: Figure | None = None  # of the model that was evaluated last
    _counted: float = math.nan  # the metric of the last improvement
    _improved_round: int = 0
    _waiting: tuple[Evaluated, Mapping[str, int]] | None = None  # until the best is measured on the same samples

    @classmethod
    def of(cls, task: str, metric_name: str, saved: SavedModel | None, layout: ModelLayout) -> BestModel:
        """With what is saved, if it fits."""
        best = cls(task=task, higher_is_better=METRICS[metric_name].higher_is_better)
        if saved is not None:
            best.restore(saved, layout)
        return best

    def figure(self, round_: int) -> Figure | None:
        """How the best model has done, as a member says it in this round."""
        if self.held is None:
            return None
        return _figure(self.held.asked, self.held.metric, self.held.num_evaluated, round_ - self._improved_round)

    def judge(self, evaluation: Evaluated, contributions: Callable[[], Mapping[str, int]]) -> list[Evaluate]:
        """An evaluation came back. `contributions` says whose work is in the model.

        Returns the best model where it must be measured again first.
        """
        asked = evaluation.of
        if asked is None:
            return []
        if asked.which == "best":
            self._measured_again(evaluation)
            return []
        if evaluation.metric is None or evaluation.loss is None or not evaluation.num_evaluated:
            return []
        self.latest = _figure(asked, evaluation.metric, evaluation.num_evaluated, 0)
        if self.held is not None and self.held.num_evaluated != evaluation.num_evaluated:
            self._waiting = evaluation, contributions()
            return [self.ask_again(self.held)]
        self._consider(evaluation, contributions)
        return []

    def _measured_again(self, evaluation: Evaluated) -> None:
        waiting, self._waiting = self._waiting, None
        if self.held is None:
            return
        if evaluation.error or evaluation.metric is None or evaluation.loss is None:
            self.held, self._counted = None, math.nan  # on these samples it gives no numbers
        else:
            self._counted = evaluation.metric
            self.held = replace(
                self.held, metric=evaluation.metric, loss=evaluation.loss, num_evaluated=evaluation.num_evaluated
            )
        if waiting is not None and (self.held is None or waiting[0].num_evaluated == self.held.num_evaluated):
            self._consider(waiting[0], lambda: waiting[1])

    def _consider(self, evaluation: Evaluated, contributions: Callable[[], Mapping[str, int]]) -> None:
        asked, metric, loss = evaluation.of, evaluation.metric, evaluation.loss
        assert asked is not None
        assert metric is not None
        assert loss is not None
        held = self.held
        if held is not None:
            is_equal = metric == held.metric and loss < held.loss
            if not (is_equal or self.is_better(metric, held.metric)):
                return
        by = dict(islice(contributions().items(), MAX_CONTRIBUTIONS))
        self.held = Held(
            asked=asked, metric=metric, loss=loss, num_evaluated=evaluation.num_evaluated, contributions=by
        )
        if not math.isfinite(self._counted) or self.is_better(metric, self._counted, IMPROVES):
            self._counted, self._improved_round = metric, asked.round

    @staticmethod
    def ask_again(held: Held) -> Evaluate:
        """The effect that has it measured on the samples that are there now."""
        return replace(held.asked, which="best")

    def is_better(self, metric: float, than: float, by: float = 0.0) -> bool:
        """Whether a metric is better than another one, by more than such a part of that."""
        margin = by * abs(than)
        return metric > than + margin if self.higher_is_better else metric < than - margin

    # --- across restarts --------------------------------------------------------------------------

    def to_save(self) -> SaveBest | None:
        """The effect that keeps the best model, if there is one."""
        if self.held is None:
            return None
        asked = self.held.asked
        counters = {
            "round": asked.round,
            "age": asked.age,
            "steps": asked.steps,
            "version": asked.version,
            "num_evaluated": self.held.num_evaluated,
            "improved_round": self._improved_round,
        }
        by = {_BY + peer: version for peer, version in self.held.contributions.items()}
        return SaveBest(
            task=self.task,
            vectors={"parameters": asked.parameters, "buffers": asked.buffers},
            counters={**counters, **by},
            figures={"metric": self.held.metric, "loss": self.held.loss, "counted": self._counted},
        )

    def restore(self, saved: SavedModel, layout: ModelLayout) -> None:
        """Take what `to_save` gave; what does not fit the task is passed over."""
        vectors, counters, figures = saved.vectors, saved.counters, saved.figures
        sizes = {"parameters": layout.num_parameters, "buffers": layout.num_buffers}
        if any(name not in vectors or vectors[name].size != size for name, size in sizes.items()):
            return
        if any(not math.isfinite(figures.get(name, math.nan)) for name in ("metric", "loss", "counted")):
            return
        asked = Evaluate(
            task=self.task,
            round=counters.get("round", 0),
            parameters=vectors["parameters"],
            buffers=vectors["buffers"],
            age=counters.get("age", 0),
            steps=counters.get("steps", 0),
            version=counters.get("version", 0),
        )
        by = {name.removeprefix(_BY): version for name, version in counters.items() if name.startswith(_BY)}
        self.held = Held(
            asked=asked,
            metric=figures["metric"],
            loss=figures["loss"],
            num_evaluated=counters.get("num_evaluated", 0),
            contributions=dict(islice(by.items(), MAX_CONTRIBUTIONS)),
        )
        self._counted, self._improved_round = figures["counted"], counters.get("improved_round", 0)


def _figure(asked: Evaluate, metric: float, num_evaluated: int, rounds_since: int) -> Figure:
    return Figure(
        metric=metric,
        age=asked.age,
        version=asked.version,
        num_evaluated=num_evaluated,
        rounds_since=max(0, rounds_since),
    )
