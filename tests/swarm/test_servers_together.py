"""Servers that share the members of a task: real cores, real training, and servers that die."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, World

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.learning.offers import in_order
from grapevine_proto.messages import ServerAdvert
from grapevine_proto.topics import GroupTopic, TaskTopic, of_group

GROUP = "barn"


def a_group(
    *, shares: bool, num_members: int = 5, num_servers: int = 3, num_rounds: int = 0
) -> tuple[Crowd, list[Node]]:
    """Members whose trainers learn nothing, since nothing here depends on it, and servers of one group."""
    group = crowd(
        world=World(0, shares=shares),
        learns=False,
        num_members=num_members,
        num_servers=max(2, num_servers),
        num_rounds=num_rounds,
    )
    group.world.run(2)
    servers = [group.start_server(k, group=GROUP) for k in range(num_servers)]
    group.world.run(9)  # which hear less than half of the members each, and wait for more before they publish
    return group, servers


def contributors(group: Crowd, servers: Sequence[Node]) -> dict[str, list[str]]:
    """Member → the servers in whose newest advert it stands."""
    found: dict[str, list[str]] = {member.peer: [] for member in group.members}
    for server in servers:
        record = group.members[0].core.records.get(TaskTopic(server.peer, group.task, "server"))
        assert record is not None
        assert isinstance(record.message.body, ServerAdvert)
        for peer in record.message.body.contributors:
            found[peer].append(server.peer)
    return found


def num_taken(server: Node, group: Crowd) -> int:
    return server.core.tasks.aggregating[group.task].num_merged


def offers_of(group: Crowd, member: Node):  # type: ignore[no-untyped-def]
    return member.core.tasks.learning[group.task].sending.offers


def test_each_member_has_one_server_by_its_own_hash_where_nothing_is_shared() -> None:
    group, servers = a_group(shares=False, num_rounds=15)
    peers = [server.peer for server in servers]
    for member, found in contributors(group, servers).items():
        assert found == [in_order(member, peers)[0]]


def test_a_server_that_goes_moves_its_own_members_and_no_others() -> None:
    peers = [f"server{k}" for k in range(4)]
    members = [f"member{k}" for k in range(400)]
    before = {member: in_order(member, peers)[0] for member in members}
    after = {member: in_order(member, peers[1:])[0] for member in members}
    moved = [member for member in members if before[member] != after[member]]
    assert moved == [member for member in members if before[member] == peers[0]]
    assert all(60 < list(before.values()).count(peer) < 140 for peer in peers)
    assert {after[member] for member in moved} == set(peers[1:])


def test_by_a_shared_subscription_each_update_reaches_exactly_one_server() -> None:
    group, servers = a_group(shares=True)
    world = group.world
    before = [num_taken(server, group) for server in servers]
    shared_before = sum(world.num_shared.values())
    letters_before = {
        server.peer: world.letters[server.peer, member.peer] for server in servers for member in group.members
    }
    versions_before = [member.core.tasks.learning[group.task].model.version for member in group.members]
    world.run(6)
    num_made = sum(
        member.core.tasks.learning[group.task].model.version - version
        for member, version in zip(group.members, versions_before, strict=True)
    )
    taken = [num_taken(server, group) - num for server, num in zip(servers, before, strict=True)]
    assert num_made > 60
    assert abs(sum(taken) - num_made) <= len(group.members)  # but for what is under way
    assert abs(sum(world.num_shared.values()) - shared_before - num_made) <= len(group.members)
    assert min(taken) > num_made / 5
    assert letters_before == {
        server.peer: world.letters[server.peer, member.peer] for server in servers for member in group.members
    }


@pytest.mark.parametrize("shares", [False, True])
def test_what_a_killed_server_had_is_offered_to_the_others_even_after_the_last_round(shares: bool) -> None:
    group, servers = a_group(shares=shares, num_rounds=40)
    group.world.run(10)
    versions = {member.core.tasks.learning[group.task].model.version for member in group.members}
    assert versions == {40}  # nothing more is trained, so nothing new will be sent
    held = {member.peer: offers_of(group, member).holder(GROUP) for member in group.members}
    victim = next(server for server in servers if server.peer in held.values())
    group.world.kill(victim)
    group.world.run(5)
    alive = [server for server in servers if server is not victim]
    held_after = {member.peer: offers_of(group, member).holder(GROUP) for member in group.members}
    assert set(held_after.values()) <= {server.peer for server in alive}
    assert {m: s for m, s in held.items() if s != victim.peer} == {
        m: s for m, s in held_after.items() if held[m] != victim.peer
    }
    taken = [server.core.tasks.aggregating[group.task]._versions for server in alive]
    newest = {member.peer: max(each.get(member.peer, 0) for each in taken) for member in group.members}
    assert newest == dict.fromkeys(newest, 40)
    assert all(contributors(group, alive).values())


@pytest.mark.parametrize("shares", [False, True])
def test_what_a_frozen_server_does_not_acknowledge_goes_to_another(shares: bool) -> None:
    group, servers = a_group(shares=shares, num_rounds=30)
    group.world.lose(servers[0])  # its broker keeps it, and gives it its part
    group.world.run(20)
    holders = {offers_of(group, member).holder(GROUP) for member in group.members}
    assert "" not in holders
    assert holders <= {server.peer for server in servers[1:]}


def test_an_update_whose_receipt_was_lost_is_acknowledged_again_and_counted_once() -> None:
    group, servers = a_group(shares=False, num_members=2, num_servers=1, num_rounds=10)
    group.world.run(10)
    member, server = group.members[0], servers[0]
    offers, before = offers_of(group, member), num_taken(server, group)
    assert offers.holder(GROUP) == server.peer
    offers._offered[GROUP].holder = ""
    group.world.run(5)
    assert offers.holder(GROUP) == server.peer
    assert num_taken(server, group) == before


def test_a_server_that_restarted_without_its_memory_is_offered_everything_again() -> None:
    group, servers = a_group(shares=False, num_servers=1, num_rounds=10)
    group.world.run(10)
    group.world.kill(servers[0])
    group.world.nodes.remove(servers[0])
    group.world.run(1)
    again = group.start_server(0, group=GROUP)
    group.world.run(8)
    assert set(again.core.tasks.aggregating[group.task]._versions) == {member.peer for member in group.members}


def test_a_server_outside_any_group_gets_every_update_as_before() -> None:
    group, servers = a_group(shares=True, num_members=3, num_servers=1)
    alone = group.start_server(1)
    group.world.run(5)
    assert set(alone.core.tasks.aggregating[group.task]._versions) == {member.peer for member in group.members}
    assert set(servers[0].core.tasks.aggregating[group.task]._versions) == {member.peer for member in group.members}


def test_an_update_to_another_group_is_refused() -> None:
    group, servers = a_group(shares=True, num_servers=1, num_members=2, num_rounds=5)
    member, server = group.members[0], servers[0]
    update = member.core.tasks.learning[group.task].writer.write(
        member.core.tasks.learning[group.task].model, "", session=0, server_version=0
    )
    server.filters.add(of_group(group.task, "other"))
    group.world.perform(member, [Publish(topic=GroupTopic(group.task, "other", member.peer), body=update)])
    group.world.run(1)
    assert "topic" in server.dropped
