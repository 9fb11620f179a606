"""A member at rest wakes the moment that an update moves its model, and not at its next round."""

from __future__ import annotations

import numpy as np
from tests.unit.agent.core.tasks.device import ADA, LAYOUT, Device

from grapevine_agent.core.learning.rest import QUIET_ROUNDS
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import ModelUpdate, Vector


def test_a_member_at_rest_wakes_at_once_when_news_comes_and_rests_on_where_it_is_none() -> None:
    device = Device()
    task = device.publish(merging=MergePlan(strategy="age-weighted"))
    device.approve(task)
    device.settle()
    learner, now = device.core.tasks.learning[task], device.moment()
    learner.rest.num_quiet = QUIET_ROUNDS
    learner.rest._seen = (learner.model.parameters, learner.model.buffers)
    learner._next_round_s = later_s = now.monotonic_s + 100

    def say(full: Vector) -> None:
        learner.accept(ADA, ModelUpdate(task=task, window=1, version=1, age=1, experience=1, samples=1, full=full), now)

    say(learner.model.parameters)
    assert learner.rest.is_resting
    assert learner._next_round_s == later_s
    say(np.ones(LAYOUT.num_parameters, np.float32))
    assert not learner.rest.is_resting
    assert learner._next_round_s == now.monotonic_s
