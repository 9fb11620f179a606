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
