"""Models worth pulling: the best is kept and given, training ends by patience, a version may begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_revisions import revised
from tests.swarm.world import EPOCH_MS, Node, Trained, Trainer, World

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy
from grapevine_proto.messages import ReleasedModel, Vector, Which, plain


class Overfitting(Trainer):
    """Its metric (accuracy) rises with its own steps up to 200 of them, and falls from then on."""

    def __init__(self, num_test: int = 10) -> None:
        self.num_steps, self.num_test, self.bonus = 0, num_test, 0.0

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        self.num_steps += num_steps
        return parameters + np.float32(1e-4), buffers, 0.0, num_steps

    def evaluate(self, parameters: Vector, buffers: Vector) -> tuple[float, float, int]:
        found = 0.5 - abs(self.num_steps - 200) / 10_000 + self.bonus
        return 1.0 - found, found, self.num_test


class WithoutTests(Trainer):
    """It has no held-out samples."""

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        return parameters + np.float32(1e-4), buffers, 0.0, num_steps

    def evaluate(self, parameters: Vector, buffers: Vector) -> tuple[float, float, int]:
        return None, None, 0  # type: ignore[return-value]


def small_crowd(*trainers: Trainer, patience: int = 0) -> tuple[World, str, list[Node]]:
    """Members with these trainers, who need nobody's approval."""
    world = World(0)
    key = world.key()
    settings = CoreSettings(
        peer="",
        review=ReviewPolicy(approvals=0),
        limits=DeviceLimits(memory_mb=1000, cores=4),
        heartbeat_s=1.0,
        match_data=lambda _task, _manifest: "",
    )
    engineer = world.add(replace(settings, peer=key.peer_id, consent="never"), key)
    members = []
    for trainer in trainers:
        key = world.key()
        members.append(world.add(replace(settings, peer=key.peer_id), key, trainer=trainer))
    world.run(0.5)
    manifest = digits_manifest(engineer.peer, created_at_ms=EPOCH_MS)
    manifest = replace(manifest, training=replace(manifest.training, patience=patience))
    return world, world.publish_task(engineer, manifest, built_digits().weights), members


def learner_of(node: Node, task: str) -> Learning:
    return node.core.tasks.learning[task]


def asked(world: World, task: str, giver: Node, asker: Node, which: Which) -> ReleasedModel:
    asker.delivered.clear()
    world.perform(asker, asker.core.models.ask(giver.peer, task, 0, world.moment(), which))
    world.run(0.5)
    (found,) = [each.body for each in asker.delivered if isinstance(each.body, ReleasedModel)]
    return found


def test_a_member_gives_its_best_model_and_its_latest_and_says_how_both_do() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting())
    world.run(25)
    best = asked(world, task, members[0], members[1], "best")
    latest = asked(world, task, members[0], members[1], "latest")
    assert (best.which, latest.which) == ("best", "latest")
    assert best.metric is not None
    assert latest.metric is not None
    assert best.metric > 0.49 > latest.metric
    assert best.version < 40 < latest.version
    assert not np.array_equal(plain(best.full), plain(latest.full))
    for told in (best, latest):
        assert told.best is not None
        assert told.latest is not None
        assert (told.best.metric, told.best.version) == (best.metric, best.version)
        assert told.latest.metric < told.best.metric
        assert told.best.rounds_since > 40


def test_others_hear_of_the_best_in_heartbeats() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting())
    world.run(15)
    told = members[1].core.members.peers[members[0].peer].bests[task]
    held = learner_of(members[0], task).best.held
    assert held is not None
    assert (told.metric, told.version) == (held.metric, held.asked.version)


def test_the_best_model_outlives_a_restart_and_a_worse_one_does_not_replace_it() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting())
    world.run(25)
    member = members[0]
    best = learner_of(member, task).best.held
    assert best is not None
    world.kill(member)
    records = list(member.core.records)
    again = world.add(member.core.settings, member.key, trainer=member.trainer, saved=member.saved, records=records)
    world.run(20)
    kept = learner_of(again, task).best.held
    assert kept is not None
    np.testing.assert_array_equal(kept.asked.parameters, best.asked.parameters)
    assert (kept.metric, kept.asked.version, kept.contributions) == (
        best.metric,
        best.asked.version,
        best.contributions,
    )
    assert learner_of(again, task).model.version > kept.asked.version


def test_who_has_no_held_out_samples_says_no_figure_and_gives_its_latest() -> None:
    world, task, members = small_crowd(WithoutTests(), Overfitting())
    world.perform(members[1], members[1].core.watch(task))
    world.run(20)
    readings = [each.body for each in members[1].delivered if each.sender == members[0].peer]
    assert readings
    assert {(body.metric, body.loss) for body in readings} == {(None, None)}
    assert any("no samples to measure its accuracy on" in line for line in members[0].log)
    given = asked(world, task, members[0], members[1], "best")
    assert (given.which, given.metric, given.best, given.num_evaluated) == ("latest", None, None, 0)
    assert plain(given.full).size


def versions(members: list[Node], task: str) -> list[int]:
    return [learner_of(member, task).model.version for member in members]


def test_training_ends_when_most_members_have_not_improved_for_as_long_as_the_task_has_patience() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting(), Overfitting(), WithoutTests(), patience=30)
    world.run(25)
    ended = versions(members, task)
    world.run(10)
    assert versions(members, task) == ended
    assert max(ended) < 80
    assert all(learner_of(member, task).patience.is_enough for member in members)  # who measures nothing follows
    assert all(any("it merges, and trains no more" in line for line in member.log) for member in members)
    for member in members[:3]:
        held = learner_of(member, task).best.held
        assert held is not None
        assert held.metric > 0.49


def test_without_patience_training_goes_on() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting())
    world.run(25)
    before = versions(members, task)
    world.run(10)
    assert all(now > then for now, then in zip(versions(members, task), before, strict=True))


def test_members_train_again_when_most_of_them_improve() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting(), patience=30)
    world.run(25)
    ended = versions(members, task)
    for member in members:
        trainer = member.trainer
        assert isinstance(trainer, Overfitting)
        trainer.bonus = 0.3  # it does better than it ever did
    world.run(90)  # at rest it looks every sixtieth round
    assert all(now > then for now, then in zip(versions(members, task), ended, strict=True))
    assert any("it improves, and trains again" in line for line in members[0].log)


def test_a_fresh_version_begins_at_age_0_and_nobody_brings_a_model_past_it() -> None:
    group = crowd(num_members=3)
    group.world.run(20)
    ages = [learner_of(member, group.task).model.age for member in group.members]
    child = revised(group, fresh=True)
    for member, age in zip(group.members, ages, strict=True):
        assert learner_of(member, child).model.age < age
    grandchild = _version_after(group, child)
    for member in group.members:
        loads = member.core.tasks.assessor.book.entries[grandchild]
        assert loads.brief.parent == child
    assert _donors(group, grandchild) == (child,)


def _version_after(group: Crowd, parent: str) -> str:
    world, engineer = group.world, group.engineer
    entry = group.members[0].core.book.entries[parent]
    changes: Mapping[str, object] = {
        "parent": parent,
        "version": entry.manifest.version + 1,
        "created_at_ms": EPOCH_MS + int(world.now_s * 1000),
        "fresh": False,
    }
    manifest = replace(entry.manifest, **changes)  # type: ignore[arg-type]
    child = world.publish_task(engineer, manifest, built_digits().weights)
    world.run(0.5)
    return child


def _donors(group: Crowd, task: str) -> tuple[str, ...]:
    from grapevine_agent.core.tasks import lineage

    entries = group.members[0].core.book.entries
    return lineage.donors(entries[task], entries)


@pytest.mark.parametrize("which", ["best", "latest"])
def test_a_server_gives_what_it_has(which: Which) -> None:
    group = crowd(num_members=2)
    server = group.start_server()
    group.world.run(20)
    given = asked(group.world, group.task, server, group.members[0], which)
    assert given.server
    assert (given.which, given.metric) == ("latest", None)


def test_an_evaluation_of_the_best_on_new_samples_is_no_reading() -> None:
    world, task, members = small_crowd(Overfitting(), Overfitting())
    world.run(30)
    trainer = members[0].trainer
    assert isinstance(trainer, Overfitting)
    trainer.num_test = 20  # samples came in
    world.run(5)
    learner = learner_of(members[0], task)
    assert learner.best.held is not None
    assert learner.best.held.num_evaluated == 20
    assert learner.evaluation is not None
    assert learner.evaluation.of is not None
    assert learner.evaluation.of.which == "latest"
    assert isinstance(learner.best.to_save(), fx.SaveBest)
