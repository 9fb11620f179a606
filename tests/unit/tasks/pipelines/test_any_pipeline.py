"""Whatever a stranger wrote into a pipeline: what it says it makes, it makes, or it is a TaskError."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep
from grapevine_tasks.pipelines import STEPS, count_prepared, derives_target, model_specs, prepare, rows_needed

SMALL = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 0.5, -1.0])
HOSTILE = SMALL | st.floats() | st.sampled_from([1e30, 65536.0, 4096.0, -0.0])


@st.composite
def steps(draw: st.DrawFn, numbers: st.SearchStrategy[float], *, strange: bool) -> PipelineStep:
    name = draw(st.sampled_from(sorted(STEPS)))
    known = st.sampled_from(sorted(STEPS[name].arguments) or ["length"])
    if strange:
        lists = st.lists(numbers, max_size=4).map(tuple)
        return PipelineStep(name=name, arguments=draw(st.dictionaries(known, lists, max_size=4)))
    return PipelineStep(name=name, arguments={key: (draw(numbers),) for key in STEPS[name].arguments})


@st.composite
def contracts(draw: st.DrawFn, numbers: st.SearchStrategy[float], *, strange: bool) -> DataContract:
    pipeline = tuple(draw(st.lists(steps(numbers, strange=strange), max_size=4)))
    num_classes = 0 if any(step.name in ("forecast", "reconstruct") for step in pipeline) else draw(st.integers(0, 3))
    return DataContract(
        kind="k",
        features=FeatureSpec(
            name="x",
            dtype=draw(st.sampled_from(["float32", "int64"])),
            shape=tuple(draw(st.lists(st.integers(1, 4), max_size=3))),
        ),
        target=FeatureSpec(name="y", dtype="int64" if num_classes else "float32", shape=()),
        num_classes=num_classes,
        scale=draw(st.sampled_from([1.0, 0.5, -2.0])),
        pipeline=pipeline,
    )


def _samples(contract: DataContract, num: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(num)
    x = rng.integers(0, 3, (num, *contract.features.shape))
    return (x if contract.features.dtype == "int64" else x + 0.5), rng.integers(0, max(1, contract.num_classes), num)


@given(contracts(SMALL, strange=False), st.integers(0, 20))
def test_what_a_pipeline_says_it_makes_it_makes(contract: DataContract, num: int) -> None:
    try:
        specs = model_specs(contract)
    except TaskError:
        assume(False)
    x, y = _samples(contract, num)
    try:
        prepared = prepare(x, None if derives_target(contract) else y, contract, "here")
    except TaskError:
        return
    for array, spec in zip(prepared, specs, strict=True):
        assert (array.dtype, array.shape[1:]) == (np.dtype(spec.dtype), spec.shape)
    assert len(prepared[0]) == len(prepared[1]) == count_prepared(num, contract)


@given(contracts(SMALL, strange=False))
def test_as_many_rows_as_are_needed_make_one_sample_and_fewer_make_none(contract: DataContract) -> None:
    try:
        needed = rows_needed(contract)
    except TaskError:
        assume(False)
    assert count_prepared(needed, contract) == 1
    assert count_prepared(needed - 1, contract) == 0


@given(contracts(HOSTILE, strange=True), st.data())
def test_no_pipeline_and_no_array_raises_anything_but_a_task_error(contract: DataContract, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(0, 5)), *contract.features.shape)
    kind = data.draw(st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]))
    x = data.draw(arrays.arrays(kind, shape))
    y = data.draw(st.none() | arrays.arrays(kind, shape[:1]))
    with contextlib.suppress(TaskError):
        prepare(x, y, contract, "here")
    with contextlib.suppress(TaskError):
        model_specs(contract)
