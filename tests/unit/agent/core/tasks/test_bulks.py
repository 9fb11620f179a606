"""What is refused of a message that travels apart, before a byte of the rest is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.core.tasks.device import ADA, LAYOUT, ME, SETTINGS, Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings, Scope
from grapevine_proto import messages as m
from grapevine_proto.bodies import serialise_apart
from grapevine_proto.bulk import Bulk
from grapevine_proto.codec import Received
from grapevine_proto.encoding import Encoding
from grapevine_proto.encodings import encode
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.topics import InboxTopic

SESSION, AGE = 7, 400
NUMBERS = np.ones(LAYOUT.num_parameters, np.float32)
OURS = replace(SETTINGS, max_share=1.0)


def learning(settings: CoreSettings = OURS, site: str = "", **merging: Any) -> tuple[Device, str]:
    """A device that learns a task, of which another member was heard."""
    device = Device(settings)
    task = device.publish(merging=MergePlan(clip=0.0, **merging))
    device.approve(task)
    device.settle()
    device.perform(device.core.connected(SESSION, device.moment()))
    device.wait(3600)
    device.core.tasks.learning[task].model.age = AGE
    members = device.core.members
    members.hear_announcement(ADA, m.PeerAnnouncement(tasks=(task,), site=site))
    members.hear_state(ADA, m.PeerState(online=True), 1, device.now_s)
    members.hear_heartbeat(ADA, m.Heartbeat(), device.now_s, session=1)
    return device, task


def notice(task: str, age: int = AGE, **vectors: Any) -> Received:
    """What is read of an update whose vectors travel apart."""
    update = m.ModelUpdate(
        task=task,
        window=1,
        version=1,
        age=age,
        experience=1,
        samples=1,
        buffers=np.zeros(LAYOUT.num_buffers, np.float32),
        **vectors,
    )
    _, rest, large = serialise_apart(update)
    lengths = tuple(map(len, large.values()))
    bulk = Bulk(digest=b"d" * 32, num_bytes=sum(lengths), fields=tuple(large), lengths=lengths)
    body = m.Apart(kind=m.ModelUpdate, task=task, rest=rest)
    message = m.Message(sender=ADA, session=1, sequence=1, body=body, receiver_session=SESSION)
    return Received(message=message, topic=InboxTopic(ME, ADA), envelope=b"", bulk=bulk)


def test_an_update_that_would_be_taken_is_fetched() -> None:
    device, task = learning()
    effects = device.core.receive(notice(task, full=NUMBERS), device.moment())
    assert [type(each) for each in effects] == [fx.Fetch]


def test_a_stale_update_is_refused_by_its_notice() -> None:
    device, task = learning(strategy="age-weighted", stale_after=100, stale="refuse")
    with pytest.raises(WireError, match="stale-update"):
        device.core.receive(notice(task, age=AGE - 200, full=NUMBERS), device.moment())


def test_what_is_written_as_the_task_does_not_allow_is_refused_by_its_notice() -> None:
    device, task = learning()
    half = Encoding("float16", zstd=False)
    written = m.Encoded(half, encode(NUMBERS, half))
    with pytest.raises(WireError, match="encoding"):
        device.core.receive(notice(task, full=written), device.moment())


def test_an_update_of_another_site_is_refused_by_its_notice() -> None:
    device, task = learning(replace(OURS, site="here", scope=Scope(site="here")), site="there")
    with pytest.raises(WireError, match="out-of-scope"):
        device.core.receive(notice(task, full=NUMBERS), device.moment())


def test_a_delta_from_a_base_that_is_not_held_is_refused_by_its_notice_and_its_sender_is_told() -> None:
    device, task = learning(strategy="delta-sum")
    device.effects.clear()
    with pytest.raises(WireError, match="unknown-base"):
        device.core.receive(notice(task, delta=NUMBERS, base_digest=b"b" * 32), device.moment())
    device.wait(1.0)
    receipts = [each.body for each in device.effects if isinstance(each, fx.Publish)]
    assert m.BaseReceipt(task=task, base_digest=b"") in receipts


def test_an_update_that_comes_apart_is_not_what_a_newcomer_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    device, task = learning()
    tasks = device.core.tasks
    told: list[str] = []
    monkeypatch.setattr(tasks, "waits_for_model", lambda sender, _: sender == ADA)
    monkeypatch.setattr(tasks, "coming", lambda sender, _: told.append(sender))
    monkeypatch.setattr(tasks, "not_coming", lambda sender, _, __: told.append(f"not {sender}"))
    received = notice(task, full=NUMBERS)
    device.core.receive(received, device.moment())
    device.core.not_fetched(received, "nobody answers", device.moment())
    assert told == []


def test_what_comes_after_a_newer_update_of_its_sender_is_refused_by_its_notice() -> None:
    device, task = learning()
    newer = m.ModelUpdate(task=task, window=1, version=5, age=AGE, experience=1, samples=1, full=NUMBERS)
    device.core.tasks.learning[task].accept(ADA, newer, device.moment(), 1)
    with pytest.raises(WireError, match="old-update"):
        device.core.receive(notice(task, full=NUMBERS), device.moment())
