"""What a member holds of all others together, however few bytes they send."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.core.learning.test_stale_updates import learner_of
from tests.unit.agent.core.tasks.device import LAYOUT

from grapevine_agent.core.learning import places
from grapevine_agent.core.learning.encodings import allowed_encodings
from grapevine_agent.core.learning.guard.shadow import AT_ONCE
from grapevine_agent.core.learning.intake import Intake
from grapevine_agent.core.learning.places import A_BASE, A_MODEL, A_WINDOW, held_bytes, most_places
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.encodings import encode
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import Encoded, ModelUpdate, Vector
from grapevine_tasks.layout import ModelLayout

NONE = np.empty(0, np.float32)
P = 100_000


@dataclass(frozen=True)
class Size:
    """All that is asked of a layout here."""

    num_parameters: int = P
    num_buffers: int = 0
    buffers: tuple[Any, ...] = ()


def layout(num_parameters: int = P) -> ModelLayout:
    return Size(num_parameters)  # type: ignore[return-value]


def zeros(name: str) -> Encoded:
    return Encoded(ENCODINGS[name], encode(np.zeros(P, np.float32), ENCODINGS[name]))


def update(window: int = 1, **vectors: Any) -> ModelUpdate:
    vectors = vectors or {"base": zeros("int8+zstd"), "delta": zeros("top-k+zstd")}
    return ModelUpdate(task="t", window=window, version=1, age=1, experience=1, samples=1, buffers=NONE, **vectors)


def summing(**fields: Any) -> Intake:
    allowed = allowed_encodings(MergePlan(encodings=("float32", "top-k+zstd")))
    fields = {"layout": layout(), "capacity": 64, "hold_s": 30.0, **fields}
    return Intake(keep_windows=True, allowed=allowed, **fields)


def key(number: int) -> str:
    return f"{number:020d}"


def say(intake: Intake, senders: Iterable[int], now_s: float, **vectors: Any) -> tuple[list[Any], list[str]]:
    """What was taken of these senders, and why the rest was not."""
    taken, refused = [], []
    for number in senders:
        try:
            taken.append(intake.model_of(key(number), update(**vectors), now_s))
        except WireError as error:
            refused.append(error.reason)
    return taken, refused


def num_bytes(vectors: Iterable[Vector | None]) -> int:
    return sum({id(each): each.nbytes for each in vectors if each is not None}.values())


def held(intake: Intake, taken: Iterable[Any] = ()) -> int:
    windows, pending = intake._windows.values(), list(taken)
    return num_bytes(
        [each.vector for each in intake._bases.values()]
        + [vector for each in windows for vector in (each.first, each.newest)]
        + [vector for each in pending for vector in (each.parameters, each.base)]
    )


def test_kilobytes_of_a_crowd_do_not_become_a_multiple_of_what_may_be_held() -> None:
    intake = summing(memory_mb=64)
    sent = sum(len(each.content) for each in (zeros("int8+zstd"), zeros("top-k+zstd")))
    assert sent < 200
    for now_s in (0.0, 10.0):
        taken, refused = say(intake, range(64), now_s)
        assert set(refused) == {"over-quota"}
        assert len(taken) == intake.num_places == 6
    assert held(intake, taken) <= 64 * places.MIB // places.LENT_SHARE


def test_who_has_a_place_keeps_it_and_a_newcomer_gets_that_of_whom_was_not_heard_for_long() -> None:
    intake = summing(memory_mb=64)
    say(intake, range(6), 0.0)
    assert say(intake, range(1, 6), 20.0)[1] == []
    assert say(intake, [6], 29.0)[1] == ["over-quota"]
    assert say(intake, [6], 31.0)[1] == []
    assert key(0) not in intake._windows
    assert key(0) not in intake._bases
    assert say(intake, [0], 31.0)[1] == ["over-quota"]


def test_what_is_refused_takes_nobodys_place() -> None:
    intake = summing(memory_mb=64)
    say(intake, range(6), 0.0)
    small = np.zeros(P - 1, np.float32)
    assert say(intake, [6], 100.0, full=small)[1] == ["wrong-shape"]
    assert len(intake._windows) == 6


def test_a_crowd_of_sixty_four_small_models_is_not_refused() -> None:
    intake = summing(layout=layout(65_000))
    assert intake.num_places == 64
    one = np.zeros(65_000, np.float32)
    taken, refused = say(intake, range(64), 0.0, full=one)
    assert (len(taken), refused) == (64, [])


def test_a_base_that_comes_again_is_held_once() -> None:
    intake = summing()
    for now_s in (0.0, 1.0):
        taken, _ = say(intake, [1], now_s)
    assert held(intake, taken) == 2 * 4 * P  # the base, where the window began too, and the newest model
    assert intake._windows[key(1)].first is intake._bases[key(1)].vector


@pytest.mark.parametrize(
    ("num_parameters", "num_vectors", "memory_mb", "most", "num"),
    [
        (5_000, A_WINDOW, 1024, 64, 64),
        (1_000_000, A_WINDOW, 1024, 64, 10),
        (1_000_000, A_MODEL, 1024, 64, 64),
        (1_000_000, A_MODEL, 400, 64, 26),  # a quarter of it
        (1_000_000, A_BASE, 1024, 256, 32),  # at a server
        (25_000_000, A_WINDOW, 1024, 64, 2),  # whatever they take
        (25_000_000, A_WINDOW, 1024, 1, 1),
    ],
)
def test_the_places_that_there_are(num_parameters: int, num_vectors: int, memory_mb: int, most: int, num: int) -> None:
    assert most_places(layout(num_parameters), num_vectors, memory_mb=memory_mb, most=most) == num


@pytest.mark.parametrize(
    ("merging", "num_vectors"),
    [
        ({"strategy": "age-weighted"}, AT_ONCE),
        ({"strategy": "age-weighted", "update_form": "delta"}, 8 * A_BASE + AT_ONCE),
        ({"strategy": "doubly-weighted"}, 64 + AT_ONCE),
        ({"strategy": "delta-sum"}, 64 * A_WINDOW + AT_ONCE),
        ({"strategy": "chisme"}, 0),  # whose members' models are not held against each other so
    ],
)
def test_what_a_task_may_hold_of_others_is_known_beforehand(merging: dict[str, Any], num_vectors: int) -> None:
    assert held_bytes(MergePlan(**merging), layout(5_000), memory_mb=1024) == num_vectors * 4 * 5_000


def test_models_that_wait_for_a_merge_are_as_many_as_find_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "HELD_BYTES", 0)
    monkeypatch.setattr(places, "HELD_MODELS", 3)
    learner, now = learner_of(strategy="doubly-weighted")
    vector = np.ones(LAYOUT.num_parameters, np.float32)
    for number in range(5):
        learner.accept(
            key(number),
            ModelUpdate(task=learner.task, window=1, version=1, age=1, experience=1, samples=1, full=vector),
            now,
        )
    assert list(learner.merging._pending) == [key(2), key(3), key(4)]  # who waited longest went first
