"""The measurement of membership: a few agents, a few minutes of their time."""

from __future__ import annotations

import pytest

from grapevine_lab import membership


@pytest.mark.parametrize(("with_probes", "soonest_s", "latest_s"), [(False, 12.5, 18.0), (True, 4.5, 14.0)])
def test_the_dead_are_found_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, with_probes: bool, soonest_s: float, latest_s: float
) -> None:
    monkeypatch.setattr(membership, "DEATHS", 3)
    found = membership.measure(0.0, with_probes=with_probes, hours=0.02, num_agents=5)
    assert found.false_deaths == 0
    assert len(found.detections_s) == 3 * 4
    assert soonest_s <= min(found.detections_s)
    assert max(found.detections_s) <= latest_s
    assert found.probe_messages == 0
