"""Whole crowds of real cores, with real training, on a virtual clock."""

from __future__ import annotations

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, built_digits, samples_of
from tests.swarm.learning_crowd import Crowd, crowd


def learner_of(group: Crowd, member: int):  # type: ignore[no-untyped-def]
    return group.members[member].core.tasks.learning[group.task]


@pytest.mark.parametrize("strategy", ["doubly-weighted", "age-weighted"])
@pytest.mark.parametrize("update_form", ["full", "delta"])
def test_agents_learn_together_what_none_of_them_could_alone(strategy: str, update_form: str) -> None:
    group = crowd(strategy=strategy, update_form=update_form)
    group.world.run(15)
    together = group.accuracy(since_s=group.world.now_s - 2)

    rounds = learner_of(group, 0).model.round
    assert rounds > 40
    manifest = group.members[0].core.book.entries[group.task].manifest
    parameters, buffers = learner_of(group, 0).model.parameters, learner_of(group, 0).model.buffers
    start = np.zeros_like(parameters)
    alone = DigitsTrainer(manifest, samples_of(0), seed=0)
    parameters, buffers, _, _ = alone.train(start + 0.01, buffers, 10 * rounds)
    _, accuracy_alone, _ = alone.evaluate(parameters, buffers)

    assert min(together) > 0.93
    assert accuracy_alone < 0.6  # it holds four classes of ten


def test_a_lost_server_fades_into_gossip_without_a_cliff() -> None:
    group = crowd()
    group.world.run(10)
    server = group.start_server()
    group.world.run(10)
    learner = learner_of(group, 0)
    assert learner.server_state() == "reachable"
    assert learner.merging.shares[server.peer] > 0.5
    before = group.accuracy(since_s=group.world.now_s - 2)

    group.world.kill(server)
    weights = []
    for _ in range(15):
        group.world.run(1)
        link = learner.servers[server.peer]
        weights.append(link.source_weight(group.world.now_s, known=learner.members.peers, cap=100.0))
    after = group.accuracy(since_s=group.world.now_s - 12)

    assert learner.server_state() == "lost"
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 1
    assert weights[-1] == 0
    assert server.peer not in learner.merging.shares
    assert np.mean(after) > np.mean(before) - 0.01
    assert min(np.array(after) - np.array(before)) > -0.03


def test_a_server_that_returns_fades_in_again() -> None:
    group = crowd(num_members=3)
    server = group.start_server()
    group.world.run(5)
    group.world.kill(server)
    group.world.run(15)
    assert learner_of(group, 0).server_state() == "lost"
    again = group.start_server()
    group.world.run(5)
    assert learner_of(group, 0).server_state() == "reachable"
    assert learner_of(group, 0).merging.shares[again.peer] > 0.3


def test_gossip_slows_down_while_a_server_is_there_and_no_longer() -> None:
    group = crowd(num_members=3)
    learner, world = learner_of, group.world
    world.run(3)
    alone = learner(group, 0).send_rate(world.moment())
    server = group.start_server()
    world.run(4)
    assert learner(group, 0).send_rate(world.moment()) == pytest.approx(alone * 0.02)
    world.kill(server)
    world.run(1)
    assert learner(group, 0).send_rate(world.moment()) == pytest.approx(alone)


def test_an_unauthorised_server_is_ignored_and_counted() -> None:
    group = crowd(num_members=2)
    group.world.run(3)
    from dataclasses import replace

    from grapevine_agent.core.effects import Publish
    from grapevine_proto.messages import ServerAdvert
    from grapevine_proto.topics import TaskTopic

    impostor = group.world.add(replace(group.settings, peer=(key := group.world.key()).peer_id), key)
    advert = ServerAdvert(task=group.task, online=True, contributors=(), heartbeat_s=1)
    group.world.perform(
        impostor, [Publish(topic=TaskTopic(impostor.peer, group.task, "server"), body=advert, retain=True)]
    )
    group.world.run(1)
    assert "unauthorised-server" in group.members[0].dropped
    assert learner_of(group, 0).server_state() == "unknown"


def test_staleness_is_measured_and_stays_near_its_bound() -> None:
    group = crowd(num_members=5)
    group.world.run(15)
    moment = group.world.moment()
    bound = learner_of(group, 0).staleness_bound(moment)
    measured = [learner_of(group, k).staleness(moment) for k in range(5)]
    assert 0 < bound < 10
    assert np.mean(measured) < 2 * bound + 4  # heartbeats come once in four rounds


def test_initial_weights_come_from_a_member_when_the_engineer_has_left() -> None:
    group = crowd(num_members=2)
    group.world.run(2)
    group.world.kill(group.engineer)
    from dataclasses import replace

    key = group.world.key()
    manifest = group.members[0].core.book.entries[group.task].manifest
    late = group.world.add(
        replace(group.settings, peer=key.peer_id), key, trainer=DigitsTrainer(manifest, samples_of(2), seed=9)
    )
    group.world.run(5)
    assert group.task in late.core.tasks.learning
    assert late.blobs == {manifest.initial_weights.digest: built_digits().weights}


def test_a_member_that_restarts_goes_on_from_its_saved_model() -> None:
    from dataclasses import replace

    group = crowd(num_members=2)
    group.world.run(8)
    member = group.members[0]
    before = learner_of(group, 0).model
    group.world.kill(member)
    group.world.run(1)
    manifest = group.members[1].core.book.entries[group.task].manifest
    again = group.world.add(
        replace(group.settings, peer=member.peer),
        member.key,
        trainer=DigitsTrainer(manifest, samples_of(0), seed=1),
        saved=member.saved,
        records=list(member.core.records),
    )
    group.world.run(0.3)
    model = again.core.tasks.learning[group.task].model
    assert before.age - 10 * 21 <= model.age  # saved every five seconds, twenty rounds
    assert model.age > 0
