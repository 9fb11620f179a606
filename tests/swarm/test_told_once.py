"""Nothing is sent twice: a peer gets a model once, until it changes."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_resting import Walking

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.told import AGAIN_HEARTBEATS, MAX_REMEMBERED, Told
from grapevine_proto.messages import ModelUpdate, plain


def _updates(group: Crowd, for_s: float) -> Counter[tuple[str, str, bytes]]:
    """How often each (sender, receiver, content) was published."""
    seen: Counter[tuple[str, str, bytes]] = Counter()
    perform = group.world.perform

    def noting(node: Any, effects: Any) -> None:
        effects = list(effects)
        for effect in effects:
            if isinstance(effect, fx.Publish) and isinstance(effect.body, ModelUpdate):
                update = effect.body
                every = (update.full, update.base, update.delta, update.buffers)
                vectors = [plain(v).tobytes() for v in every if v is not None]
                digest = hashlib.sha256(b"".join(vectors)).digest()
                seen[node.peer, effect.topic.below_root(), digest] += 1
        perform(node, effects)

    group.world.perform = noting  # type: ignore[method-assign]
    group.world.run(for_s)
    return seen


@pytest.mark.parametrize(
    "merging",
    [
        {"strategy": "average", "sends_per_round": 8.0},
        {"strategy": "doubly-weighted", "sends_per_round": 8.0},
        {"strategy": "median", "sends_per_round": 8.0},
        {"strategy": "median", "send_rate": "linear"},
    ],
    ids=str,
)
def test_a_peer_gets_a_model_once_until_it_changes(merging: dict[str, Any]) -> None:
    group = crowd(num_members=4, num_rounds=1000, **merging)
    for number, node in enumerate(group.members):
        node.trainer = Walking(number)
    seen = _updates(group, 12)
    assert len(seen) > 40
    assert max(seen.values()) == 1, f"{sum(seen.values())} updates, {len(seen)} distinct"


def _model(value: float = 1.0, **counters: int) -> ModelState:
    model = ModelState.initial(np.full(4, value, np.float32), np.zeros(0, np.float32))
    for name, number in counters.items():
        setattr(model, name, number)
    return model


def test_who_lacks_a_model() -> None:
    told, model = Told(heartbeat_s=1.0, counts_windows=False), _model()
    everybody = [("a", 1), ("b", 1)]
    assert told.lacking(model, everybody, 0.0) == ["a", "b"]
    told.sent(model, "a", 1, 0.0)
    assert told.lacking(model, everybody, 1.0) == ["b"]
    assert told.lacking(model, [("a", 2)], 1.0) == ["a"], "a new session may have lost it"
    assert told.lacking(model, everybody, AGAIN_HEARTBEATS + 1.0) == ["a", "b"], "it may never have arrived"
    told.sent(model, "b", 1, 0.0)
    told.forget()
    assert told.lacking(model, everybody, 1.0) == ["a", "b"], "we may have lost it"


@pytest.mark.parametrize(
    ("changed", "counts_windows", "is_news"),
    [
        (_model(1.0), False, False),  # another vector with the same numbers
        (_model(1.0 + 1e-7), False, False),  # what rounding does
        (_model(1.1), False, True),
        (_model(1.0, version=1), False, True),
        (_model(1.0, window=1), False, False),
        (_model(1.0, window=1), True, True),
    ],
)
def test_what_makes_a_model_another_one(changed: ModelState, counts_windows: bool, is_news: bool) -> None:
    told = Told(heartbeat_s=1.0, counts_windows=counts_windows)
    told.sent(_model(), "a", 1, 0.0)
    assert told.lacking(changed, [("a", 1)], 0.0) == (["a"] if is_news else [])


def test_small_changes_add_up() -> None:
    told = Told(heartbeat_s=1.0, counts_windows=False)
    told.sent(_model(), "a", 1, 0.0)
    steps = [1.0 + k * 1e-6 for k in range(1, 21)]
    assert any(told.lacking(_model(step), [("a", 1)], 0.0) for step in steps)


def test_what_is_remembered_is_bounded() -> None:
    told = Told(heartbeat_s=1.0, counts_windows=False)
    for number in range(MAX_REMEMBERED + 10):
        told.sent(_model(), str(number), 1, 0.0)
    assert len(told._sent) == MAX_REMEMBERED
