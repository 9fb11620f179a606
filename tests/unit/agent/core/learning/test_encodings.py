"""Encoded updates: a writer and an intake that agree on the base, and what is left out and comes later."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import built_digits
from tests.unit.proto.samples import KEY, ME, OTHER, TASK, message
from tests.unit.proto.test_encodings import HOSTILE

from grapevine_agent.core.effects import SavedModel
from grapevine_agent.core.learning.encodings import COARSE, Encodings, allowed_encodings, why_larger, written
from grapevine_agent.core.learning.intake import Intake, base_digest
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.pace import vectors_bytes
from grapevine_agent.core.learning.sources import Sources
from grapevine_agent.core.learning.update_writer import UpdateWriter
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.codec import complete, open_envelope, seal_apart
from grapevine_proto.encoding import ENCODINGS, Encoding
from grapevine_proto.encodings import STEPS, encode
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import Encoded, ModelUpdate, Vector
from grapevine_proto.quotas import SenderQuota
from grapevine_proto.topics import InboxTopic
from grapevine_tasks.layout import Entry, ModelLayout

LAYOUT = ModelLayout.of(built_digits().draft.program)
P = LAYOUT.num_parameters
RECEIVER = "r" * 20
EVERY = MergePlan(encodings=tuple(ENCODINGS))
NONE = np.empty(0, np.float32)


def plan(*names: str) -> MergePlan:
    return MergePlan(encodings=("float32", *names))


def drawn(seed: int, scale: float = 0.1) -> Vector:
    return (np.random.default_rng(seed).standard_normal(P) * scale).astype(np.float32)


def writer_of(state: ModelState, merging: MergePlan, form: str = "delta", *, sums: bool = False) -> UpdateWriter:
    members = Members(1.0, np.random.default_rng(0))
    sources = Sources(task="t", peer="me", members=members, versions=state.versions)
    return UpdateWriter(task="t", update_form=form, sources=sources, encodings=Encodings.of(merging), sums_deltas=sums)


def trained(state: ModelState, seed: int) -> ModelState:
    state.parameters = state.parameters + drawn(seed, 0.01)
    return state


def sent(writer: UpdateWriter, state: ModelState) -> ModelUpdate:
    return writer.write(state, RECEIVER, session=1, server_version=0)


def started() -> ModelState:
    state = ModelState.initial(drawn(1), NONE)
    state.base = state.parameters
    return trained(state, 2)


# --- what is chosen -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "wanted", "names"),
    [
        ((), "auto", ("float32", "float32", "float32", "float32", "float32")),
        (("float16",), "auto", ("float16", "float16", "float16", "float16", "float16")),
        (("int8",), "auto", ("int8", "int8", "int8", "float32", "float16")),
        (("int8", "int8+zstd"), "auto", ("int8+zstd", "int8+zstd", "int8+zstd", "float32", "float16+zstd")),
        (("bfloat16", "int8", "top-k"), "auto", ("int8", "top-k", "int8", "bfloat16", "float16")),
        (("int8", "top-k"), "int8", ("int8", "int8", "int8", "float32", "float16")),
        (("top-k+zstd",), "auto", ("float32", "top-k+zstd", "int8+zstd", "float32", "float16+zstd")),
        (("int8",), "float16", ("float32", "float32", "float32", "float32", "float32")),
        (("int8",), "float32", ("float32", "float32", "float32", "float32", "float32")),
    ],
)
def test_the_smallest_is_chosen_that_a_vector_can_bear(
    allowed: tuple[str, ...], wanted: str, names: tuple[str, ...]
) -> None:
    chosen = Encodings.of(plan(*allowed), wanted)
    assert tuple(e.name for e in (chosen.whole, chosen.change, chosen.base, chosen.released, chosen.buffers)) == names
    every = {chosen.whole, chosen.change, chosen.base, chosen.released, chosen.buffers}
    assert every <= allowed_encodings(plan(*allowed))


def test_what_an_encoding_cannot_hold_goes_as_it_lies() -> None:
    large = np.full(300, 1e5, np.float32)
    assert written(large, Encoding("float16")) is large
    short = np.ones(2, np.float32)
    assert written(short, Encoding("int8", zstd=True)) is short


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("form", ["full", "delta"])
def test_a_receiver_has_the_base_that_its_sender_counts_from(name: str, form: str) -> None:
    state, merging = started(), plan(name)
    if name == "float32":
        merging = plan()
    writer, intake = writer_of(state, merging, form), Intake(layout=LAYOUT, allowed=allowed_encodings(merging))
    update = sent(writer, state)
    taken = intake.model_of("me", update)
    assert np.abs(taken.parameters - state.parameters).max() < 0.06
    if form == "full":
        return
    assert taken.receipt == update.base_digest
    assert taken.base is not None
    assert base_digest(taken.base) == update.base_digest
    writer.hear_receipt(RECEIVER, taken.receipt, 1)
    alone = sent(writer, trained(state, 3))
    assert alone.base is None
    again = intake.model_of("me", alone)
    assert again.base is not None
    assert np.array_equal(again.base, taken.base)


def test_what_a_base_loses_is_in_the_change() -> None:
    """The change is counted from the base as its receiver has it, so a coarse base alone costs nothing."""
    state = started()
    writer = writer_of(state, plan("bfloat16"))
    writer.encodings = replace(writer.encodings, change=Encoding())
    taken = Intake(layout=LAYOUT, allowed=allowed_encodings(plan("bfloat16"))).model_of("me", sent(writer, state))
    assert taken.base is not None
    assert state.base is not None
    assert np.abs(taken.base - state.base).max() > 1e-4
    assert np.abs(taken.parameters - state.parameters).max() < 1e-7


def test_one_model_is_encoded_once_for_all_who_get_it() -> None:
    state = started()
    for form in ("full", "delta"):
        writer = writer_of(state, plan("int8"), form)
        one, other = sent(writer, state), writer.write(state, "s" * 20, session=1, server_version=0)
        assert [one.full, one.base, one.delta] == [other.full, other.base, other.delta]
        assert sent(writer, trained(state, 9)).delta is not other.delta or form == "full"


# --- error feedback -------------------------------------------------------------------------------


def sums_of(*, sums: bool, windows: int = 40) -> tuple[Vector, Vector]:
    """What was done in all windows, and what a receiver that sums the changes has of it."""
    state = ModelState.initial(drawn(1), NONE)
    merging = plan("top-k")
    writer, intake = writer_of(state, merging, sums=sums), Intake(layout=LAYOUT, allowed=allowed_encodings(merging))
    done = np.zeros(P, np.float64)
    received = np.zeros(P, np.float64)
    step = drawn(5, 0.01)
    for window in range(windows):
        state.base = state.parameters
        state.window = window
        state.parameters = state.parameters + step + drawn(100 + window, 0.001)
        done += state.parameters - state.base
        taken = intake.model_of("me", sent(writer, state))
        assert taken.base is not None
        received += taken.parameters - taken.base
        writer.open_window()
    return done.astype(np.float32), received.astype(np.float32)


def test_what_is_left_out_of_a_summed_change_comes_later() -> None:
    done, with_feedback = sums_of(sums=True)
    _, without = sums_of(sums=False)
    lost, lost_without = (
        float(np.linalg.norm(done - each) / np.linalg.norm(done)) for each in (with_feedback, without)
    )
    assert lost < 0.5
    assert lost_without > 0.7


def test_within_a_window_a_change_replaces_the_one_before_and_the_residual_does_not_grow() -> None:
    state = started()
    writer = writer_of(state, plan("top-k"), sums=True)
    first = sent(writer, state)
    writer.open_window()
    state.base = state.parameters
    trained(state, 3)
    once = sent(writer, state)
    for _ in range(5):  # the same model again, made anew, as if merges had moved it there and back
        state.parameters = state.parameters.copy()
        again = sent(writer, state)
    assert isinstance(once.delta, Encoded)
    assert isinstance(again.delta, Encoded)
    assert once.delta.content == again.delta.content
    assert isinstance(first.delta, Encoded)


def test_a_window_in_which_nothing_was_sent_leaves_the_residual() -> None:
    state = started()
    writer = writer_of(state, plan("top-k"), sums=True)
    sent(writer, state)
    writer.open_window()
    residual = writer._residual
    writer.open_window()
    assert writer._residual is residual is not None


# --- what is refused ------------------------------------------------------------------------------


def update(**vectors: object) -> ModelUpdate:
    counters = {"window": 1, "version": 1, "age": 1, "experience": 1, "samples": 1}
    return ModelUpdate(task="t", **counters, **vectors)  # type: ignore[arg-type]


def encoded(vector: Vector, name: str) -> Encoded:
    return Encoded(ENCODINGS[name], encode(vector, ENCODINGS[name]))


def refusal(intake: Intake, sent: ModelUpdate, now_s: float = 0.0) -> str:
    with pytest.raises(WireError) as error:
        intake.model_of("me", sent, now_s)
    return error.value.reason


def test_an_encoding_that_the_task_does_not_allow_is_refused() -> None:
    assert refusal(Intake(layout=LAYOUT), update(full=encoded(drawn(1), "float16"))) == "encoding"
    allowing = Intake(layout=LAYOUT, allowed=allowed_encodings(plan("int8")))
    assert refusal(allowing, update(full=encoded(drawn(1), "int8+zstd"))) == "encoding"


def test_what_is_decoded_must_be_the_tasks_model() -> None:
    intake = Intake(layout=LAYOUT, allowed=allowed_encodings(EVERY))
    assert refusal(intake, update(full=encoded(drawn(1)[:-1], "int8+zstd"))) == "wrong-shape"
    nan = Encoded(Encoding("float16"), np.full(P, np.nan, "<f2").tobytes())
    assert refusal(intake, update(full=nan)) == "non-finite"
    far = Encoded(Encoding("bfloat16"), np.full(P, 0x7E00, "<u2").tobytes())
    assert refusal(intake, update(full=far)) == "out-of-range"


def test_a_change_from_an_unknown_base_is_refused_before_it_is_decoded() -> None:
    intake = Intake(layout=LAYOUT, allowed=allowed_encodings(EVERY))
    junk = Encoded(Encoding("top-k"), b"junk")
    assert refusal(intake, update(delta=junk, base_digest=b"d" * 32)) == "unknown-base"


def test_a_few_bytes_cannot_have_a_receiver_decode_without_end() -> None:
    intake = Intake(layout=LAYOUT, allowed=allowed_encodings(EVERY))
    nothing = Encoded(Encoding("int8", zstd=True), encode(np.zeros(P, np.float32), Encoding("int8", zstd=True)))
    small = update(full=nothing)
    assert len(nothing.content) < 100
    taken = 0
    with suppress(WireError):
        for taken in range(100_000):  # noqa: B007 - counted
            intake.model_of("me", small)
    assert taken < 10_000
    assert refusal(intake, small) == "over-quota"
    assert intake.model_of("another", small).parameters.size == P
    assert intake.model_of("me", small, 10.0).parameters.size == P


@pytest.mark.parametrize("name", ["full", "buffers"])
def test_what_is_decoded_is_counted_by_its_own_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[int] = []
    monkeypatch.setattr(SenderQuota, "charge", lambda _self, _sender, num_bytes, _now_s: charged.append(num_bytes))
    layout = replace(LAYOUT, buffers=(Entry(name="mean", offset=0, shape=(300,)),))
    sizes = {"full": P, "buffers": 300}
    vectors: dict[str, Vector | Encoded] = {each: np.zeros(size, np.float32) for each, size in sizes.items()}
    vectors[name] = encoded(np.ones(sizes[name], np.float32), "float16")
    Intake(layout=layout, allowed=allowed_encodings(plan("float16"))).model_of("me", update(**vectors))
    assert charged == [4 * sizes[name]]


def test_a_negative_variance_is_refused_however_it_is_written() -> None:
    entry = Entry(name="var", offset=0, shape=(300,), nonnegative=True)
    layout = replace(LAYOUT, buffers=(entry,))
    intake = Intake(layout=layout, allowed=allowed_encodings(EVERY))
    variances = np.abs(drawn(3)[:300])
    good = update(full=drawn(1), buffers=encoded(variances, "float16"))
    assert (intake.model_of("me", good).buffers >= 0).all()
    variances[7] = -0.5
    assert refusal(intake, update(full=drawn(1), buffers=encoded(variances, "float16"))) == "out-of-range"


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("where", ["full", "base", "delta", "buffers"])
def test_hostile_bytes_are_refused_wherever_they_are_and_leave_no_trace(what: str, where: str) -> None:
    encoding, content, _ = HOSTILE[what]
    entry = Entry(name="w", offset=0, shape=(300,))
    layout = replace(LAYOUT, parameters=(entry,), buffers=(replace(entry, nonnegative=True),))
    intake = Intake(layout=layout, keep_windows=True, allowed=frozenset(ENCODINGS.values()))
    vectors: dict[str, object] = dict.fromkeys(("delta", "base", "buffers"), np.zeros(300, np.float32))
    if where == "full":
        vectors = {"buffers": vectors["buffers"]}
    with pytest.raises(WireError):
        intake.model_of("me", update(**{**vectors, where: Encoded(encoding, content)}))
    assert not intake._bases
    assert not intake._windows


def test_a_receiver_that_does_not_know_an_encoding_of_the_task_reads_the_others() -> None:
    merging = plan("one-of-tomorrow", "int8+zstd")
    assert Encodings.of(merging).whole.name == "int8+zstd"
    intake = Intake(layout=LAYOUT, allowed=allowed_encodings(merging))
    assert intake.model_of("me", update(full=encoded(drawn(1), "int8+zstd"))).parameters.size == P
    assert Encodings.of(plan("one-of-tomorrow"), "one-of-tomorrow") == Encodings()


# --- ways that updates go ---------------------------------------------------------------------------


def test_an_update_that_travels_apart_is_decoded_as_one_that_does_not() -> None:
    state, merging = started(), plan("top-k+zstd")
    body = sent(writer_of(state, merging), state)
    body = replace(body, task=TASK)
    topic = InboxTopic(OTHER, ME)
    sealed = seal_apart(message(body), topic, KEY)
    notice = open_envelope(sealed.payload, topic)
    assert notice.bulk is not None
    assert notice.bulk.num_bytes < P * 2  # of 8 P: what is fetched is what was encoded
    whole = complete(notice, memoryview(bytes(sealed.content))).message.body
    assert isinstance(whole, ModelUpdate)
    one, other = (Intake(layout=LAYOUT, allowed=allowed_encodings(merging)) for _ in range(2))
    taken = one.model_of("me", whole)
    assert np.array_equal(taken.parameters, other.model_of("me", body).parameters)
    assert taken.receipt == body.base_digest


@pytest.mark.parametrize("name", ["int8+zstd", "top-k+zstd"])
def test_whoever_restarts_in_mid_window_is_summed_from_the_base_that_it_had(name: str) -> None:
    state, merging = started(), plan(name)
    state.window = 7
    began = state.base
    assert began is not None
    intake = Intake(layout=LAYOUT, keep_windows=True, allowed=allowed_encodings(merging))
    first = intake.model_of("me", sent(writer_of(state, merging, sums=True), state))
    vectors, counters = trained(state, 3).to_save()
    again = ModelState.restored(SavedModel(vectors=vectors, counters=counters), LAYOUT)
    assert again is not None
    assert again.base is None  # not kept: its next one is where it stands
    second = intake.model_of("me", sent(writer_of(again, merging, sums=True), again))
    assert second.base is not None
    assert first.base is not None
    assert np.array_equal(second.base, first.base)
    change = state.parameters - began
    counted = second.parameters - second.base
    assert np.linalg.norm(counted - change) < 0.15 * np.linalg.norm(change)


def test_a_model_that_was_left_leaves_no_residual() -> None:
    state = started()
    writer = writer_of(state, plan("top-k"), sums=True)
    sent(writer, state)
    writer.open_window()
    assert writer._residual is not None
    state.begin_again(drawn(8), NONE)
    taken = Intake(layout=LAYOUT, allowed=allowed_encodings(plan("top-k"))).model_of("me", sent(writer, state))
    assert writer._residual is None
    assert np.abs(taken.parameters - state.parameters).max() < 0.002  # the base's rounding alone


@pytest.mark.parametrize("name", ["int8+zstd", "top-k+zstd", "float16"])
def test_what_one_writes_as_float32_the_others_read(name: str) -> None:
    merging = plan(name)
    state = started()
    exact = writer_of(state, merging)
    exact.encodings = Encodings.of(merging, "float32")
    update_ = sent(exact, state)
    assert not any(isinstance(each, Encoded) for each in (update_.base, update_.delta, update_.buffers))
    taken = Intake(layout=LAYOUT, allowed=allowed_encodings(merging)).model_of("me", update_)
    assert np.abs(taken.parameters - state.parameters).max() < 1e-7


# --- coarse bases -----------------------------------------------------------------------------------


def test_a_base_is_coarse_where_members_sum_changes_of_which_most_is_left_out() -> None:
    def steps(strategy: str, name: str) -> int:
        return Encodings.of(MergePlan(strategy=strategy, encodings=("float32", name))).base_steps

    assert steps("delta-sum", "top-k+zstd") == COARSE
    assert steps("delta-sum", "top-k") == STEPS  # a byte is a byte
    assert steps("delta-sum", "int8+zstd") == STEPS  # all of what the base loses would be summed
    assert steps("doubly-weighted", "top-k+zstd") == STEPS  # models are rebuilt, and mixed


def test_a_coarse_base_is_smaller_and_its_receiver_has_the_same() -> None:
    state, merging = started(), replace(plan("top-k+zstd"), strategy="delta-sum")
    body = sent(writer_of(state, merging, sums=True), state)
    fine = writer_of(state, merging, sums=True)
    fine.encodings = replace(fine.encodings, base_steps=STEPS)
    assert isinstance(body.base, Encoded)
    assert body.base.nbytes < 0.8 * sent(fine, state).base.nbytes  # type: ignore[union-attr]
    assert vectors_bytes(LAYOUT, "delta", Encodings.of(merging)) == pytest.approx(
        body.base.nbytes + body.delta.nbytes,  # type: ignore[union-attr]
        rel=0.15,
    )
    taken = Intake(layout=LAYOUT, allowed=allowed_encodings(merging)).model_of("me", body)
    assert taken.receipt == body.base_digest


@pytest.mark.parametrize(
    ("wanted", "sends_changes", "why"),
    [
        ("auto", False, ""),
        ("float32", False, ""),
        ("int8", False, ""),
        ("float16", False, "the task does not allow float16, only float32 and int8 and top-k"),
        ("top-k", True, ""),
        ("top-k", False, "top-k is for changes, and members of this task send whole models"),
    ],
)
def test_why_an_update_is_larger_than_its_owner_wants(wanted: str, sends_changes: bool, why: str) -> None:
    assert why_larger(plan("int8", "top-k"), wanted, sends_changes=sends_changes) == why


@pytest.mark.parametrize("form", ["full", "delta"])
def test_a_writer_says_what_it_falls_back_to(form: str) -> None:
    state = ModelState.initial(drawn(1), NONE)
    writer = writer_of(state, plan("float16"), form)
    sent(writer, trained(state, 2))
    assert writer.encoding == "float16"
    state.parameters = state.parameters + np.float32(1e6)  # more than a half can hold
    sent(writer, state)
    assert writer.encoding == "float32"
    state.parameters = drawn(3)
    sent(writer, state)
    assert writer.encoding == "float16"
