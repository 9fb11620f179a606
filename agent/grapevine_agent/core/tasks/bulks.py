"""Whether a message whose large fields travel apart is worth fetching: decided before a byte of them is asked for.

What is checked is what would be checked of the whole message, as far as its notice tells: that we take part, or have
asked, that its sender may say it, that its size is that of the task's model, and of an update that it is near, not
stale, written as the task allows, and from a base that is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from grapevine_agent.core.effects import Delivered, Effect
from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.serving import counting_refusals
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks.model_requests import ModelRequests
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto import messages as m
from grapevine_proto.bodies import preview
from grapevine_proto.bulk import Bulk
from grapevine_proto.errors import TaskError, WireError
from grapevine_tasks.layout import ModelLayout


@dataclass(kw_only=True)
class Bulks:
    """See the module's docstring."""

    tasks: TaskLife
    models: ModelRequests

    def take(self, sender: str, apart: m.Apart, bulk: Bulk, now: Moment, session: int = 0) -> None:
        """The rest of a message, of this session of its sender, is to be fetched: raises `WireError` if not."""
        self._check(sender, apart, bulk, now, session)
        if apart.kind is m.ReleasedModel and self.models.is_asked(sender, apart.task, now):
            self.models.coming(sender, apart.task)
        if self._is_to_begin_with(sender, apart):
            self.tasks.coming(sender, apart.task)

    def failed(self, sender: str, apart: m.Apart, why: str, now: Moment) -> list[Effect]:
        """It will not come."""
        if self._is_to_begin_with(sender, apart):
            self.tasks.not_coming(sender, apart.task, now)
        if apart.kind is m.ReleasedModel and self.models.not_coming(sender, apart.task):
            refusal = f"its model could not be fetched: {why}"
            return [Delivered(sender=sender, body=m.ReleasedModel(task=apart.task, refusal=refusal))]
        return []

    def _is_to_begin_with(self, sender: str, apart: m.Apart) -> bool:
        """Whether a task waits for this before it begins."""
        if apart.kind is m.ReleasedModel:
            return self.tasks.waits_for_model(sender, apart.task)
        return apart.kind is m.Blob

    def _check(self, sender: str, apart: m.Apart, bulk: Bulk, now: Moment, session: int) -> None:
        task = apart.task
        if apart.kind is m.ModelUpdate:
            taker = self._taker(task)
            self._check_size(bulk, self._layout_of(task, taker), num_models=2)
            update = preview(apart, bulk)
            assert isinstance(update, m.ModelUpdate)
            if taker is not None:
                with counting_refusals(self.tasks.aggregating.get(task)):
                    taker.foresee(sender, update, now, session)
        elif apart.kind is m.ServerModel:
            learner = self.tasks.learning.get(task)
            if learner is None:
                raise WireError("not-joined", f"a server's model of {task}")
            learner.check_server(sender)
            self._check_size(bulk, learner.layout, num_models=1)
        elif apart.kind is m.Blob:
            if bulk.num_bytes != self.tasks.bytes_expected(sender, task, now):
                raise WireError("not-asked", f"{bulk.num_bytes} bytes of a blob of {task} by {sender}")
        elif not (self.models.is_asked(sender, task, now) or self.tasks.waits_for_model(sender, task)):
            raise WireError("not-asked", f"a released model of {task}")
        else:
            self._check_size(bulk, self._layout_of(task, None), num_models=1)

    def _taker(self, task: str) -> Learning | Aggregator | None:
        taker = self.tasks.learning.get(task) or self.tasks.aggregating.get(task)
        if taker is None and not self.tasks.is_beginning(task):
            raise WireError("not-joined", f"an update of {task}")
        return taker

    def _layout_of(self, task: str, taker: Learning | Aggregator | None) -> ModelLayout:
        if taker is not None:
            return taker.layout
        entry = self.tasks.book.entries.get(task)
        try:
            if entry is not None:
                return ModelLayout.of(entry.manifest.program)
        except TaskError as error:
            raise WireError("bad-program", str(error)) from None
        raise WireError("not-joined", f"a model of {task}")

    @staticmethod
    def _check_size(bulk: Bulk, layout: ModelLayout, *, num_models: int) -> None:
        """Up to so many vectors of parameters, and one of buffers."""
        most = 4 * (num_models * layout.num_parameters + layout.num_buffers)
        if bulk.num_bytes > most:
            raise WireError("wrong-shape", f"{bulk.num_bytes} bytes, the task's model has at most {most}")
