"""Pipelines, class names, freshness, schedules and constants of a manifest on the wire."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proto.test_program_codec import MANIFEST

from grapevine_proto.errors import WireError
from grapevine_proto.manifest import (
    FeatureSpec,
    ManifestBrief,
    Optimiser,
    PipelineStep,
    Schedule,
    TaskManifest,
    TrainingPlan,
)
from grapevine_proto.manifest_codec import decode_manifest, encode_manifest, read_brief, task_id

STEP = PipelineStep(name="resize", arguments={"width": (28.0,), "height": (28.0, -0.5)})
FULL = replace(
    MANIFEST,
    data=replace(
        MANIFEST.data,
        features=FeatureSpec(name="row", dtype="float32", shape=(2,), columns=("temperature", "Luftdruck hPa")),
        classes=("none", "some", "many"),
        max_age_s=3600.5,
        pipeline=(STEP, PipelineStep(name="flatten")),
    ),
    training=TrainingPlan(
        optimiser=Optimiser(name="adamw", constants={"beta1": 0.8, "eps": 1e-6}),
        loss_constants={"label_smoothing": 0.1},
        schedule=Schedule(name="cosine", constants={"steps": 100.0}),
        max_gradient_norm=2.5,
    ),
)

words = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=80).filter(str.isprintable)
reals = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e300)
constants = st.dictionaries(words, reals, max_size=4)
steps = st.builds(
    PipelineStep, name=words, arguments=st.dictionaries(words, st.lists(reals, max_size=3).map(tuple), max_size=3)
)
plans = st.builds(
    TrainingPlan,
    optimiser=st.builds(Optimiser, constants=constants),
    loss_constants=constants,
    schedule=st.builds(Schedule, name=words, constants=constants),
    max_gradient_norm=positive,
)


def _changed(**data: Any) -> TaskManifest:
    return replace(FULL, data=replace(FULL.data, **data))


@given(st.lists(steps, max_size=4).map(tuple), st.lists(names, unique=True, max_size=4).map(tuple), positive, plans)
def test_whatever_can_be_written_comes_back_as_it_was(
    pipeline: tuple[PipelineStep, ...], classes: tuple[str, ...], max_age_s: float, training: TrainingPlan
) -> None:
    changed = replace(_changed(pipeline=pipeline, classes=classes, max_age_s=max_age_s), training=training)
    assert decode_manifest(encode_manifest(changed)) == changed


def test_what_has_no_order_has_one_on_the_wire() -> None:
    other = PipelineStep(name="resize", arguments={"height": (28.0, -0.5), "width": (28.0,)})
    assert encode_manifest(_changed(pipeline=(other, FULL.data.pipeline[1]))) == encode_manifest(FULL)


def test_a_manifest_cut_anywhere_is_a_wire_error_or_a_manifest() -> None:
    encoded = encode_manifest(FULL)
    for length in range(len(encoded)):
        try:
            decoded = decode_manifest(encoded[:length])
        except WireError:
            continue
        assert math.isfinite(decoded.data.max_age_s)


@given(st.data())
def test_flipped_bytes_are_a_wire_error_or_finite_numbers(data: st.DataObject) -> None:
    encoded = bytearray(encode_manifest(FULL))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_manifest(bytes(encoded))
    except WireError:
        return
    numbers = [number for step in decoded.data.pipeline for values in step.arguments.values() for number in values]
    assert all(map(math.isfinite, [*numbers, *decoded.training.loss_constants.values()]))


@pytest.mark.parametrize(
    "changed",
    [
        _changed(max_age_s=-1.0),
        _changed(max_age_s=math.nan),
        _changed(classes=("one", "one")),
        _changed(classes=("two\nlines",)),
        _changed(classes=("\x1b[2J",)),
        _changed(classes=tuple(map(str, range(4097)))),
        _changed(pipeline=(STEP,) * 33),
        _changed(pipeline=(PipelineStep(name="../up"),)),
        _changed(pipeline=(PipelineStep(name="clip", arguments={"low": (math.inf,)}),)),
        _changed(pipeline=(PipelineStep(name="clip", arguments={"a b": (1.0,)}),)),
        _changed(pipeline=(PipelineStep(name="normalise", arguments={"mean": (0.0,) * 4097}),)),
        _changed(features=replace(FULL.data.features, columns=("a", "a"))),
        replace(FULL, training=TrainingPlan(loss_constants={"beta": math.nan})),
        replace(FULL, training=TrainingPlan(schedule=Schedule(name="Cosine"))),
        replace(FULL, training=TrainingPlan(schedule=Schedule(constants={"steps": math.inf}))),
        replace(FULL, training=TrainingPlan(max_gradient_norm=-1.0)),
        replace(FULL, training=TrainingPlan(optimiser=Optimiser(constants={f"c{k}": 0.0 for k in range(33)}))),
    ],
)
def test_what_no_task_may_say_is_refused(changed: TaskManifest) -> None:
    with pytest.raises(WireError, match="bad-manifest"):
        decode_manifest(encode_manifest(changed))


def test_manifests_of_before_keep_their_bytes_and_so_their_names() -> None:
    before = replace(MANIFEST, merging=replace(MANIFEST.merging, gossip_share_with_server=0.25))  # the default then
    assert task_id(encode_manifest(before)) == "577345db320a1c2fa29330c74b66c882435d3dc1e0c6908d870337365c43cafe"
    full = replace(FULL, merging=replace(FULL.merging, gossip_share_with_server=0.25))
    assert task_id(encode_manifest(full)) == "4671824d77e08ed2625f1ff06f94182dd8411d2d2cbaa9d895a95c9c614c162e"
    older = decode_manifest(encode_manifest(FULL))
    assert (older.fresh, older.training.patience, older.data.holdout) == (False, 0, "")


def test_patience_holdout_and_a_fresh_beginning_come_back_as_they_were() -> None:
    manifest = replace(_changed(holdout="blocks"), training=replace(FULL.training, patience=40), fresh=True)
    encoded = encode_manifest(manifest)
    assert decode_manifest(encoded) == manifest
    assert read_brief(encoded) == ManifestBrief.of(manifest)
    assert read_brief(encoded).fresh
    assert task_id(encoded) != task_id(encode_manifest(FULL))


def test_a_holdout_with_odd_letters_or_patience_beyond_counting_is_refused() -> None:
    for odd in (_changed(holdout="a\nb"), replace(FULL, training=replace(FULL.training, patience=2**60))):
        with pytest.raises(WireError):
            decode_manifest(encode_manifest(odd))


def test_encodings_come_back_with_float32_which_is_not_written() -> None:
    merging = replace(FULL.merging, encodings=("float32", "int8+zstd", "one-of-tomorrow"))
    manifest = replace(FULL, merging=merging)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    exact = replace(FULL, merging=replace(FULL.merging, encodings=("float32",)))
    assert task_id(encode_manifest(exact)) == task_id(encode_manifest(FULL))


@pytest.mark.parametrize("names", [("int8", "int8"), ("a b",), ("",), tuple(f"e{k}" for k in range(40))])
def test_encodings_with_odd_names_or_twice_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(WireError, match="bad-manifest"):
        decode_manifest(encode_manifest(replace(FULL, merging=replace(FULL.merging, encodings=names))))


def test_what_a_task_says_of_stale_updates_and_answers_comes_back_and_the_default_is_not_written() -> None:
    merging = replace(FULL.merging, stale_after=2_000, stale="refuse", exchange="push-pull")
    manifest = replace(FULL, merging=merging)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert decode_manifest(encode_manifest(FULL)).merging.stale == "discount"


@pytest.mark.parametrize("odd", [{"stale": "a\nb"}, {"exchange": "Push"}, {"stale_after": 2**60}])
def test_odd_words_and_counts_about_these_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="bad-manifest"):
        decode_manifest(encode_manifest(replace(FULL, merging=replace(FULL.merging, **odd))))
