"""Models go to those in scope: within so many kilometres, within so many milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings, Scope
from grapevine_proto.location import Location
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.topics import InboxTopic

HERE, NEXT_TOWN, FAR = (Location(latitude=latitude, longitude=1340) for latitude in (5252, 5256, 5352))


def joins(group: Crowd, latency_s: float = 0.01, **settings: object) -> Node:
    key = group.world.key()
    own: CoreSettings = replace(group.settings, peer=key.peer_id, **settings)  # type: ignore[arg-type]
    node = group.world.add(own, key, trainer=Trainer())
    node.latency_s = latency_s
    return node


def sent(group: Crowd, for_s: float) -> set[tuple[str, str]]:
    """Who sends whom models, while so much time passes."""
    found: set[tuple[str, str]] = set()
    perform = group.world.perform

    def noting(node: Node, effects: Iterable[fx.Effect]) -> None:
        effects = list(effects)
        for each in effects:
            if isinstance(each, fx.Publish) and isinstance(each.body, ModelUpdate):
                assert isinstance(each.topic, InboxTopic)
                found.add((node.peer, each.topic.receiver))
        perform(node, effects)

    group.world.perform = noting  # type: ignore[method-assign]
    group.world.run(for_s)
    group.world.perform = perform  # type: ignore[method-assign]
    return found


def both_ways(*nodes: Node) -> set[tuple[str, str]]:
    return {(a.peer, b.peer) for a in nodes for b in nodes if a is not b}


def test_models_stay_within_a_distance() -> None:
    group = crowd(num_members=0)
    near = [joins(group, location=place, scope=Scope(within_km=10)) for place in (HERE, HERE, NEXT_TOWN)]
    far = [joins(group, location=FAR, scope=Scope(within_km=10)) for _ in range(2)]
    silent = joins(group, scope=Scope())
    found = sent(group, 15.0)
    assert both_ways(*near) | both_ways(*far) <= found
    assert not {(a, b) for a, b in found if a != silent.peer} - both_ways(*near) - both_ways(*far)
    assert any(a == silent.peer for a, _ in found)
    assert "out-of-scope" in {reason for node in (*near, *far) for reason in node.dropped}
    learner = near[0].core.tasks.learning[group.task]
    assert set(learner.merging.shares) <= {node.peer for node in near}


def test_models_stay_within_a_round_trip_once_it_is_measured() -> None:
    group = crowd(num_members=0)
    near = [joins(group, 0.01, scope=Scope(within_ms=40)) for _ in range(3)]
    far = [joins(group, 0.1, scope=Scope(within_ms=400)) for _ in range(2)]
    group.world.run(10.0)
    found = sent(group, 15.0)
    assert both_ways(*near) <= found
    assert not {(a, b) for a, b in found if a in {node.peer for node in near}} - both_ways(*near)
    assert both_ways(*far) <= found  # 200 ms are near enough for those
    members = near[0].core.members
    assert members.reach.why_out(far[0].peer) == "answers after 110 ms"
    assert members.is_alive(far[0].peer, group.world.now_s)  # nobody is suspected for it
    assert not any(node.core.members.suspicion.suspects for node in (*near, *far))
