"""Programs that would cost too much, loop, or do not fit together never get as far as running."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from grapevine_proto.errors import TaskError
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
from grapevine_tasks.checks import ProgramLimits, check_program

LIMITS = ProgramLimits(largest_batch=64)
BUFFER = (TensorSpec(name="running", shape=(4,)),)


def _with(program: Program, *nodes: Node, output: int | None = None) -> Program:
    """The program with these nodes in both graphs, before the linear layer is reached."""
    first = program.first_result
    graph = Graph(nodes=nodes, output=first + len(nodes) - 1 if output is None else output)
    return replace(program, train=graph, eval=graph)


def _node(operator: Operator, *arguments: Argument, num_results: int = 1) -> Node:
    return Node(operator=operator, arguments=arguments, num_results=num_results)


def test_an_honest_program_is_described(program: Program) -> None:
    report = check_program(program, LIMITS)
    assert report.num_parameters == 15
    assert report.output == "float32[batch, 3]"
    assert report.flops_per_sample == 4 + 2 * 4 * 3
    assert report.training_step.flops == 3 * 64 * report.flops_per_sample
    assert report.operators == {"RELU": 1, "LINEAR": 1}
    assert [row.operator for row in report.train] == ["RELU", "LINEAR"]
    assert report.train[1].arguments == "%3, %1, %2"
    assert report.memory_bytes > 2 * 64 * 4 * (4 + 4 + 3)


HOSTILE = {
    "a reference to a later value": ((_node(Operator.RELU, Ref(7)),), "does not exist yet"),
    "a reference to itself": ((_node(Operator.RELU, Ref(3)),), "does not exist yet"),
    "too few arguments": ((_node(Operator.LINEAR, Ref(0)),), "expected"),
    "a number for a tensor": ((_node(Operator.RELU, 3),), "x is 3"),
    "a size for a tensor": ((_node(Operator.SIZE, Ref(0), 0), _node(Operator.RELU, Ref(3))), "must be a tensor"),
    "a tensor for a size": ((_node(Operator.INT_ADD, Ref(0), 1),), "must be a size"),
    "a flag for a number": ((_node(Operator.SOFTMAX, Ref(0), True),), "dim is True"),
    "a missing argument": ((_node(Operator.RELU, None),), "is missing"),
    "more results than there are": ((_node(Operator.RELU, Ref(0), num_results=2),), "2 results"),
    "shapes that do not fit": ((_node(Operator.LINEAR, Ref(2), Ref(1), None),), "as the weight"),
    "a huge expansion": (
        (_node(Operator.UNSQUEEZE, Ref(0), 0), _node(Operator.EXPAND, Ref(3), (2**40, -1, -1))),
        "bytes at a batch of 64",
    ),
    "an outer product": (
        (
            _node(Operator.RESHAPE, Ref(0), (-1, 1)),
            _node(Operator.EXPAND, Ref(3), (-1, 10_000)),
            _node(Operator.TRANSPOSE, Ref(4), 0, 1),
            _node(Operator.MATMUL, Ref(5), Ref(4)),
        ),
        "MATMUL.*400,000,000 bytes",
    ),
    "padding": ((_node(Operator.PAD, Ref(0), (1024, 10**9), 0.0),), "amounts is 1000000000"),
    "a negative size": ((_node(Operator.RESHAPE, Ref(0), (-2, 4)),), "not negative"),
    "a shape with two unknowns": ((_node(Operator.RESHAPE, Ref(0), (-1, -1)),), "only one"),
    "a size that shrinks": ((_node(Operator.SIZE, Ref(0), 0), _node(Operator.INT_SUB, 4096, Ref(3))), "between 0"),
    "a division by zero": ((_node(Operator.SIZE, Ref(0), 0), _node(Operator.INT_FLOORDIV, Ref(3), 0)), "divided by 0"),
    "a division by the batch": (
        (_node(Operator.SIZE, Ref(0), 0), _node(Operator.INT_FLOORDIV, 64, Ref(3))),
        "only positive numbers",
    ),
    "a slice of the batch": ((_node(Operator.SLICE, Ref(0), 0, 1, 5, 1),), "depend on the batch"),
    "an empty list": ((_node(Operator.CONCATENATE, (), 0),), "tensors is"),
    "numbers in a list of tensors": ((_node(Operator.CONCATENATE, (1, 2), 0),), "not numbers"),
    "a huge constant": ((_node(Operator.ADD, Ref(0), 1e300),), "outside"),
    "a dropout of more than all": ((_node(Operator.DROPOUT, Ref(0), 1.5),), "outside"),
    "a dim that is not there": ((_node(Operator.SOFTMAX, Ref(0), 5),), "outside a tensor of 2"),
    "an output that is not a batch": ((_node(Operator.PERMUTE, Ref(0), (1, 0)),), "float32\\[batch"),
    "an output that is a size": ((_node(Operator.SIZE, Ref(0), 0),), "float32\\[batch"),
    "an output that does not exist": ((), "output is None"),
}


@pytest.mark.parametrize(("nodes", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_program_is_rejected_with_a_reason(program: Program, nodes: tuple[Node, ...], message: str) -> None:
    hostile = _with(program, *nodes, output=None if nodes else 99)
    with pytest.raises(TaskError, match=message):
        check_program(hostile, LIMITS)


def test_a_rejection_names_the_graph_the_value_and_the_operator(program: Program) -> None:
    with pytest.raises(TaskError, match="train graph, value 4, SOFTMAX: "):
        check_program(_with(program, _node(Operator.RELU, Ref(0)), _node(Operator.SOFTMAX, Ref(3), 9)), LIMITS)


def test_repeated_concatenation_is_stopped_by_the_size_of_a_value(program: Program) -> None:
    nodes = [_node(Operator.CONCATENATE, (Ref(0), Ref(0)), 1)]
    nodes += [_node(Operator.CONCATENATE, (Ref(3 + i), Ref(3 + i)), 1) for i in range(60)]
    started_s = time.monotonic()
    with pytest.raises(TaskError, match="for one value"):
        check_program(_with(program, *nodes), LIMITS)
    assert time.monotonic() - started_s < 1


def test_many_middling_values_are_stopped_by_the_memory_in_all(program: Program) -> None:
    nodes = [_node(Operator.LINEAR, Ref(0), Ref(1), Ref(2)), *(_node(Operator.EXP, Ref(3 + i)) for i in range(1000))]
    limits = replace(LIMITS, memory_bytes=100_000)
    with pytest.raises(TaskError, match="bytes of memory"):
        check_program(_with(program, *nodes), limits)


def test_too_many_nodes_parameters_operations_or_constants_are_rejected(program: Program) -> None:
    for limit, message in (
        ({"num_nodes": 3}, "4 nodes"),
        ({"num_parameters": 14}, "15 parameters"),
        ({"train_flops": 100}, "floating-point operations in a training step"),
        ({"train_bytes_moved": 100}, "bytes to move in a training step"),
        ({"train_kernels": 5}, "kernels to start in a training step"),
        ({"evaluation_flops": 100}, "floating-point operations to evaluate 256 samples"),
        ({"evaluation_bytes_moved": 100}, "bytes to move to evaluate 256 samples"),
        ({"evaluation_kernels": 1}, "kernels to start to evaluate 256 samples"),
    ):
        with pytest.raises(TaskError, match=message):
            check_program(program, replace(LIMITS, **limit))
    constant = Constant(dtype="float32", shape=(4,), content=bytes(16))
    with pytest.raises(TaskError, match="bytes of constants"):
        check_program(replace(program, constants=(constant,)), replace(LIMITS, constant_bytes=15))


def test_a_constant_must_have_as_many_bytes_as_its_shape_says(program: Program) -> None:
    lying = Constant(dtype="float32", shape=(2**31, 2**31), content=bytes(16))
    with pytest.raises(TaskError, match="constant 0"):
        check_program(replace(program, constants=(lying,)), LIMITS)


def test_a_parameter_of_astronomic_shape_is_rejected(program: Program) -> None:
    huge = replace(program, parameters=(TensorSpec(name="weight", shape=(2**32 - 1,) * 8),))
    with pytest.raises(TaskError, match="parameters"):
        check_program(huge, LIMITS)


def test_an_input_of_astronomic_shape_is_rejected(program: Program) -> None:
    huge = replace(program, inputs=(InputSpec(name="input", shape=(2**32 - 1,) * 8),))
    with pytest.raises(TaskError):
        check_program(huge, LIMITS)


def test_both_graphs_must_give_the_same_kind_of_output(program: Program) -> None:
    shorter = replace(program, eval=Graph(nodes=program.eval.nodes[:1], output=3))
    with pytest.raises(TaskError, match="but the eval graph"):
        check_program(shorter, LIMITS)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (BufferUpdate(buffer=1, value=3), "does not exist"),
        (BufferUpdate(buffer=0, value=999), "with None"),
        (BufferUpdate(buffer=0, value=1), "is updated with"),
    ],
)
def test_an_update_must_have_the_shape_of_its_buffer(program: Program, update: BufferUpdate, message: str) -> None:
    graph = Graph(nodes=(_node(Operator.RELU, Ref(0)),), output=4)
    buffered = replace(program, buffers=BUFFER, train=replace(graph, updates=(update,)), eval=graph)
    with pytest.raises(TaskError, match=message):
        check_program(buffered, LIMITS)


def test_only_the_train_graph_may_update_buffers(program: Program) -> None:
    graph = Graph(nodes=(_node(Operator.RELU, Ref(0)),), output=4, updates=(BufferUpdate(buffer=0, value=3),))
    with pytest.raises(TaskError, match="eval graph updates"):
        check_program(replace(program, buffers=BUFFER, train=graph, eval=graph), LIMITS)


def test_an_unknown_opset_is_rejected(program: Program) -> None:
    with pytest.raises(TaskError, match="opset 2"):
        check_program(replace(program, opset=2), LIMITS)
