"""What members send beyond their clocks' ticks, and that it stays within the ticks: token accounts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.swarm.learning_crowd import Crowd, crowd

from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.tokens import CAPACITY


def _learners(group: Crowd) -> list[Learning]:
    return [node.core.tasks.learning[group.task] for node in group.members]


def _sent(group: Crowd) -> int:
    return sum(learner.num_sent for learner in _learners(group))


@pytest.mark.parametrize("strategy", ["age-weighted", "doubly-weighted"])
def test_with_token_accounts_members_learn_as_well_with_no_more_sends(strategy: str) -> None:
    by_clock = crowd(strategy=strategy)
    saving = crowd(strategy=strategy, send_rate="token-account")
    for group in (by_clock, saving):
        group.world.run(20)
        assert np.mean(group.accuracy(since_s=group.world.now_s - 2)) > 0.92
    assert 0 < _sent(saving) <= 1.05 * _sent(by_clock)  # ticks are drawn at random
    assert any(learner.sending.account and learner.sending.account.tokens < CAPACITY for learner in _learners(saving))


def test_news_is_handed_on_at_once_and_not_at_the_next_tick() -> None:
    group = crowd(strategy="age-weighted", send_rate="token-account", num_members=4, sends_per_round=0.1)
    group.world.run(2)
    first, *others = _learners(group)
    for learner in (first, *others):
        learner.sending.clock.next_s = group.world.now_s + 1000  # no ticks
        assert learner.sending.account is not None
        learner.sending.account.tokens = 0
    first.sending.account.tokens = 1  # type: ignore[union-attr]
    others[0].sending.account.tokens = CAPACITY  # type: ignore[union-attr]
    before = [learner.num_sent for learner in (first, *others)]
    now = group.world.moment()
    group.world.perform(group.members[1], [others[0].sending.send(first.settings.peer, now)])
    group.world.run(0.5)
    sent = [learner.num_sent - number for learner, number in zip((first, *others), before, strict=True)]
    assert sent[0] == 1  # for the update that it was sent
    assert sum(sent) - 1 <= 1 + CAPACITY
    assert first.sending.account.tokens == 0  # type: ignore[union-attr]
