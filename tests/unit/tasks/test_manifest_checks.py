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
    PipelineStep,
    Requirements,
    Schedule,
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


@pytest.mark.parametrize("plan", [{"update_form": "delta"}, {"strategy": "delta-sum"}, {"server_strategy": "fedbuff"}])
def test_where_members_send_changes_the_largest_alone_may_travel(manifest: TaskManifest, plan: dict[str, str]) -> None:
    merging = MergePlan(encodings=("float32", "top-k+zstd"), **plan)  # type: ignore[arg-type]
    assert check_manifest(replace(manifest, merging=merging), check_merging=check_merge_plan)


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
    ({"merging": MergePlan(encodings=("float32", "int9"))}, "did you mean 'int8'"),
    ({"merging": MergePlan(encodings=("int8",))}, "'float32' among them"),
    ({"merging": MergePlan(encodings=("float32", "int8", "int8"))}, "name each once"),
    ({"merging": MergePlan(encodings=("float32", "top-k"))}, "members send whole models"),
    ({"merging": MergePlan(exchange="pull")}, "merging.exchange is 'pull'"),
    ({"merging": MergePlan(exchange="push-pull", send_rate="every-round")}, "another send_rate"),
    ({"merging": MergePlan(stale="discounted")}, "did you mean 'discount'"),
    ({"merging": MergePlan(stale_after=-1)}, "merging.stale_after is -1"),
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
    ({"training": TrainingPlan(optimiser=Optimiser(name="adamm"))}, "did you mean 'adam"),
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


ADAM = Optimiser(name="adam", constants={"beta1": 1.0})
WRONG_PLANS = [
    (TrainingPlan(loss_constants={"label_smoothing": 1.0}), "loss_constants.label_smoothing is 1; write a number from"),
    (TrainingPlan(loss_constants={"smoothing": 0.1}), "no constant 'smoothing'; did you mean 'label_smoothing'"),
    (TrainingPlan(optimiser=ADAM), "training.optimiser.beta1 is 1; write a number from 0 to"),
    (TrainingPlan(optimiser=Optimiser(constants={"nesterov": 1.0})), "nesterov is 1 without a momentum"),
    (TrainingPlan(optimiser=Optimiser(constants={"nesterov": 0.5})), "nesterov is 0.5; write a whole number"),
    (TrainingPlan(schedule=Schedule(name="cosin")), "training.schedule.name is 'cosin'; did you mean 'cosine'"),
    (TrainingPlan(schedule=Schedule(name="cosine")), "training.schedule lacks 'steps': write a whole number"),
    (
        TrainingPlan(schedule=Schedule(name="warm-up-cosine", constants={"steps": 5.0, "warm_up": 5.0})),
        "write more steps",
    ),
    (TrainingPlan(max_gradient_norm=math.inf), "max_gradient_norm is inf"),
    (TrainingPlan(metric="top-5-accuracy"), "needs 6 classes or more, and data.num_classes is 3: use the metric"),
    (TrainingPlan(metric="binary-accuracy"), "use the metric accuracy or top-5-accuracy"),
    (TrainingPlan(loss="elbo", metric="mse"), r"needs a float32 target \[d\], not int64\[\]: put flatten"),
    (TrainingPlan(loss="binary-cross-entropy", metric="binary-accuracy"), "put the step one-hot-target into"),
]


@pytest.mark.parametrize(("plan", "message"), WRONG_PLANS)
def test_a_wrong_plan_is_named_with_its_remedy(manifest: TaskManifest, plan: TrainingPlan, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_manifest(replace(manifest, training=plan), check_merging=check_merge_plan)


FORECAST = PipelineStep(name="forecast", arguments={"length": (4.0,), "horizon": (3.0,)})
NUMBER = FeatureSpec(name="x", dtype="float32", shape=())


def test_a_model_takes_what_the_pipeline_makes_and_gives_what_it_derives(manifest: TaskManifest) -> None:
    series = replace(manifest.data, features=NUMBER, target=FLOAT_TARGET, num_classes=0, pipeline=(FORECAST,))
    plan = TrainingPlan(loss="huber", metric="rmse", loss_constants={"delta": 2.0})
    check_manifest(replace(manifest, data=series, training=plan), check_merging=check_merge_plan)
    longer = PipelineStep(name="forecast", arguments={"length": (5.0,), "horizon": (3.0,)})
    with pytest.raises(TaskError, match=r"what data.pipeline makes of data.features is float32\[5\]: make them"):
        check_manifest(
            replace(manifest, data=replace(series, pipeline=(longer,)), training=plan), check_merging=check_merge_plan
        )
    other = replace(series, target=replace(FLOAT_TARGET, shape=(2,)))
    with pytest.raises(TaskError, match=r"data.target is float32\[2\] but data.pipeline makes float32\[3\]"):
        check_manifest(replace(manifest, data=other, training=plan), check_merging=check_merge_plan)


def test_a_class_may_be_made_one_hot_for_a_loss_of_bits(manifest: TaskManifest) -> None:
    data = replace(manifest.data, pipeline=(PipelineStep(name="one-hot-target"),))
    plan = TrainingPlan(loss="binary-cross-entropy", metric="binary-accuracy")
    with pytest.raises(TaskError, match="binary-cross-entropy"):
        check_manifest(replace(manifest, training=plan), check_merging=check_merge_plan)
    check_manifest(replace(manifest, data=data, training=plan), check_merging=check_merge_plan)


def test_an_autoencoders_output_holds_its_latent_numbers(manifest: TaskManifest) -> None:
    one = replace(manifest.data, features=NUMBER, target=replace(FLOAT_TARGET, shape=(1,)), num_classes=0)
    plan = TrainingPlan(loss="elbo", metric="mse")
    four = PipelineStep(name="window", arguments={"length": (4.0,)})
    fitting = replace(manifest, data=replace(one, pipeline=(four,)), training=plan)
    check_manifest(fitting, check_merging=check_merge_plan)  # [1 + 2·1] of 3
    wide = replace(one, target=replace(FLOAT_TARGET, shape=(2,)), pipeline=(four,))
    with pytest.raises(TaskError, match=r"takes \[batch, 2 \+ 2·l\]"):
        check_manifest(replace(fitting, data=wide), check_merging=check_merge_plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a", "b")}, "data.classes has 2 names and data.num_classes is 3"),
        ({"max_age_s": 1e12}, "data.max_age_s is"),
        ({"features": FeatureSpec(name="x", dtype="float32", shape=(4,), columns=("a",))}, "columns has 1 names"),
        ({"pipeline": (PipelineStep(name="claenup"),)}, "step 1 is named 'claenup'"),
        ({"pipeline": (FORECAST,)}, "set data.num_classes to 0"),
    ],
)
def test_what_is_said_of_samples_is_checked(manifest: TaskManifest, change: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_manifest(replace(manifest, data=replace(manifest.data, **change)), check_merging=check_merge_plan)
