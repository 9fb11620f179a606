"""A released model that is asked for: what a request may cost whoever has the model."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.core.tasks.device import LAYOUT, SETTINGS, STRANGER, Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.learning.encodings import written
from grapevine_agent.core.settings import GovernorLimits
from grapevine_agent.core.tasks import model_requests
from grapevine_proto.encoding import Encoding
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import (
    BlobRequest,
    Encoded,
    ModelRequest,
    PeerAnnouncement,
    PeerState,
    ReleasedModel,
    Vector,
)

HALF = "float16+zstd"


@pytest.fixture(name="encoded")
def counted_encodings(monkeypatch: pytest.MonkeyPatch) -> list[Vector]:
    """The vectors that were encoded for somebody who asked."""
    vectors: list[Vector] = []

    def counting(vector: Vector, encoding: Encoding, **given: Any) -> Any:
        vectors.append(vector)
        return written(vector, encoding, **given)

    monkeypatch.setattr(model_requests, "written", counting)
    return vectors


def giver(*askers: str) -> tuple[Device, str]:
    """A member of a task in which models travel as halves, and who has announced itself there."""
    device = Device(replace(SETTINGS))
    task = device.publish(merging=MergePlan(encodings=("float32", HALF)))
    device.approve(task)
    device.settle()
    assert device.trains(task)
    model = device.core.tasks.learning[task].model
    model.released = np.linspace(0, 1, LAYOUT.num_parameters, dtype=np.float32)
    for asker in askers:
        device.core.members.hear_state(asker, PeerState(online=True), 1, device.now_s)
        device.core.members.hear_announcement(asker, PeerAnnouncement(tasks=(task,)))
    return device, task


def ask(device: Device, asker: str, request: ModelRequest) -> ReleasedModel:
    effect, *told = device.core.models.answer(asker, 1, request, device.moment())
    assert isinstance(effect, fx.Publish)
    assert isinstance(effect.body, ReleasedModel)
    assert [type(each) for each in told] == ([] if effect.body.refusal else [ev.Sent])
    return effect.body


def test_nothing_is_encoded_for_a_request_that_is_over_quota(encoded: list[Vector]) -> None:
    device, task = giver(STRANGER)
    answers: Counter[str] = Counter()
    for _ in range(50):
        try:
            ask(device, STRANGER, ModelRequest(task=task))
            answers["given"] += 1
        except WireError as error:
            answers[error.reason] += 1
    assert answers == {"given": 1, "over-quota": 49}
    assert len(encoded) == 2  # parameters and buffers, once


def test_a_model_is_encoded_once_for_all_who_ask_until_there_is_another_one(encoded: list[Vector]) -> None:
    askers = [f"{number}" * 20 for number in range(2, 8)]
    device, task = giver(*askers)
    model = device.core.tasks.learning[task].model
    given = [
        ask(device, asker, ModelRequest(task=task, cluster=number, which="best" if number % 2 else "latest"))
        for number, asker in enumerate(askers)
    ]
    assert len(encoded) == 2
    full = given[0].full
    assert isinstance(full, Encoded)
    assert all(each.full is full for each in given)
    model.released = model.released + 1
    device.wait(3.0)
    assert ask(device, askers[0], ModelRequest(task=task)).full is not full
    assert len(encoded) == 3
    assert encoded[2] is model.released


def test_what_cannot_be_encoded_is_tried_once(encoded: list[Vector]) -> None:
    askers = [f"{number}" * 20 for number in range(2, 8)]
    device, task = giver(*askers)
    model = device.core.tasks.learning[task].model
    model.released = np.full(LAYOUT.num_parameters, 1e6, np.float32)  # float16 ends at 65,504
    assert all(ask(device, asker, ModelRequest(task=task)).full is model.released for asker in askers)
    assert len(encoded) == 2


def test_what_a_model_will_take_is_known_of_one_that_was_asked_for_alone() -> None:
    device = Device(replace(SETTINGS))
    task = device.publish()  # nobody takes part here
    device.wait(5.0)
    models, size = device.core.models, device.entry(task).head.initial_weights.num_bytes
    assert models.bytes_expected(STRANGER, task, device.moment()) == 0
    models.ask(STRANGER, task, 0, device.moment())
    assert models.bytes_expected(STRANGER, task, device.moment()) == size


def test_who_is_refused_because_todays_bytes_are_spent_takes_nothing_from_others() -> None:
    device, task = giver(STRANGER)
    device.core.governing.governor.limits = GovernorLimits(upload_bytes_per_day=1_000)
    device.core.governing.governor.sent(1_000)
    quota = device.core.models.quota
    before = quota._members._held + quota._others._held
    assert ask(device, STRANGER, ModelRequest(task=task)).refusal == model_requests.SPENT
    assert quota._members._held + quota._others._held == before
    with pytest.raises(WireError, match="again"):  # a refusal is an answer, too
        ask(device, STRANGER, ModelRequest(task=task))


def test_weights_that_are_refused_may_be_asked_for_again_at_once() -> None:
    device, task = giver(STRANGER)
    weights = device.entry(task).head.initial_weights
    governor, request = device.core.governing.governor, BlobRequest(task=task, digest=weights.digest)
    governor.limits = GovernorLimits(upload_bytes_per_day=weights.num_bytes)
    governor.sent(1)
    for _ in range(3):
        with pytest.raises(WireError, match="spent"):
            device.core.blobs.answer(STRANGER, 1, request, device.moment())
    governor.limits = GovernorLimits()
    order, told = device.core.blobs.answer(STRANGER, 1, request, device.moment())
    assert isinstance(order, fx.SendBlob)
    assert isinstance(told, ev.Sent)
    assert (told.what, told.receiver, told.num_bytes) == ("weights", STRANGER, weights.num_bytes)


def test_what_was_made_of_a_vector_refers_to_the_same_one_after_a_checkpoint() -> None:
    vector = np.arange(3, dtype=np.float32)
    again, kept = pickle.loads(pickle.dumps((vector, model_requests._Kept(vector, None))))
    assert kept.vector is again


def test_what_was_made_of_a_vector_that_is_gone_is_kept_without_it() -> None:
    vector = np.zeros(3, np.float32)
    kept = model_requests._Kept(vector, None)
    del vector
    assert kept.vector is None
    assert pickle.loads(pickle.dumps(kept)).vector is None
