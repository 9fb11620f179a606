"""What `status` says of how a task's updates go out, of a task that is learned."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.agent.core.tasks.device import SETTINGS, Device

from grapevine_agent.core.moment import Moment
from grapevine_agent.requests.dispatch import _progress, _travels
from grapevine_agent.service.shell import AgentService
from grapevine_agent.transfers.carrier import goes_apart


@pytest.mark.parametrize(("packet_bytes", "in_chunks"), [(1_000_000, False), (100, True)])
def test_what_is_larger_than_a_packet_goes_in_chunks_and_why_it_is_so_large_is_said(
    packet_bytes: int, in_chunks: bool
) -> None:
    device = Device(replace(SETTINGS, encoding="top-k"))
    device.perform(device.core.connected(7, device.moment(), 0))
    task = device.publish()
    device.approve(task)
    device.settle()
    learner = device.core.tasks.learning[task]
    carrying = SimpleNamespace(goes_apart=lambda num_bytes, _topic: goes_apart(num_bytes, packet_bytes))
    service = SimpleNamespace(carrying=carrying, identity=SimpleNamespace(peer_id="a" * 20))
    told: dict[str, Any] = _travels(learner, cast(AgentService, service))
    assert told["in_chunks"] == in_chunks
    assert told["update_bytes"] >= 4 * learner.layout.num_parameters
    assert (told["encoding"], told["encoding_wanted"]) == ("float32", "top-k")
    assert told["encoding_why"] == "the task does not allow top-k, only float32"
    assert set(told).isdisjoint(_progress(learner, Moment(monotonic_s=device.now_s, wall_ms=0)))
