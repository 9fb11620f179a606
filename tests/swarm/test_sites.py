"""Who keeps to a site exchanges models there alone; tasks and their weights come from everywhere."""

from __future__ import annotations

from dataclasses import replace

from tests.swarm.learning_crowd import crowd
from tests.swarm.world import Node, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import Scope
from grapevine_proto.messages import ModelUpdate


def test_models_stay_within_a_site() -> None:
    group = crowd(num_members=1)
    world, (elsewhere,) = group.world, group.members
    sites = ["lake", "lake", "hill", "hill"]
    sited: list[Node] = []
    for site in sites:
        key = world.key()
        settings = replace(group.settings, peer=key.peer_id, site=site, scope=Scope(site=site))
        sited.append(world.add(settings, key, trainer=Trainer()))
    sent: set[tuple[str, str]] = set()
    perform = world.perform

    def noting(node: Node, effects: list[fx.Effect]) -> None:
        effects = list(effects)
        for each in effects:
            if isinstance(each, fx.Publish) and isinstance(each.body, ModelUpdate):
                sent.add((node.peer, each.topic.receiver))  # type: ignore[union-attr]
        perform(node, effects)

    world.perform = noting  # type: ignore[method-assign, assignment]
    world.run(15.0)
    assert all(group.task in node.core.tasks.learning for node in sited)
    lake, hill = {node.peer for node in sited[:2]}, {node.peer for node in sited[2:]}
    for here in (lake, hill):
        assert {(a, b) for a in here for b in here if a != b} <= sent
        assert not {(a, b) for a, b in sent if a in here and b not in here}
    assert any(a == elsewhere.peer for a, _ in sent)
    assert "out-of-scope" in {reason for node in sited for reason in node.dropped}
    for node in sited:
        learner = node.core.tasks.learning[group.task]
        assert not set(learner.merging.shares) - lake - hill
