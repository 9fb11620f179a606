"""Servers among real cores: what they begin with, whom they believe, and when they serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node

from grapevine_agent.core.effects import Publish, SavedModel
from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import DeviceLimits
from grapevine_proto.messages import ServerAdvert, ServerModel
from grapevine_proto.topics import TaskTopic


def learner_of(group: Crowd, member: int = 0) -> Learning:
    return group.members[member].core.tasks.learning[group.task]


def aggregator_of(group: Crowd, server: Node) -> Aggregator:
    return server.core.tasks.aggregating[group.task]


def models_of(group: Crowd, server: Node) -> list[ServerModel]:
    """The models that a server publishes from now on."""
    told: list[ServerModel] = []
    publish = group.world._publish

    def note(node: Node, effect: Publish) -> None:
        if node.peer == server.peer and isinstance(effect.body, ServerModel):
            told.append(effect.body)
        publish(node, effect)

    group.world._publish = note  # type: ignore[method-assign]
    return told


def start_from(group: Crowd, saved: dict[str, SavedModel], before: Node) -> Node:
    settings = replace(group.settings, peer=group.server_key.peer_id, role="server")
    records = list(before.core.records)
    return group.world.add(settings, group.server_key, saved=saved, records=records, instead_of=before)


# --- beginning, and beginning again ---------------------------------------------------------------


def test_a_server_speaks_when_it_has_heard_half_of_its_members() -> None:
    group = crowd(num_members=6)
    for k, member in enumerate(group.members):
        member.train_s = 0.2 + 0.6 * k  # the fastest would be alone in a first model
    group.world.run(3)
    server = group.start_server()
    told = models_of(group, server)
    group.world.run(12)
    assert told
    assert len(told[0].contributions) >= 3


def test_a_server_that_hears_few_of_its_members_speaks_after_a_while() -> None:
    group = crowd(num_members=5)
    group.world.run(3)
    for member in group.members[1:]:
        member.train_s = 1000.0
    group.world.run(4)
    server = group.start_server()
    told = models_of(group, server)
    group.world.run(12)
    assert told
    assert len(told[0].contributions) == 1


@pytest.mark.parametrize("strategy", ["doubly-weighted", "fedasync", "fedbuff", "cfl"])
def test_a_server_from_an_older_checkpoint_neither_counts_back_nor_pulls_the_swarm_back(strategy: str) -> None:
    constants = {"buffer": 3.0} if strategy == "fedbuff" else {}
    group = crowd(server_strategy=strategy, server_constants=constants)
    server = group.start_server()
    group.world.run(4.5)
    old = {group.task: server.saved[group.task]}
    group.world.run(10)
    link = learner_of(group).servers[server.peer]
    assert link.model is not None
    last, age = link.model.model_version, link.model.age
    assert old[group.task].counters["version"] < last - 3
    before = np.mean(group.accuracy(since_s=group.world.now_s - 2))

    group.world.kill(server)
    again = start_from(group, old, server)
    told = models_of(group, again)
    group.world.run(4)

    versions = [model.model_version for model in told]
    assert versions[0] > last
    assert versions == sorted(set(versions))
    assert told[0].age > 0.8 * age  # it goes on from what its members have come to
    assert last < link.merged_version <= link.model.model_version <= versions[-1]
    assert learner_of(group).server_state() == "reachable"
    assert np.mean(group.accuracy(since_s=group.world.now_s - 3)) > before - 0.01
    # Two rounds behind at most are what its members say that they start from.
    assert aggregator_of(group, again).model_version - link.merged_version <= 2


# --- when it serves -------------------------------------------------------------------------------


def test_a_server_serves_what_its_owners_reviewers_approve_of_and_no_longer_than_that() -> None:
    group = crowd(num_members=3)
    server = group.start_server()
    group.world.run(4)
    assert aggregator_of(group, server).num_merged > 0
    reviewer = group.reviewers[0]
    group.world.perform(reviewer, reviewer.core.revoke(group.task, reason="looked again", now=group.world.moment()))
    group.world.run(1)
    assert group.task not in server.core.tasks.aggregating
    entry = server.core.book.entries[group.task]
    assert "1 of 2 approvals" in "; ".join(server.core.why_not(entry, group.world.moment()))
    assert learner_states(group, server) == {"online": False}
    group.world.approve(reviewer, group.task)
    group.world.run(3)
    assert group.task in server.core.tasks.aggregating
    group.world.approve(reviewer, group.task, approved=False)  # a veto
    group.world.run(1)
    assert group.task not in server.core.tasks.aggregating


def learner_states(group: Crowd, server: Node) -> dict[str, bool]:
    """What the server's record says at the broker."""
    held = [
        record.message.body
        for record in group.engineer.core.records
        if isinstance(record.message.body, ServerAdvert) and record.message.sender == server.peer
    ]
    return {"online": held[-1].online} if held else {}


def test_a_server_that_nobody_lists_does_not_serve() -> None:
    group = crowd(num_members=2)
    key = group.world.key()
    other = group.world.add(replace(group.settings, peer=key.peer_id, role="server"), key)
    group.world.run(2)
    entry = other.core.book.entries[group.task]
    assert group.task not in other.core.tasks.aggregating
    assert "lists this peer" in "; ".join(other.core.why_not(entry, group.world.moment()))


def test_a_server_refuses_a_model_that_is_larger_than_what_it_lends() -> None:
    group = crowd(num_members=2)
    settings = replace(group.settings, peer=group.server_key.peer_id, role="server", limits=DeviceLimits(memory_mb=0))
    server = group.world.add(settings, group.server_key)
    group.world.run(2)
    entry = server.core.book.entries[group.task]
    assert group.task not in server.core.tasks.aggregating
    assert "MB to be served, profile allows 0" in "; ".join(server.core.why_not(entry, group.world.moment()))


# --- what members do not believe ------------------------------------------------------------------


def say(group: Crowd, speaker: Node, leaf: Literal["server", "model"], body: ServerModel | ServerAdvert) -> list[str]:
    """What the first member drops when somebody says this."""
    target = group.members[0]
    target.dropped.clear()
    retain = leaf == "server"
    publish = Publish(topic=TaskTopic(speaker.peer, group.task, leaf), body=body, retain=retain)
    group.world.perform(speaker, [publish])
    group.world.run(0.05)
    return target.dropped


@pytest.mark.parametrize("number", [2**53, 10**9])
def test_a_server_from_the_future_is_counted_named_and_ignored(number: int) -> None:
    group = crowd(num_members=2)
    server = group.start_server()
    group.world.run(4.4)  # between two of its models
    link = learner_of(group).servers[server.peer]
    held = link.model
    assert held is not None
    advert = ServerAdvert(task=group.task, online=True, model_version=number, contributors=(), heartbeat_s=1)
    assert say(group, server, "server", advert) == ["server-ahead"]
    assert link.advertised
    assert say(group, server, "model", replace(held, model_version=number)) == ["server-ahead"]
    assert link.model is held
    group.world.run(3)
    assert link.model.model_version > held.model_version  # what it says within reason counts as before


def test_a_servers_model_that_does_not_fit_and_one_of_nobodys_server_are_counted_and_ignored() -> None:
    group = crowd(num_members=2)
    server = group.start_server()
    group.world.run(4.4)  # between two of its models
    link = learner_of(group).servers[server.peer]
    held = link.model
    assert held is not None
    full = np.asarray(held.full, np.float32)
    for model, reason in (
        (full[:-1], "wrong-shape"),
        (np.where(np.arange(full.size) == 3, np.nan, full).astype(np.float32), "non-finite"),
        (np.where(np.arange(full.size) == 3, 1e31, full).astype(np.float32), "out-of-range"),
    ):
        said = replace(held, model_version=held.model_version + 1, full=model)
        assert say(group, server, "model", said) == [reason]
        assert (link.model, link.refused) == (None, reason)
    member = group.members[1]
    group.members[0].filters.add(TaskTopic(member.peer, group.task, "model").below_root())
    assert say(group, member, "model", held) == ["unauthorised-server"]
    group.world.run(3)
    assert link.model is not None  # a good one has come
    assert not link.refused


def test_members_that_lie_about_what_they_have_merged_do_not_run_away_with_the_number() -> None:
    group = crowd(num_members=3)
    server = group.start_server()
    group.world.run(3)
    aggregator = aggregator_of(group, server)
    liar = learner_of(group, 1)
    liar.servers[server.peer].merged_version = 2**50
    group.world.run(3)
    assert aggregator.model_version < 50
