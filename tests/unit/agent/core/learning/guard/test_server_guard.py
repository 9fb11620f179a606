"""A server judges its members' updates by theirs, and not by its own model."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.guard.guard import Guard
from grapevine_proto.errors import WireError

SIZE = 600


def test_a_server_with_an_old_model_takes_what_its_members_send_and_refuses_who_is_far_from_them() -> None:
    rng = np.random.default_rng(1)
    guard = Guard(size=SIZE, rng=np.random.default_rng(2), is_member=False)
    assert guard.is_on
    own = np.zeros(SIZE, np.float32)
    crowd = 50 + rng.standard_normal(SIZE).astype(np.float32)
    for round_ in range(8):
        for number in range(5):
            model = (crowd + rng.standard_normal(SIZE) / 10).astype(np.float32)
            assert guard.judge(f"member {number}", model, own, round_) == 1.0
    with pytest.raises(WireError, match="far-away"):
        guard.judge("eve", -crowd, own, 8)
    with pytest.raises(WireError, match="far-away"):
        guard.judge("who sends the server's old model", own, own, 8)


def test_members_that_all_move_while_nothing_is_published_are_taken() -> None:
    rng = np.random.default_rng(1)
    guard = Guard(size=SIZE, rng=np.random.default_rng(2), is_member=False)
    own = np.zeros(SIZE, np.float32)
    start, way = rng.standard_normal(SIZE), rng.standard_normal(SIZE)
    for step in range(40):
        for number in range(10):
            model = start + step * way / 40 + rng.standard_normal(SIZE) / 10
            assert guard.judge(f"member {number}", model.astype(np.float32), own, 7) > 0
    reasons: list[str] = []
    for step in range(40):  # and all the way back
        for number in range(10):
            model = start + (40 - step) * way / 40 + rng.standard_normal(SIZE) / 10
            try:
                guard.judge(f"member {number}", model.astype(np.float32), own, 7)
            except WireError as error:
                reasons.append(error.reason)
    assert (
        reasons.count("against-the-crowd") == len(reasons) <= 10
    )  # the first of them, until it shows that they are most
    assert guard.quarantine.held(7) == {}
