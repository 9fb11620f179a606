"""A broker that has an older record than we hold is given the newer one: a bridge may have brought it."""

from __future__ import annotations

from tests.unit.agent.core.tasks.device import ADA, HOUR_MS, NOW_MS, Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.relays import RELAY_AFTER_S
from grapevine_lab.bench import floods
from grapevine_proto.codec import Received

TASK = "7" * 64


def review(at_ms: int) -> Received:
    return floods.reviewed(ADA, TASK, until_ms=NOW_MS + HOUR_MS, created_at_ms=at_ms)


def given(device: Device, for_s: float) -> list[Received]:
    device.effects.clear()
    device.wait(for_s)
    return [each.received for each in device.effects if isinstance(each, fx.Relay)]


def test_the_newer_record_is_given_back_and_ever_more_seldom() -> None:
    device, old, new = Device(), review(NOW_MS), review(NOW_MS + 1000)
    device.perform(device.core.connected(1, device.moment()))
    device.hear(old, new)
    assert given(device, 30.0) == []
    device.hear(old)
    assert device.rejected == ["stale"]
    assert given(device, RELAY_AFTER_S[1] + 0.1) == [new]
    num_given = 0
    for _ in range(30):
        device.hear(old)
        num_given += len(given(device, 10.0))
    assert 0 < num_given < 8
