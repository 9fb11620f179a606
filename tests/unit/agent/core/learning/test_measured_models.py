"""Which models of senders a member measures: those that it merges."""

from __future__ import annotations

import numpy as np
from tests.unit.agent.core.learning.test_stale_updates import learner_of
from tests.unit.agent.core.tasks.device import LAYOUT

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_proto.messages import ModelUpdate, Vector

NONE = np.empty(0, np.float32)


def model(value: float) -> Vector:
    return np.full(LAYOUT.num_parameters, value, np.float32)


def update(value: float, version: int) -> ModelUpdate:
    return ModelUpdate(
        task="task", window=version, version=version, age=5, experience=160, samples=9, full=model(value)
    )


def test_a_good_model_just_before_a_bad_one_does_not_stand_for_it() -> None:
    learner, now = learner_of(strategy="doubly-weighted")
    shadow = learner.merging.shadow
    shadow.trained(10_000, 1)
    for version, value in ((1, 0.5), (2, 2.0)):
        learner.accept("eve", update(value, version), now)
    assert not shadow.is_due
    learner.merging.merge_gathered(now)
    (asked,) = shadow.take_asked(may_ask=True)
    assert asked.sender == "eve"
    assert asked.parameters[0] == 2.0


def test_what_waits_of_a_sender_that_comes_to_be_doubted_is_not_merged() -> None:
    learner, now = learner_of(strategy="doubly-weighted")
    shadow = learner.merging.shadow
    for number in range(9):
        shadow.check(f"honest {number}", model(0), NONE, 1)
        shadow._senders[f"honest {number}"].loss, shadow._senders[f"honest {number}"].metric = 0.5, 0.9
    learner.accept("eve", update(2.0, 1), now)
    asked = Evaluate(task="task", round=1, parameters=model(2.0), buffers=NONE, which="shadow", sender="eve")
    learner.evaluated(Evaluated(task="task", round=1, loss=9.0, metric=0.1, num_evaluated=50, of=asked), now)
    assert not learner.merging._pending
    assert shadow._senders["eve"].is_doubted
