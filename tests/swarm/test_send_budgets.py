"""What members send beyond their clocks' ticks, and that it stays within the ticks: token accounts, answers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_resting import Walking

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.learning.answering import MOST_OWED, Answering
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.pace import ENVELOPE_BYTES
from grapevine_agent.core.learning.tokens import CAPACITY
from grapevine_agent.core.moment import Moment
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.topics import InboxTopic

UPDATE_BYTES = 4 * 4_810 + ENVELOPE_BYTES  # of the catalogue's digits


def _learners(group: Crowd) -> list[Learning]:
    return [node.core.tasks.learning[group.task] for node in group.members]


def _sent(group: Crowd) -> int:
    return sum(learner.num_sent for learner in _learners(group))


@dataclass
class Ledger:
    """What one member was granted, by the ticks of its clock, and what it has sent, in the order of the two."""

    steps: list[int] = field(default_factory=list)  # 1: a send; -1: a tick
    num_reactive: int = 0  # sends that no tick has made
    _in_tick: bool = False

    @classmethod
    def of(cls, learner: Learning) -> Ledger:
        """Begun, from now on."""
        ledger, due, send = cls(), learner.sending.due, learner.sending.send

        def noting_tick(now: Moment) -> list[fx.Publish | ev.Sent]:
            ledger.steps.append(-1)
            ledger._in_tick = True
            made = due(now)
            ledger._in_tick = False
            return made

        def noting_send(receiver: str, now: Moment, *, is_answer: bool = False) -> fx.Publish:
            ledger.steps.append(1)
            ledger.num_reactive += not ledger._in_tick
            return send(receiver, now, is_answer=is_answer)

        learner.sending.due, learner.sending.send = noting_tick, noting_send  # type: ignore[method-assign]
        return ledger

    @property
    def num_ticks(self) -> int:
        return self.steps.count(-1)

    @property
    def num_sent(self) -> int:
        return self.steps.count(1)

    def most_ahead(self) -> int:
        """By how many its sends were more than its ticks, in the stretch of time in which these were most."""
        most = ahead = 0
        for step in self.steps:
            ahead = max(ahead + step, 0)
            most = max(most, ahead)
        return most


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


def test_where_the_owner_lends_little_of_the_line_an_account_stays_within_it_and_news_goes_at_once() -> None:
    sends_per_s = 6.0  # of some 13 that the task would have them make
    lent = sends_per_s * UPDATE_BYTES
    group = crowd(strategy="doubly-weighted", send_rate="token-account", upload_bytes_per_s=lent)
    group.world.run(1)
    ledgers = [Ledger.of(learner) for learner in _learners(group)]
    from_s = group.world.now_s
    group.world.run(25)
    granted = sends_per_s * (group.world.now_s - from_s)
    for ledger in ledgers:
        assert ledger.most_ahead() <= CAPACITY
        assert ledger.num_ticks <= granted + 4 * math.sqrt(granted)  # a Poisson clock's
        assert granted / 2 < ledger.num_sent <= granted + 4 * math.sqrt(granted) + CAPACITY
        assert ledger.num_reactive > 10
    assert np.mean(group.accuracy(since_s=group.world.now_s - 2)) > 0.92


# --- push-pull ------------------------------------------------------------------------------------


def _updates(group: Crowd, for_s: float) -> list[tuple[str, str, bool]]:
    """Every update that is published: sender, receiver, whether it is an answer."""
    seen: list[tuple[str, str, bool]] = []
    perform = group.world.perform

    def noting(node: Any, effects: Any) -> None:
        effects = list(effects)
        for effect in effects:
            if isinstance(effect, fx.Publish) and isinstance(effect.body, ModelUpdate):
                assert isinstance(effect.topic, InboxTopic)
                seen.append((node.peer, effect.topic.receiver, effect.body.is_answer))
        perform(node, effects)

    group.world.perform = noting  # type: ignore[method-assign]
    group.world.run(for_s)
    return seen


def _quiet(group: Crowd) -> None:
    """No ticks, and no training."""
    for node, learner in zip(group.members, _learners(group), strict=True):
        node.trainer = Walking(0)
        learner.sending.clock.next_s = learner._next_round_s = group.world.now_s + 1000


@pytest.mark.parametrize("strategy", ["age-weighted", "doubly-weighted", "delta-sum"])
def test_one_push_gives_both_the_others_model_and_nothing_more_is_said(strategy: str) -> None:
    group = crowd(strategy=strategy, exchange="push-pull", num_members=2)
    group.world.run(3)
    _quiet(group)
    group.world.run(2)
    (one, other), (ada, ben) = _learners(group), group.members
    for learner in (one, other):
        learner.sending.told.forget()
        learner.sending.answering.num_owed = 0  # type: ignore[union-attr]
    versions = {ben.peer: other.model.version, ada.peer: one.model.version}
    group.world.perform(ada, [one.sending.send(ben.peer, group.world.moment())])
    seen = _updates(group, 3)
    assert seen == [(ben.peer, ada.peer, True)]
    for learner, who in ((one, ben.peer), (other, ada.peer)):
        learner.merging.merge_gathered(group.world.moment())
        assert learner.merging.sources.versions[who] == versions[who]


def test_members_learn_as_well_with_as_many_sends_of_which_two_in_five_are_answers() -> None:
    pushing = crowd(strategy="age-weighted")
    pulling = crowd(strategy="age-weighted", exchange="push-pull")
    pushing.world.run(20)
    seen = _updates(pulling, 20)
    for group in (pushing, pulling):
        assert np.mean(group.accuracy(since_s=group.world.now_s - 2)) > 0.92
    assert len(seen) <= 1.1 * _sent(pushing)
    assert 0.35 < sum(is_answer for _, _, is_answer in seen) / len(seen) < 0.5
    # Every answer follows a push the other way, and no push gets two.
    pushes = Counter((sender, receiver) for sender, receiver, is_answer in seen if not is_answer)
    answers = Counter((receiver, sender) for sender, receiver, is_answer in seen if is_answer)
    assert all(number <= pushes[pair] for pair, number in answers.items())


@given(st.lists(st.booleans(), max_size=300))
def test_answers_are_within_the_ticks_and_leave_half_of_them(happened: list[bool]) -> None:
    answering, answers, ticks, own = Answering(), 0, 0, 0
    for is_tick in happened:
        if is_tick:
            ticks += 1
            own += not answering.takes_tick()
        elif answering.may_answer:
            answering.answered()
            answers += 1
        assert own + answers <= ticks + MOST_OWED
        assert own >= ticks // 2
