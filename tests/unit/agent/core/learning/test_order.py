"""An update that comes after a newer one of its sender says nothing any more."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.agent.core.learning.test_stale_updates import FAR, learner_of
from tests.unit.agent.core.tasks.device import ADA, BEN

from grapevine_agent.core.learning.intake import Intake
from grapevine_agent.core.learning.order import UNDER_WAY_S, Order
from grapevine_agent.core.moment import Moment
from grapevine_lab.bench import floods
from grapevine_proto.errors import WireError
from grapevine_proto.messages import ModelUpdate, Vector
from grapevine_proto.sessions import AHEAD_MS
from grapevine_tasks.layout import ModelLayout

LAYOUT = ModelLayout.of(floods.program())
NOW_MS = 1_000_000_000_000


def numbered(window: int, version: int) -> ModelUpdate:
    return ModelUpdate(task="t", window=window, version=version, age=1, experience=1, samples=1, full=FAR)


def is_taken(order: Order, session: int, window: int, version: int, now_s: float = 0.0) -> bool:
    update = numbered(window, version)
    try:
        order.check("s", session, update, now_s, NOW_MS)
    except WireError as error:
        if error.reason != "old-update":
            raise
        return False
    order.took("s", session, update, now_s)
    return True


@pytest.mark.parametrize(
    ("session", "window", "version", "taken"),
    [
        (7, 2, 5, True),  # the model may have changed since
        (7, 2, 6, True),
        (7, 3, 1, True),
        (7, 2, 4, False),
        (7, 1, 9, False),
        (8, 0, 1, True),  # it has lost its model
        (6, 3, 9, False),
        (NOW_MS + 2 * AHEAD_MS, 0, 1, True),
    ],
)
def test_what_is_newer_is_taken(session: int, window: int, version: int, *, taken: bool) -> None:
    order = Order()
    assert is_taken(order, 7, 2, 5)
    assert is_taken(order, session, window, version) == taken


def test_who_was_ahead_is_heard_again_once_its_clock_is_right() -> None:
    order = Order()
    assert is_taken(order, NOW_MS + 2 * AHEAD_MS, 9, 9)
    assert is_taken(order, 7, 1, 1)


def test_who_begins_anew_in_its_session_is_heard_after_a_while() -> None:
    order = Order()
    assert is_taken(order, 7, 9, 9)
    assert not is_taken(order, 7, 0, 1, UNDER_WAY_S)
    assert is_taken(order, 7, 0, 1, UNDER_WAY_S + 1)


def test_a_window_that_comes_late_is_not_counted_again() -> None:
    intake, counted = Intake(layout=LAYOUT, keep_windows=True), 0.0

    def full_of(value: float) -> Vector:
        return np.full(LAYOUT.num_parameters, value, np.float32)

    def update(window: int, base: float, delta: float) -> ModelUpdate:
        return ModelUpdate(
            task="t",
            window=window,
            version=1,
            age=1,
            experience=1,
            samples=1,
            base=full_of(base),
            delta=full_of(delta),
            buffers=np.zeros(LAYOUT.num_buffers, np.float32),
        )

    # Its sender came from 0 to 1.1, and in its next window to 2.2.
    for each in (update(0, 0, 1.0), update(1, 1.1, 1.0), update(0, 0, 1.1), update(1, 1.1, 1.1)):
        if each.window == 0 and counted:
            with pytest.raises(WireError, match="old-update"):
                intake.model_of("s", each)
            continue
        taken = intake.model_of("s", each)
        assert taken.base is not None
        counted += float(taken.parameters[0] - taken.base[0])
        intake.close_windows()
    assert counted == pytest.approx(2.1)  # what came late is lost, and nothing comes twice


def test_what_comes_late_does_not_replace_what_waits_for_a_merge() -> None:
    learner, now = learner_of(strategy="doubly-weighted")
    for session, number in ((7, 3), (7, 2), (6, 9)):
        update = ModelUpdate(
            task=learner.task, window=number, version=number, age=1, experience=1, samples=1, full=number * FAR
        )
        if (session, number) == (7, 3):
            learner.accept(ADA, update, now, session)
            continue
        with pytest.raises(WireError, match="old-update"):
            learner.accept(ADA, update, now, session)
    learner.accept(BEN, numbered(1, 1), Moment(now.monotonic_s, now.wall_ms), 1)  # another sender has its own numbers
    assert learner.merging._pending[ADA].voice.parameters[0] == 3
