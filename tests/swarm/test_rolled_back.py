"""A member that has gone back to its best model, in a crowd."""

from __future__ import annotations

import numpy as np
from tests.swarm.learning_crowd import crowd

from grapevine_proto.messages import plain


def test_a_return_to_the_best_model_is_no_change_that_others_sum() -> None:
    group = crowd(num_members=3, strategy="delta-sum", update_form="delta")
    group.world.run(4)
    learner = group.members[0].core.tasks.learning[group.task]
    window, held = learner.model.window, learner.best.held
    assert held is not None
    assert learner._roll_back(held)
    update = learner.writer.write(learner.model, group.members[1].peer, session=1, server_version=0)
    assert update.window != window
    assert update.base is not None
    assert np.array_equal(plain(update.base), held.asked.parameters)
    assert update.delta is not None
    assert not plain(update.delta).any()
