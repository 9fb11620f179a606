"""A manifest whose parts do not fit each other is refused with the field and the remedy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import (
    FeatureSpec,
    MergePlan,
    Optimiser,
    Requirements,
    TaskManifest,
    TrainingPlan,
    WeightsRef,
)
from grapevine_tasks.checks import ProgramLimits, check_manifest

FLOAT_TARGET = FeatureSpec(name="y", dtype="float32", shape=(3,))


def test_an_honest_manifest_passes_and_is_measured_at_its_batch(manifest: TaskManifest) -> None:
    report = check_manifest(manifest, check_merging=check_merge_plan)
    assert report.largest_batch == manifest.training.batch_size
    bigger = replace(manifest, training=TrainingPlan(batch_size=1000))
    assert check_manifest(bigger, check_merging=check_merge_plan).largest_batch == 1000


def test_a_device_with_less_memory_refuses_what_another_takes(manifest: TaskManifest) -> None:
    with pytest.raises(TaskError, match="this device allows"):
        check_manifest(manifest, check_merging=check_merge_plan, limits=ProgramLimits(memory_bytes=1000))


def test_a_regression_fits_too(manifest: TaskManifest) -> None:
    regression = replace(
        manifest,
        data=replace(manifest.data, target=FLOAT_TARGET, num_classes=0),
        training=TrainingPlan(loss="mse", metric="mse"),
    )
    assert check_manifest(regression, check_merging=check_merge_plan).num_parameters == 15


WRONG = [
    ({"merging": MergePlan(strategy="age-wieghted")}, "did you mean 'age-weighted'"),
    ({"merging": MergePlan(strategy="zzz")}, "no merge strategy 'zzz'"),
    ({"merging": MergePlan(update_form="deltas")}, "did you mean 'delta'"),
    ({"merging": MergePlan(send_rate="log")}, "send_rate"),
    ({"merging": MergePlan(ema=1.0)}, "merging.ema is 1.0"),
    ({"merging": MergePlan(gossip_share_with_server=2.0)}, "gossip_share_with_server"),
    ({"merging": MergePlan(constants={"q": 1.0})}, "no constant 'q'"),
    ({"merging": MergePlan(constants={"p": math.nan})}, "p = nan is out of range"),
    ({"merging": MergePlan(constants={"p": 1e9})}, "write a number from 0 to"),
    ({"merging": MergePlan(server_strategy="fedbuf")}, "did you mean 'fedbuff'"),
    ({"merging": MergePlan(server_strategy="fedasync", server_constants={"alpha": 7.0})}, "out of range"),
    ({"merging": MergePlan(window_rounds=0)}, "window_rounds is 0"),
    ({"training": TrainingPlan(loss="cross_entropy")}, "did you mean 'cross-entropy'"),
    ({"training": TrainingPlan(metric="acuracy")}, "did you mean 'accuracy'"),
    ({"training": TrainingPlan(optimiser=Optimiser(name="adamw"))}, "did you mean 'adam'"),
    ({"training": TrainingPlan(optimiser=Optimiser(learning_rate=0.0))}, "learning_rate is 0.0"),
    ({"training": TrainingPlan(optimiser=Optimiser(name="adam", momentum=0.9))}, "belongs to sgd"),
    ({"training": TrainingPlan(batch_size=10**6)}, "batch_size"),
    ({"training": TrainingPlan(steps_per_round=0)}, "steps_per_round"),
    ({"training": TrainingPlan(metric="mse")}, "metric mse goes with"),
    ({"training": TrainingPlan(loss="mse")}, "needs a float32 target"),
    ({"version": 0}, "versions start at 1"),
    ({"created_at_ms": 10, "expires_at_ms": 10}, "expires before"),
    ({"requirements": Requirements(memory_mb=-1)}, "memory_mb"),
    ({"initial_weights": WeightsRef(digest="ab" * 32, num_bytes=59)}, "num_bytes is 59"),
    ({"initial_weights": WeightsRef(digest="ab" * 32, num_bytes=10**9)}, "num_bytes is 1000000000"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_field_is_named_with_its_remedy(manifest: TaskManifest, change: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_manifest(replace(manifest, **change), check_merging=check_merge_plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 4}, "last layer"),
        ({"num_classes": 0}, "needs data.num_classes"),
        ({"features": FeatureSpec(name="x", dtype="float32", shape=(2, 2))}, "the model takes"),
        ({"features": FeatureSpec(name="x", dtype="int64", shape=(4,))}, "the model takes"),
        ({"target": FeatureSpec(name="y", dtype="int64", shape=(1,))}, "one int64 per sample"),
        ({"scale": 0.0}, "use 1 for no scaling"),
        ({"offset": math.inf}, "offset"),
        ({"kind": "Digits"}, "kind"),
        ({"minimum_samples": 0}, "minimum_samples"),
    ],
)
def test_a_data_contract_must_fit_the_model(manifest: TaskManifest, change: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_manifest(replace(manifest, data=replace(manifest.data, **change)), check_merging=check_merge_plan)
