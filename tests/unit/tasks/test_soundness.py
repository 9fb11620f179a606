"""What fits its signature and shapes, and can only fail or never learn, is refused with the node and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.program import (
    Argument,
    BufferUpdate,
    Constant,
    Graph,
    InputSpec,
    Node,
    Operator,
    Program,
    Ref,
    TensorSpec,
)
from grapevine_tasks.checks import ProgramLimits, check_manifest, check_program

Op = Operator
X, WEIGHT, BIAS, MEAN, VARIANCE, LEARNT = range(6)  # values of `_program`
CHANNELS = 4


def _node(operator: Operator, *arguments: Argument, num_results: int = 1) -> Node:
    return Node(operator=operator, arguments=arguments, num_results=num_results)


def _program(*nodes: Node, shape: Sequence[int] = (CHANNELS,), output: int | None = None) -> Program:
    """x [batch, *shape], times a weight for each of its last dimension: value 5; then these nodes, from value 6 on.

    To be evaluated, the input times the weights is all.
    """
    multiplied = _node(Op.MUL, Ref(X), Ref(WEIGHT))
    last = LEARNT + 1 + sum(n.num_results for n in nodes[:-1]) if nodes else LEARNT
    return Program(
        inputs=(InputSpec(name="x", shape=tuple(shape)),),
        parameters=(
            TensorSpec(name="weight", shape=tuple(shape[-1:])),
            TensorSpec(name="bias", shape=tuple(shape[-1:])),
        ),
        buffers=(TensorSpec(name="mean", shape=(CHANNELS,)), TensorSpec(name="variance", shape=(CHANNELS,))),
        train=Graph(nodes=(multiplied, *nodes), output=last if output is None else output),
        eval=Graph(nodes=(multiplied,), output=LEARNT),
    )


def _evaluated(program: Program) -> Program:
    return replace(program, train=program.eval, eval=program.train)


def _check(program: Program, smallest_batch: int = 2) -> None:
    check_program(program, ProgramLimits(largest_batch=32, smallest_batch=smallest_batch))


BATCH_NORM = _node(Op.BATCH_NORM_TRAIN, Ref(LEARNT), None, None, Ref(MEAN), Ref(VARIANCE), 0.1, 1e-5, num_results=3)

# The node, the shape of x, the smallest batch of training, and what the refusal says.
REFUSED: dict[str, tuple[Node, tuple[int, ...], int, str]] = {
    "one value a channel": (
        BATCH_NORM,
        (CHANNELS,),
        1,
        "a channel of .* has 1 value at a batch of 1: 2 or more .* data.minimum_samples to 2",
    ),
    "one value a group": (
        _node(Op.GROUP_NORM, Ref(LEARNT), CHANNELS, None, None, 1e-5),
        (CHANNELS,),
        2,
        "value 6, GROUP_NORM: a group of .* has 1 value .* use fewer groups than 4",
    ),
    "a bias alone": (
        _node(Op.GROUP_NORM, Ref(LEARNT), 2, None, Ref(BIAS), 1e-5),
        (CHANNELS,),
        2,
        "GROUP_NORM: has a bias and no weight; give both",
    ),
    "one value a layer": (
        _node(Op.LAYER_NORM, Ref(LEARNT), (1,), None, None, 1e-5),
        (3, 1),
        2,
        r"LAYER_NORM: the shape \[1\] has 1 value .* normalise over more",
    ),
    "the spread of one sample": (
        _node(Op.VARIANCE, Ref(LEARNT), (0,), 1.0, True),
        (CHANNELS,),
        1,
        "VARIANCE: the dimensions .* have 1 value at a batch of 1: more than its correction 1",
    ),
    "a correction of all": (
        _node(Op.DEVIATION, Ref(LEARNT), (1,), 4.0, False),
        (CHANNELS,),
        2,
        "DEVIATION: the dimensions .* have 4 values .* more than its correction 4",
    ),
    "low above high": (_node(Op.HARDTANH, Ref(LEARNT), 1.0, -1.0), (CHANNELS,), 2, "HARDTANH: low is 1 and high -1"),
    "low that is high": (_node(Op.CLAMP, Ref(LEARNT), 2.0, 2.0), (CHANNELS,), 2, "CLAMP: low is 2 and high 2"),
    "division by nothing": (_node(Op.DIV, Ref(LEARNT), 0), (CHANNELS,), 2, "DIV: divides by 0"),
    "everything dropped": (_node(Op.DROPOUT, Ref(LEARNT), 1.0), (CHANNELS,), 2, "DROPOUT: drops a share of 1"),
    "attention dropped": (
        _node(Op.ATTENTION, Ref(LEARNT), Ref(LEARNT), Ref(LEARNT), None, 1.0, False, None),
        (2, 3),
        2,
        "ATTENTION: drops a share of 1",
    ),
    "attention to nothing": (
        _node(Op.ATTENTION, Ref(LEARNT), Ref(LEARNT), Ref(LEARNT), None, 0.0, True, 0.0),
        (2, 3),
        2,
        "ATTENTION: has a scale of 0",
    ),
    "a power of e beyond float32": (
        _node(Op.SOFTPLUS, Ref(LEARNT), 1.0, 1000.0),
        (CHANNELS,),
        2,
        "SOFTPLUS: threshold is 1000",
    ),
    "an empty slice": (
        _node(Op.SLICE, Ref(LEARNT), 1, 2, 2, 1),
        (CHANNELS,),
        2,
        r"SLICE: gives float32\[batch, 0\], which is empty",
    ),
    "nothing repeated": (_node(Op.FULL, (0, 3), 1.0), (CHANNELS,), 2, r"FULL: gives float32\[0, 3\], which is empty"),
    "four dimensions mirrored": (
        _node(Op.REFLECT, Ref(LEARNT), (1,) * 8),
        (2, 3, 3, 3, 3),
        2,
        "REFLECT: .* are not pairs of the 1 to 3 dimensions",
    ),
    "a window of padding alone": (
        _node(Op.MAX_POOL2D, Ref(LEARNT), (1, 2), (1, 1), (0, 1), (1, 3), False),
        (1, 1, 2),
        2,
        "MAX_POOL2D: a kernel of 2 with dilation 3 and padding 1 has a window beside all of the 2 numbers",
    ),
    "a mean that learns": (
        _node(Op.BATCH_NORM_EVAL, Ref(LEARNT), None, None, Ref(BIAS), Ref(VARIANCE), 1e-5),
        (CHANNELS,),
        2,
        "BATCH_NORM_EVAL: the mean, value 2, is learnt; statistics have no gradient: use a buffer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_only_fail_is_refused_with_its_node(name: str) -> None:
    node, shape, smallest_batch, reason = REFUSED[name]
    with pytest.raises(TaskError, match=rf"train graph, value 6, {node.operator.name}: ") as caught:
        _check(_program(node, shape=shape), smallest_batch)
    assert re.search(reason, str(caught.value)), str(caught.value)


def test_a_convolution_that_sees_nothing_but_its_padding_is_refused() -> None:
    kernel = _node(Op.RESHAPE, Ref(WEIGHT), (1, 1, 2))
    blind = _node(Op.CONV1D, Ref(LEARNT), Ref(6), None, (256,), (2,), (1,), 1)
    with pytest.raises(TaskError, match=r"value 7, CONV1D: every window .* lies in the padding of 2"):
        _check(_program(kernel, blind, shape=(1, 2)))
    sees = _node(Op.CONV1D, Ref(LEARNT), Ref(6), None, (1,), (2,), (1,), 1)  # its first window sees nothing
    _check(replace(_program(kernel, sees, shape=(1, 2)), eval=_program(kernel, sees, shape=(1, 2)).train))


def test_one_value_a_channel_is_enough_for_no_batch_but_a_row_of_them_is() -> None:
    _check(_program(BATCH_NORM), smallest_batch=2)
    _check(_program(BATCH_NORM, shape=(CHANNELS, 2)), smallest_batch=1)
    with pytest.raises(TaskError, match="1 value at a batch of 1"):
        _check(_program(BATCH_NORM, shape=(CHANNELS, 1)), smallest_batch=1)


def test_an_evaluation_may_come_to_a_single_sample_whatever_the_training_does() -> None:
    spread = _node(Op.VARIANCE, Ref(LEARNT), (0,), 1.0, True)
    program = _program(spread, _node(Op.ADD, Ref(LEARNT), Ref(6)))
    _check(program, smallest_batch=2)
    with pytest.raises(TaskError, match=r"eval graph, value 6, VARIANCE: .* 1 value at a batch of 1"):
        _check(_evaluated(program), smallest_batch=2)


NO_GRADIENT: dict[str, tuple[tuple[Node, ...], tuple[int, ...]]] = {
    "DETACH": ((_node(Op.DETACH, Ref(LEARNT)),), (CHANNELS,)),
    "ARGMAX": ((_node(Op.ARGMAX, Ref(LEARNT), 1, True), _node(Op.TO_FLOAT32, Ref(6))), (CHANNELS,)),
    "GREATER": ((_node(Op.GREATER, Ref(LEARNT), 0.5), _node(Op.TO_FLOAT32, Ref(6))), (CHANNELS,)),
    "TO_INT64": ((_node(Op.TO_INT64, Ref(LEARNT)), _node(Op.TO_FLOAT32, Ref(6))), (CHANNELS,)),
    "FLOOR": ((_node(Op.FLOOR, Ref(LEARNT)),), (CHANNELS,)),
    "SIGN": ((_node(Op.SIGN, Ref(LEARNT)),), (CHANNELS,)),
    "POW": ((_node(Op.POW, Ref(LEARNT), 0.0),), (CHANNELS,)),
    "MUL": ((_node(Op.MUL, Ref(LEARNT), 0.0),), (CHANNELS,)),
    "SOFTMAX": ((_node(Op.SOFTMAX, Ref(LEARNT), 1),), (1,)),
    "VARIANCE": ((_node(Op.VARIANCE, Ref(LEARNT), (1,), 0.0, True),), (1,)),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_an_output_that_no_gradient_leaves_is_refused_with_where_it_ends(name: str) -> None:
    nodes, shape = NO_GRADIENT[name]
    first = _program(*nodes, shape=shape)
    program = replace(first, eval=first.train)
    with pytest.raises(TaskError, match=rf"no gradient .* train graph's output, value .* value 6, {name}"):
        _check(program)


@pytest.mark.parametrize("operator", [Op.NORMAL, Op.BERNOULLI])
def test_an_output_that_takes_only_the_shape_of_a_parameter_is_refused(operator: Operator) -> None:
    drawn = _node(operator, Ref(LEARNT), *([0.5] if operator is Op.BERNOULLI else []))
    with pytest.raises(TaskError, match="the train graph's output, value 6, depends on no parameter"):
        _check(_program(drawn))
    with pytest.raises(TaskError, match="the eval graph's output, value 6, depends on no parameter"):
        _check(_evaluated(_program(drawn)))


def test_to_be_evaluated_an_output_needs_no_gradient() -> None:
    _check(_evaluated(_program(_node(Op.DETACH, Ref(LEARNT)))))


def test_a_gradient_need_not_come_through_every_node() -> None:
    _check(_program(_node(Op.FLOOR, Ref(LEARNT)), _node(Op.ADD, Ref(LEARNT), Ref(6))))


def _looked_up(array: NDArray[np.int64], *nodes: Node) -> Program:
    """`_program` with a constant, value 5: what is learnt is then value 6, and the nodes begin at 7."""
    constant = Constant(dtype="int64", shape=array.shape, content=array.astype("<i8").tobytes())
    first = _program(output=LEARNT + 1)
    last = LEARNT + 1 + len(nodes)
    nodes = (*first.train.nodes, *nodes)
    evaluation = Graph(nodes=first.eval.nodes, output=LEARNT + 1)
    return replace(first, constants=(constant,), train=Graph(nodes=nodes, output=last), eval=evaluation)


@pytest.mark.parametrize("indices", [[0, 1, 2, 4], [-1, 0, 1, 2]])
@pytest.mark.parametrize("reshaped", [False, True])
def test_indices_in_the_program_that_are_out_of_range_are_refused(indices: list[int], reshaped: bool) -> None:
    constant, learnt = LEARNT, LEARNT + 1
    select = _node(Op.INDEX_SELECT, Ref(learnt), 1, Ref(constant))
    nodes: tuple[Node, ...] = (select,)
    if reshaped:
        nodes = (
            _node(Op.FLIP, Ref(constant), (0,)),
            _node(Op.CONCATENATE, (Ref(constant), Ref(7)), 0),
            _node(Op.SLICE, Ref(8), 0, 0, 4, 1),
            _node(Op.INDEX_SELECT, Ref(learnt), 1, Ref(8)),
        )
    with pytest.raises(TaskError, match=r"INDEX_SELECT: the indices, value \d, go from .* dimension 1 .* has 0 to 3"):
        _check(_looked_up(np.array(indices), *nodes))


def test_indices_in_the_program_that_are_in_range_are_taken() -> None:
    array = np.array([0, 1, 2, 3])
    select = _node(Op.INDEX_SELECT, Ref(LEARNT + 1), 1, Ref(LEARNT))
    _check(_looked_up(array, select))


def test_rows_of_an_embedding_that_are_not_there_are_refused() -> None:
    table = _node(Op.RESHAPE, Ref(WEIGHT), (2, 2))
    looked_up = _node(Op.EMBEDDING, Ref(7), Ref(LEARNT), -1)
    with pytest.raises(TaskError, match=r"EMBEDDING: the indices, value 5, go from 0 to 2; dimension 0 .* has 0 to 1"):
        _check(_looked_up(np.array([0, 2]), table, looked_up))


def _normalised(manifest: TaskManifest, *, batch_size: int, minimum_samples: int) -> TaskManifest:
    """The manifest with batch normalisation before its layer."""
    program = replace(
        manifest.program,
        buffers=(TensorSpec(name="mean", shape=(4,)), TensorSpec(name="variance", shape=(4,))),
        train=Graph(
            nodes=(
                _node(Op.BATCH_NORM_TRAIN, Ref(0), None, None, Ref(3), Ref(4), 0.1, 1e-5, num_results=3),
                _node(Op.LINEAR, Ref(5), Ref(1), Ref(2)),
            ),
            output=8,
            updates=(BufferUpdate(buffer=0, value=6), BufferUpdate(buffer=1, value=7)),
        ),
        eval=Graph(
            nodes=(
                _node(Op.BATCH_NORM_EVAL, Ref(0), None, None, Ref(3), Ref(4), 1e-5),
                _node(Op.LINEAR, Ref(5), Ref(1), Ref(2)),
            ),
            output=6,
        ),
    )
    return replace(
        manifest,
        program=program,
        initial_weights=replace(manifest.initial_weights, num_bytes=manifest.initial_weights.num_bytes + 32),
        training=replace(manifest.training, batch_size=batch_size),
        data=replace(manifest.data, minimum_samples=minimum_samples),
    )


@pytest.mark.parametrize(("batch_size", "minimum_samples"), [(1, 100), (32, 1)])
def test_batch_normalisation_of_a_single_sample_is_refused_where_the_plan_leads_to_it(
    manifest: TaskManifest, batch_size: int, minimum_samples: int
) -> None:
    normalised = _normalised(manifest, batch_size=batch_size, minimum_samples=minimum_samples)
    with pytest.raises(TaskError, match=r"BATCH_NORM_TRAIN: .* set training.batch_size and data.minimum_samples to 2"):
        check_manifest(normalised, check_merging=check_merge_plan)


def test_batch_normalisation_is_taken_where_every_batch_has_two_samples(manifest: TaskManifest) -> None:
    for batch_size, minimum_samples in ((2, 2), (32, 2), (2, 1000)):
        normalised = _normalised(manifest, batch_size=batch_size, minimum_samples=minimum_samples)
        check_manifest(normalised, check_merging=check_merge_plan)
