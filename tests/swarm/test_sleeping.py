"""A member that sleeps most of the time: nobody suspects it, nobody sends to it, and it loses nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_resting import Walking
from tests.swarm.world import EPOCH_MS, Node

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import SleepPlan
from grapevine_proto.messages import Body, Heartbeat, ModelUpdate, PeerState, Probe, ProbeRequest
from grapevine_proto.topics import InboxTopic, PeerTopic

ONLINE_S, EVERY_S = 8.0, 40.0
PLAN = SleepPlan(online_s=ONLINE_S, every_s=EVERY_S)
assert EPOCH_MS % (EVERY_S * 1000) == 0  # windows begin at 0, 40, 80, … s


class Said:
    """What nodes have published since it was made: when, by whom, on which topic."""

    def __init__(self, group: Crowd) -> None:
        self.all: list[tuple[float, Node, fx.Publish]] = []
        perform = group.world.perform

        def noting(node: Node, effects: Any) -> None:
            effects = list(effects)
            now_s = group.world.now_s
            self.all += [(now_s, node, each) for each in effects if isinstance(each, fx.Publish) and not node.asleep]
            perform(node, effects)

        group.world.perform = noting  # type: ignore[method-assign]

    def to(self, node: Node, *kinds: type[Body], since_s: float = 0.0, until_s: float = np.inf) -> list[float]:
        """When something of these kinds was said to it."""
        return [
            at_s
            for at_s, _, each in self.all
            if isinstance(each.topic, InboxTopic) and each.topic.receiver == node.peer
            if isinstance(each.body, kinds) and since_s <= at_s < until_s
        ]

    def by(self, node: Node, kind: type[Body], *, since_s: float = 0.0) -> list[float]:
        return [at_s for at_s, who, each in self.all if who is node and isinstance(each.body, kind) and at_s >= since_s]


def walkers(num_members: int, sleep: dict[int, SleepPlan], *, num_rounds: int = 10_000, **merging: Any) -> Crowd:
    """Members whose models are others after each step; these sleep."""
    group = crowd(num_members=num_members, num_rounds=num_rounds, sleep=sleep, **merging)
    for number, node in enumerate(group.members):
        node.trainer = Walking(number)
    return group


def learner(group: Crowd, node: Node) -> Learning:
    return node.core.tasks.learning[group.task]


def asleep_for_the_first_time(group: Crowd, sleeper: Node) -> None:
    """Let time pass until it sleeps: members have met, and learn."""
    group.world.run(ONLINE_S + 0.5 - group.world.now_s)
    assert sleeper.asleep
    assert sleeper.core.sleep.is_away


def run_until_awake(group: Crowd, sleeper: Node) -> float:
    """Let time pass until it is back. When that was."""
    while sleeper.asleep:
        group.world.run(0.2)
        assert group.world.now_s < 2 * EVERY_S
    return group.world.now_s


def test_while_it_sleeps_nobody_sends_to_it_or_suspects_it_and_it_goes_on_training() -> None:
    group = walkers(4, {0: PLAN})
    sleeper, others = group.members[0], group.members[1:]
    said = Said(group)
    asleep_for_the_first_time(group, sleeper)
    version, slept_s = learner(group, sleeper).model.version, group.world.now_s
    assert said.to(sleeper, ModelUpdate)
    group.world.run(25)
    assert said.to(sleeper, ModelUpdate, Probe, since_s=slept_s) == []
    assert not [each for _, _, each in said.all if isinstance(each.body, ProbeRequest)]
    assert learner(group, sleeper).model.version > version + 50
    for other in others:
        assert sleeper.peer in other.core.members.sleepers
        assert sleeper.peer not in learner(group, other).targets(group.world.moment())
        assert learner(group, other).num_members(group.world.moment()) == 3, "whom it can reach, and itself"
    assert learner(group, sleeper).targets(group.world.moment()) == []


def test_it_gets_the_newest_model_at_once_when_it_is_awake_and_it_is_no_crowd_that_sends_it() -> None:
    # A send in 250 s of each: gossip alone would take half a minute.
    group = walkers(9, {0: PLAN}, send_rate="constant", sends_per_round=0.001)
    sleeper, others = group.members[0], group.members[1:]
    said = Said(group)
    asleep_for_the_first_time(group, sleeper)
    back_s = run_until_awake(group, sleeper)
    assert EVERY_S <= back_s <= EVERY_S + 0.1 * ONLINE_S + 0.3
    group.world.run(1.0)
    sent = said.to(sleeper, ModelUpdate, since_s=EVERY_S)
    assert 1 <= len(sent) <= 10
    newest = max(learner(group, other).model.version for other in others)
    known = learner(group, sleeper).merging.sources.versions
    assert max(known[other.peer] for other in others if other.peer in known) >= newest - 6, "not one of before"


def test_what_it_has_made_meanwhile_goes_out_soon_after_it_is_awake() -> None:
    group = walkers(4, {0: PLAN}, send_rate="constant", sends_per_round=0.001)
    sleeper = group.members[0]
    said = Said(group)
    asleep_for_the_first_time(group, sleeper)
    made = learner(group, sleeper).model.version
    back_s = run_until_awake(group, sleeper)
    group.world.run(2.5)
    assert said.by(sleeper, ModelUpdate, since_s=back_s)
    heard = [learner(group, other).merging.sources.versions.get(sleeper.peer, 0) for other in group.members[1:]]
    assert max(heard) > made + 50


def test_records_of_meanwhile_reach_it_and_its_own_go_out() -> None:
    group = walkers(3, {0: PLAN})
    sleeper, other = group.members[0], group.members[1]
    asleep_for_the_first_time(group, sleeper)
    manifest = replace(digits_manifest(group.engineer.peer, created_at_ms=EPOCH_MS), name="another")
    task = group.world.publish_task(group.engineer, manifest, built_digits().weights)
    own = replace(digits_manifest(sleeper.peer, created_at_ms=EPOCH_MS), name="its own")
    its = group.world.publish_task(sleeper, own, built_digits().weights)
    group.world.run(5)
    assert task not in sleeper.core.book.entries
    assert its not in other.core.book.entries
    run_until_awake(group, sleeper)
    group.world.run(1.0)
    assert task in sleeper.core.book.entries
    assert its in other.core.book.entries


def test_a_finished_model_that_it_has_is_not_sent_again_each_time_it_wakes() -> None:
    group = walkers(4, {0: SleepPlan(online_s=40.0, every_s=80.0)}, num_rounds=4)
    sleeper = group.members[0]
    said = Said(group)
    group.world.run(38)
    assert all(learner(group, node).rest.is_resting for node in group.members)
    assert said.to(sleeper, ModelUpdate)
    group.world.run(2)
    assert sleeper.asleep
    slept_s = group.world.now_s
    group.world.run(160)  # it wakes twice
    assert len(said.by(sleeper, PeerState, since_s=slept_s)) >= 3
    assert said.to(sleeper, ModelUpdate, since_s=slept_s) == []
    assert said.by(sleeper, ModelUpdate, since_s=slept_s) == []


def test_two_that_sleep_at_the_same_hours_meet_and_do_not_wake_in_the_same_moment() -> None:
    group = walkers(4, {0: PLAN, 1: PLAN})
    one, other = group.members[:2]
    said = Said(group)
    asleep_for_the_first_time(group, one)
    while one.asleep or other.asleep:
        group.world.run(0.05)
    group.world.run(2.0)
    woke_s = [said.by(node, PeerState, since_s=EVERY_S)[0] for node in (one, other)]
    assert abs(woke_s[0] - woke_s[1]) > 0.05
    group.world.run(2.0)
    assert one.peer in learner(group, other).targets(group.world.moment())
    assert other.peer in learner(group, one).targets(group.world.moment())


def test_one_that_does_not_come_back_is_asked_for_and_given_up() -> None:
    group = walkers(4, {0: PLAN})
    sleeper, others = group.members[0], group.members[1:]
    said = Said(group)
    asleep_for_the_first_time(group, sleeper)
    sleeper.up = False  # its battery is empty, and nobody is told
    group.world.run(EVERY_S - group.world.now_s)
    assert said.to(sleeper, Probe) == []
    group.world.run(20)
    assert said.to(sleeper, Probe)
    assert said.to(sleeper, ModelUpdate, since_s=ONLINE_S + 1) == []
    for other in others:
        assert sleeper.peer not in other.core.members.sleepers
        assert not other.core.members.is_alive(sleeper.peer, group.world.now_s)
    before = len(said.to(sleeper, Probe))
    group.world.run(20)
    assert len(said.to(sleeper, Probe)) == before


def test_after_a_sleep_it_counts_on_those_it_knew_and_finds_who_is_gone() -> None:
    group = walkers(4, {0: PLAN})
    sleeper, other, dead = group.members[:3]
    asleep_for_the_first_time(group, sleeper)
    dead.up = False
    run_until_awake(group, sleeper)
    group.world.run(0.3)
    assert other.peer in learner(group, sleeper).targets(group.world.moment())
    group.world.run(5)
    assert dead.peer not in learner(group, sleeper).targets(group.world.moment())
    assert other.peer in learner(group, sleeper).targets(group.world.moment())


def test_who_says_again_and_again_that_it_slept_gets_no_more_than_the_clock_allows() -> None:
    group = walkers(4, {}, send_rate="constant", sends_per_round=0.02)
    greedy, others = group.members[0], group.members[1:]
    group.world.run(10)
    said = Said(group)
    began_s = group.world.now_s
    topic = PeerTopic(greedy.peer, "state")
    for number in range(1, 100):  # asleep and awake again, twice a second, in one session
        for state in (
            PeerState(online=False, goodbye=True, connection=number, asleep_until_ms=2**62),
            PeerState(online=True, connection=number + 1),
        ):
            group.world.perform(greedy, [fx.Publish(topic=topic, body=state, retain=True)])
            group.world.run(0.25)
    sent = Counter(node for at_s, node, each in said.all if isinstance(each.body, ModelUpdate) and at_s > began_s)
    ticks = 50 * 0.02 / 0.25  # of each
    assert said.to(greedy, ModelUpdate)
    for other in others:
        assert sent[other] <= 2.5 * ticks + 2


@pytest.mark.parametrize(
    "merging",
    [{"strategy": "delta-sum", "update_form": "delta"}, {"exchange": "push-pull"}, {"strategy": "median"}],
    ids=str,
)
def test_whatever_the_task_it_takes_part_in_each_window(merging: dict[str, Any]) -> None:
    group = walkers(3, {0: SleepPlan(online_s=5.0, every_s=10.0)}, **merging)
    sleeper = group.members[0]
    group.world.run(9)
    merged = learner(group, sleeper).merging.num_merged
    assert merged
    group.world.run(10)
    assert learner(group, sleeper).merging.num_merged > merged
    assert said_nothing_wrong(group)


def test_it_learns_what_only_the_others_have_seen() -> None:
    group = crowd(num_members=3, sleep={0: SleepPlan(online_s=5.0, every_s=15.0)})
    group.world.run(35)
    assert group.accuracy(30)[0] > 0.6, "a third of the time, and with four of ten digits"


def said_nothing_wrong(group: Crowd) -> bool:
    reasons = Counter(reason for node in group.members for reason in node.dropped)
    assert not reasons.keys() - {"stale", "old-session", "replayed"}, reasons
    return True


def test_heartbeats_stop_while_it_sleeps_and_go_on_afterwards() -> None:
    group = walkers(3, {0: PLAN})
    sleeper = group.members[0]
    said = Said(group)
    asleep_for_the_first_time(group, sleeper)
    slept_s = group.world.now_s
    back_s = run_until_awake(group, sleeper)
    group.world.run(3.0)
    beats = said.by(sleeper, Heartbeat, since_s=slept_s)
    assert beats[0] >= EVERY_S
    assert beats[0] == pytest.approx(back_s, abs=0.3)
    assert len(beats) >= 3
