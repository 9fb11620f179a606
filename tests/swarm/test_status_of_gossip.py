"""What `grapevine status` says of gossip: how many members count, how often they send, and whose work is missing."""

from __future__ import annotations

import json

import pytest
from tests.swarm.learning_crowd import crowd

from grapevine_agent.cli.owner_commands import _progress_line
from grapevine_agent.core.learning.gossip import harmonic
from grapevine_agent.core.learning.learning import MOST_SOURCES
from grapevine_agent.requests.dispatch import _progress


def test_status_tells_n_and_who_is_stale_beside_lemma_1() -> None:
    group = crowd(num_members=4)
    group.world.run(6)
    learner, now = group.members[0].core.tasks.learning[group.task], group.world.moment()
    others = [node.peer for node in group.members[1:]]
    for ahead, peer in enumerate(others):
        held = learner.merging.sources.versions[peer]
        learner.members.peers[peer].versions[group.task] = held + 10 * ahead
    told = _progress(learner, now)
    assert told["n"] == 4
    assert list(told["sources"].items()) == [(others[2], 20), (others[1], 10), (others[0], 0)]
    assert told["staleness"] == 10
    assert told["staleness_bound"] <= 1 / learner.pace.round_interval_s / told["send_rate"] * harmonic(3) + 1e-9
    assert json.loads(json.dumps(told)) == told
    line = _progress_line(told)
    rate = f"{told['send_rate']:.2g} sends/s"
    assert f"n 4, {rate}, staleness 10.0 (bound {told['staleness_bound']:.1f})" in line


def test_of_many_sources_the_most_stale_are_named() -> None:
    group = crowd(num_members=2)
    group.world.run(2)
    sources = group.members[0].core.tasks.learning[group.task].merging.sources
    learner = group.members[0].core.tasks.learning[group.task]
    known = {f"p{k:02d}": k for k in range(50)}
    assert len(sources.lags(known)) == 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "_known_versions", lambda _now: known)
        found = learner.most_stale(group.world.moment())
    assert list(found) == [f"p{k}" for k in range(49, 49 - MOST_SOURCES, -1)]
    assert found["p49"] == 49
