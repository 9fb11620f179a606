"""What a server counts beside its models."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.serving import counting_refusals, vector_bytes
from grapevine_agent.merge.server import SERVER_STRATEGIES, ServerContext, ServerStart, ServerUpdate
from grapevine_lab.bench.server_members import Accepting, updates_of
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

SIZE = 1_000


def vector(value: float = 1.0) -> Vector:
    return np.full(SIZE, value, np.float32)


def test_each_memory_counts_once_however_often_it_is_held() -> None:
    one, other = vector(), vector()
    state = ModelState(parameters=one, buffers=other, released=one, released_buffers=other)
    assert vector_bytes(state) == 2 * 4 * SIZE
    assert vector_bytes(state, [one, {"again": (other, deque([one]))}]) == 2 * 4 * SIZE
    assert vector_bytes(state, vector()) == 3 * 4 * SIZE


def test_what_holds_itself_is_looked_at_once() -> None:
    circle: list[object] = [vector()]
    circle.append(circle)
    assert vector_bytes(circle) == 4 * SIZE


def test_what_is_none_of_ours_is_not_looked_into() -> None:
    class Foreign:
        held = vector()

        def __init__(self) -> None:
            self.more = vector()

    assert vector_bytes(Foreign(), np.random.default_rng(0), "a word", 3) == 0


@pytest.mark.parametrize("name", SERVER_STRATEGIES)
def test_the_vectors_of_every_strategy_are_found(name: str) -> None:
    entry = SERVER_STRATEGIES[name]
    start = ServerStart(parameters=vector(0), buffers=np.empty(0, np.float32))
    strategy, context = entry.make(start), ServerContext(constants=entry.with_defaults({}))
    for number in range(3):
        given = ServerUpdate(
            peer=f"peer-{number}",
            parameters=vector(number + 1),
            buffers=start.buffers,
            base=vector(0),
            age=1,
            samples=1,
        )
        strategy.accept(given, context)
        del given
    held = vector_bytes(strategy)
    assert 4 * SIZE <= held <= 24 * 4 * SIZE
    assert held % (4 * SIZE) == 0


def test_a_refusal_counts_by_its_reason_and_goes_on() -> None:
    server = Accepting.of("fedavg", updates_of(10)).aggregator
    for reason in ("non-finite", "wrong-shape", "non-finite"):
        with pytest.raises(WireError), counting_refusals(server):
            raise WireError(reason)
    with counting_refusals(server):
        pass
    assert server.refused == {"non-finite": 2, "wrong-shape": 1}
    with pytest.raises(WireError), counting_refusals(None):
        raise WireError("non-finite")
