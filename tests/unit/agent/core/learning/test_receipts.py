"""A base is sent until it is known to be held: a writer and an intake, and messages that are lost between them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.swarm.digits import built_digits

from grapevine_agent.core.learning.intake import Intake, base_digest
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.receipts import MAX_LACKING, Receipts
from grapevine_agent.core.learning.sources import Sources
from grapevine_agent.core.learning.update_writer import UpdateWriter
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.errors import WireError
from grapevine_proto.messages import BaseReceipt, ModelUpdate
from grapevine_tasks.layout import ModelLayout

LAYOUT = ModelLayout.of(built_digits().draft.program)
RECEIVER = "r" * 20


def model(value: float) -> ModelState:
    state = ModelState.initial(np.full(LAYOUT.num_parameters, value, np.float32), np.empty(0, np.float32))
    state.base = state.parameters - 1
    return state


def writer_of(state: ModelState) -> UpdateWriter:
    members = Members(1.0, np.random.default_rng(0))
    sources = Sources(task="t", peer="me", members=members, versions=state.versions)
    return UpdateWriter(task="t", update_form="delta", sources=sources)


def written(writer: UpdateWriter, state: ModelState, session: int = 1) -> ModelUpdate:
    return writer.write(state, RECEIVER, session=session, server_version=0)


def test_a_base_that_was_only_written_is_sent_again() -> None:
    state = model(3)
    writer = writer_of(state)
    assert written(writer, state).base is not None
    assert written(writer, state).base is not None


def test_a_base_that_is_held_is_left_out_until_a_new_window_or_session() -> None:
    state, intake = model(3), Intake(layout=LAYOUT)
    writer = writer_of(state)
    writer.hear_receipt(RECEIVER, intake.model_of("me", written(writer, state)).receipt, 1)
    alone = written(writer, state)
    assert alone.base is None
    assert np.array_equal(intake.model_of("me", alone).parameters, state.parameters)
    assert written(writer, state, session=2).base is not None  # it restarted, and holds nothing
    writer.hear_receipt(RECEIVER, alone.base_digest, 1)
    writer.open_window()
    assert written(writer, state).base is not None


def test_a_receiver_that_holds_nothing_gets_the_base_again() -> None:
    state = model(3)
    writer = writer_of(state)
    update = written(writer, state)
    writer.hear_receipt(RECEIVER, update.base_digest, 1)
    alone, forgetful, receipts = written(writer, state), Intake(layout=LAYOUT), Receipts(task="t", peer=RECEIVER)
    with pytest.raises(WireError, match="unknown-base"), receipts.lacking("me", 5):
        forgetful.model_of("me", alone)
    assert receipts.are_due
    (told,) = receipts.due()
    assert not receipts.are_due
    assert (told.body, told.receiver_session) == (BaseReceipt(task="t"), 5)
    assert isinstance(told.body, BaseReceipt)
    writer.hear_receipt(RECEIVER, told.body.base_digest, 1)
    assert written(writer, state).base is not None


def test_other_refusals_are_not_answered_and_those_that_are_are_bounded() -> None:
    receipts = Receipts(task="t", peer=RECEIVER)
    with pytest.raises(WireError), receipts.lacking("me", 1):
        raise WireError("wrong-shape", "")
    assert not receipts.are_due
    for k in range(3 * MAX_LACKING):
        with pytest.raises(WireError), receipts.lacking(str(k), 1):
            raise WireError("unknown-base", "")
    assert len(receipts.due()) == MAX_LACKING


def test_a_receipt_for_what_was_not_sent_is_worth_nothing() -> None:
    state = model(3)
    writer = writer_of(state)
    assert state.base is not None
    writer.hear_receipt(RECEIVER, base_digest(state.base), 1)  # before anything was sent to it
    assert written(writer, state).base is not None


def test_a_base_with_a_receipt_is_not_pushed_out_while_it_is_used() -> None:
    intake, state = Intake(layout=LAYOUT, capacity=2, hold_s=10.0), model(3)
    update = written(writer_of(state), state)
    assert intake.model_of("k", update, 0.0).receipt
    assert intake.model_of("l", update, 1.0).receipt
    assert intake.model_of("m", update, 9.0).receipt == b""  # there is no room, and nobody relies on it
    assert intake.model_of("m", update, 10.0).receipt  # `k` was not heard for long
    assert len(intake._bases) == 2
