"""Servers that are authorised and hostile, or broken, beside real cores that train; and honest ones, never refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.learning.learning import Learning
from grapevine_proto.messages import ServerAdvert, ServerModel, Vector
from grapevine_proto.topics import TaskTopic

EVERY_S = 0.5
OLDEST = 2**53 - 1
HALF_A_DAY_MS = 43_200_000
HONEST, ROGUE = 0, 1  # the numbers of the servers' keys


def learners(group: Crowd) -> list[Learning]:
    return [node.core.tasks.learning[group.task] for node in group.members]


class Rogue:
    """A server with an authorised key that says what a test wants, twice a second, from now on.

    `theta` is what an honest server would say: the members' mean.
    """

    def __init__(self, group: Crowd, says: Callable[[Vector], Vector], *, age: int | None = None) -> None:
        key = group.more_server_keys[0]
        self.node: Node = group.world.add(replace(group.settings, peer=key.peer_id, consent="never"), key)
        self.peer, self.says, self.is_there = key.peer_id, says, True
        self._group, self._age, self._version = group, age, 0
        self._say()

    def _say(self) -> None:
        if not self.is_there:
            return
        group, self._version = self._group, self._version + 1
        members = learners(group)
        theta = np.asarray(np.mean([each.model.parameters for each in members], axis=0), np.float32)
        age = self._age or int(np.median([each.model.age for each in members]))
        contributions = {node.peer: each.model.version for node, each in zip(group.members, members, strict=True)}
        model = ServerModel(
            task=group.task,
            model_version=self._version,
            age=age,
            full=self.says(theta),
            buffers=members[0].model.buffers,
            contributions=contributions,
        )
        advert = ServerAdvert(
            task=group.task,
            online=True,
            model_version=self._version,
            contributors=tuple(contributions),
            heartbeat_s=EVERY_S,
        )
        topics = [TaskTopic(self.peer, group.task, "model"), TaskTopic(self.peer, group.task, "server")]
        group.world.perform(
            self.node, [Publish(topic=topics[0], body=model), Publish(topic=topics[1], body=advert, retain=True)]
        )
        group.world.at(group.world.now_s + EVERY_S, self._say)


def at_random(theta: Vector) -> Vector:
    drawn = np.random.default_rng(0).standard_normal(theta.size).astype(np.float32)
    return np.asarray(drawn * (np.linalg.norm(theta) / np.linalg.norm(drawn)), np.float32)


@pytest.mark.parametrize(("says", "has_honest_server"), [(np.negative, True), (at_random, False)])
def test_a_hostile_server_with_an_honest_looking_age_costs_nothing(
    says: Callable[[Vector], Vector], has_honest_server: bool
) -> None:
    group = crowd(num_servers=2)
    honest = group.start_server(HONEST) if has_honest_server else None
    group.world.run(8)
    before = np.mean(group.accuracy(since_s=group.world.now_s - 2))
    rogue = Rogue(group, says)
    group.world.run(8)
    assert np.mean(group.accuracy(since_s=group.world.now_s - 2)) > before - 0.01
    for node, learner in zip(group.members, learners(group), strict=True):
        assert node.dropped.count("server-far-away") > 2
        assert learner.servers[rogue.peer].refused == "server-far-away"
        assert rogue.peer not in learner.merging.shares
        if honest is not None:
            assert learner.servers[honest.peer].refused == ""
            assert learner.merging.shares[honest.peer] > 0.3


@pytest.mark.parametrize("says", [np.negative, at_random])
def test_a_hostile_server_that_was_there_before_anybody_heard_a_member_draws_nobody_to_itself(
    says: Callable[[Vector], Vector],
) -> None:
    group = crowd(num_members=4, num_servers=2)
    while not all(group.task in node.core.tasks.learning for node in group.members):
        group.world.run(0.05)
    rogue = Rogue(group, says)
    group.world.run(5)
    drawn = learners(group)[0]  # as if it had been
    drawn.model.begin_again(says(drawn.model.parameters), drawn.model.buffers)
    drawn.merging.server_check.forget()
    group.world.run(5)
    assert min(group.accuracy(since_s=group.world.now_s - 1)) > 0.8
    assert all(each.servers[rogue.peer].refused == "server-far-away" for each in learners(group))


def test_a_server_whose_model_is_refused_does_not_slow_gossip_down() -> None:
    group = crowd(num_servers=2)
    group.world.run(4)
    alone = learners(group)[0].send_rate(group.world.moment())
    rogue = Rogue(group, np.negative)
    group.world.run(4)
    learner = learners(group)[0]
    assert learner.servers[rogue.peer].state == "reachable"
    assert learner.server_state() == "suspect"
    assert learner.send_rate(group.world.moment()) == pytest.approx(alone)
    rogue.says = np.positive
    group.world.run(2)
    assert learner.server_state() == "reachable"
    assert learner.send_rate(group.world.moment()) == pytest.approx(alone * 0.02)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (lambda theta: np.full_like(theta, np.nan), "non-finite"),
        (lambda theta: np.concatenate([theta, theta[:3]]), "wrong-shape"),
        (np.negative, "server-far-away"),
    ],
)
def test_what_a_server_said_before_has_no_voice_while_its_newest_model_is_refused(
    says: Callable[[Vector], Vector], reason: str
) -> None:
    group = crowd(num_members=3, num_servers=2)
    group.world.run(4)
    rogue = Rogue(group, np.positive)
    group.world.run(3)
    assert all(each.merging.shares[rogue.peer] > 0.3 for each in learners(group))
    rogue.says = says
    group.world.run(2)
    for each in learners(group):
        assert each.servers[rogue.peer].refused == reason
        assert rogue.peer not in each.merging.shares
    rogue.says = np.positive
    group.world.run(2)
    assert all(each.merging.shares[rogue.peer] > 0.3 for each in learners(group))


def test_a_server_that_claims_to_be_older_than_everybody_is_not_believed() -> None:
    group = crowd(num_members=4, num_servers=2)
    group.world.clock_ahead_ms = HALF_A_DAY_MS  # long after the task was made: its pace allows any age
    group.world.run(5)
    least = min(each.model.age for each in learners(group))
    rogue = Rogue(group, np.positive, age=OLDEST)
    group.world.run(5)
    assert all(rogue.peer in each.merging.shares for each in learners(group))
    assert least > 0
    assert max(each.model.age for each in learners(group)) < 4 * least


def test_an_honest_server_is_refused_by_nobody_not_lost_and_back_nor_by_who_comes_late_or_was_away() -> None:
    group = crowd(num_members=6, num_servers=2)
    world, away = group.world, group.members[-1]
    world.run(2)
    server = group.start_server(HONEST)
    world.run(4)
    world.lose(away)
    world.kill(server)
    world.run(12)
    server = group.start_server(HONEST)
    world.run(4)
    key = world.key()
    manifest = group.engineer.core.book.entries[group.task].manifest
    late = world.add(
        replace(group.settings, peer=key.peer_id), key, trainer=DigitsTrainer(manifest, samples_of(7), seed=7)
    )
    world.connect(away)
    world.run(1)
    # As if nobody had given it a model: it begins where all began.
    begun, start = late.core.tasks.learning[group.task], learners(group)[0]
    begun.model.begin_again(np.zeros_like(start.model.parameters) + 0.01, start.model.buffers)
    begun.merging.server_check.forget()
    world.run(8)
    group.members.append(late)
    for node, learner in zip(group.members, learners(group), strict=True):
        assert "server-far-away" not in node.dropped
        assert learner.servers[server.peer].refused == ""
        assert learner.merging.shares[server.peer] > 0.3
