"""What goes wrong slowly: members that leave, messages that are lost, rounds that are long, numbers that are lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, World

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.server_pace import MODELS_PER_ROUND
from grapevine_proto.messages import BaseReceipt, ModelUpdate, ServerModel
from grapevine_proto.topics import InboxTopic


def learner_of(group: Crowd, node: Node) -> Learning:
    return node.core.tasks.learning[group.task]


def before_publishing(world: World, change: Callable[[Node, fx.Publish], fx.Publish | None]) -> None:
    """Look at, change or lose (None) what nodes publish from now on."""
    publish = world._publish

    def changed(node: Node, effect: fx.Publish) -> None:
        if (what := change(node, effect)) is not None:
            publish(node, what)

    world._publish = changed  # type: ignore[method-assign]


# --- who has left ---------------------------------------------------------------------------------


def test_those_who_left_do_not_take_the_voice_of_those_who_stayed() -> None:
    group = crowd(num_members=8)
    group.world.run(4)
    for member in group.members[3:]:
        group.world.kill(member)
    stayed = group.members[:3]
    group.world.run(25)  # six times as old as those who left
    shares = []
    for _ in range(12):
        group.world.run(0.25)
        shares += [1 - learner_of(group, node).merging.shares.get(node.peer, 1.0) for node in stayed]
    assert np.mean(shares) > 0.4
    merging = learner_of(group, stayed[0]).merging
    there = {node.peer for node in stayed[1:]}
    assert merging.claims.present_experiences(group.world.moment()).keys() == there


# --- age ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["doubly-weighted", "age-weighted", "average"])
def test_schedules_follow_the_steps_that_were_taken(strategy: str) -> None:
    group = crowd(num_members=5, strategy=strategy)
    for k, member in enumerate(group.members):
        member.train_s = 0.3 + 0.01 * k  # longer than a round: updates are merged while it trains
    asked: list[tuple[int, int]] = []
    perform = group.world._perform

    def watch(node: Node, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Train):
            asked.append((effect.age, learner_of(group, node).model.version))
        perform(node, effect)

    group.world._perform = watch  # type: ignore[method-assign]
    group.world.run(15)
    late = [age / (10 * rounds) for age, rounds in asked if rounds > 20]
    assert late
    assert min(late) >= 1
    assert max(late) < 1.25  # by the largest age it was 2 and more


# --- bases ----------------------------------------------------------------------------------------


def lose(group: Crowd, share: float) -> None:
    rng = np.random.default_rng(5)

    def lost(_node: Node, effect: fx.Publish) -> fx.Publish | None:
        return None if isinstance(effect.topic, InboxTopic) and rng.random() < share else effect

    before_publishing(group.world, lost)


def test_lost_messages_do_not_make_receivers_refuse_deltas() -> None:
    group = crowd(num_members=4, update_form="delta", window_rounds=16)
    group.world.run(2)
    forms = {"with base": 0, "alone": 0}

    def count(_node: Node, effect: fx.Publish) -> fx.Publish:
        if isinstance(effect.body, ModelUpdate):
            forms["alone" if effect.body.base is None else "with base"] += 1
        return effect

    lose(group, 0.2)
    before_publishing(group.world, count)
    group.world.run(20)
    refused = sum(member.dropped.count("unknown-base") for member in group.members)
    assert refused <= 0.01 * sum(forms.values())
    assert forms["alone"] > forms["with base"]  # and receipts are of use


def test_who_restarts_or_forgets_gets_the_base_again_within_the_window() -> None:
    group = crowd(num_members=3, update_form="delta", window_rounds=1_000)
    group.world.run(6)
    member = group.members[0]
    learner_of(group, member).merging.intake._bases.clear()
    group.world.run(2)
    others = len(group.members) - 1
    assert member.dropped.count("unknown-base") <= 2 * others
    group.world.kill(member)
    group.world.run(0.5)
    manifest = group.members[1].core.book.entries[group.task].manifest
    again = group.world.add(
        replace(group.settings, peer=member.peer),
        member.key,
        trainer=DigitsTrainer(manifest, samples_of(0), seed=1),
        saved=member.saved,
        records=list(member.core.records),
    )
    merged = learner_of(group, again).merging.num_merged
    group.world.run(3)
    assert "unknown-base" not in again.dropped
    assert len(learner_of(group, again).merging.intake._bases) == others
    assert learner_of(group, again).merging.num_merged == merged  # the window is open, and what came waits


def test_a_peer_that_knows_no_receipts_gets_every_base() -> None:
    group = crowd(num_members=2, update_form="delta", window_rounds=16)
    bases: list[bool] = []

    def without_receipts(_node: Node, effect: fx.Publish) -> fx.Publish | None:
        if isinstance(effect.body, ModelUpdate):
            bases.append(effect.body.base is not None)
        return None if isinstance(effect.body, BaseReceipt) else effect

    before_publishing(group.world, without_receipts)
    group.world.run(5)
    assert len(bases) > 10
    assert all(bases)
    assert not any(member.dropped for member in group.members)


# --- servers --------------------------------------------------------------------------------------


def test_each_server_is_told_of_its_own_versions() -> None:
    group = crowd(num_members=3, num_servers=2, server_strategy="fedasync")
    first = group.start_server()
    group.world.run(12)
    second = group.start_server(1)
    group.world.run(5)
    servers = {node.peer: node.core.tasks.aggregating[group.task] for node in (first, second)}
    lags: dict[str, list[int]] = {peer: [] for peer in servers}

    def note(_node: Node, effect: fx.Publish) -> fx.Publish:
        if isinstance(effect.body, ModelUpdate) and isinstance(effect.topic, InboxTopic):
            if (aggregator := servers.get(effect.topic.receiver)) is not None:
                lags[effect.topic.receiver].append(aggregator.model_version - effect.body.server_version)
            else:
                assert effect.body.server_version == 0
        return effect

    before_publishing(group.world, note)
    group.world.run(5)
    versions = [aggregator.model_version for aggregator in servers.values()]
    assert abs(versions[0] - versions[1]) > 8
    for each in lags.values():
        assert each
        assert max(each) <= 2
        assert min(each) >= 0


def test_a_server_makes_a_few_models_a_round_of_everybody() -> None:
    group = crowd(num_members=8)
    for k, member in enumerate(group.members):
        member.train_s = 30.0 + k  # what the device needs; the task asked for less
    server = group.start_server()
    group.world.run(150)
    told: list[int] = []

    def note(node: Node, effect: fx.Publish) -> fx.Publish:
        if node is server and isinstance(effect.body, ServerModel):
            told.append(len(effect.body.contributions))
        return effect

    before_publishing(group.world, note)
    group.world.run(100)
    assert MODELS_PER_ROUND <= len(told) <= 100 / 30 * MODELS_PER_ROUND + 1
    assert min(told) == len(group.members)
    assert learner_of(group, group.members[0]).server_state() == "reachable"


def test_a_server_that_lost_its_count_goes_on_above_what_its_members_have_merged() -> None:
    group = crowd(num_members=2)
    server = group.start_server()
    group.world.run(10)
    merged = learner_of(group, group.members[0]).servers[server.peer].merged_version
    group.world.kill(server)
    group.world.run(1)
    group.start_server()  # with nothing saved
    group.world.run(5)
    link = learner_of(group, group.members[0]).servers[server.peer]
    assert link.merged_version > merged > 3


# --- lies -----------------------------------------------------------------------------------------


def test_a_liars_versions_neither_fill_the_memory_nor_hide_that_a_member_is_not_heard() -> None:
    group = crowd(num_members=3)
    group.world.run(3)
    honest, victim, liar = group.members
    invented = {f"x{k:019d}": 1 for k in range(500)}

    def lie(node: Node, effect: fx.Publish) -> fx.Publish | None:
        if not isinstance(effect.body, ModelUpdate):
            return effect
        if node is victim:
            return None  # nobody hears of its models, only its heartbeats
        if node is liar:
            return replace(effect, body=replace(effect.body, contributions={**invented, victim.peer: 10_000}))
        return effect

    before_publishing(group.world, lie)
    group.world.run(1)
    behind = []
    for _ in range(5):
        group.world.run(2)
        version = learner_of(group, victim).model.version
        learner = learner_of(group, honest)
        behind.append(learner.merging.sources.mean_staleness({victim.peer: version}) or 0.0)
        assert learner.model.versions.keys() <= {victim.peer, liar.peer}
        assert learner.model.versions[victim.peer] <= version
    assert behind == sorted(behind)
    assert behind[-1] > 30
