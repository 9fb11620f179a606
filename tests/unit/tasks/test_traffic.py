"""What a program moves in memory, and how many kernels it starts: views are free, what only moves numbers is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grapevine_proto.program import Argument, Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.checks import CheckReport, ProgramLimits, check_program
from grapevine_tasks.checks.traffic import STEP_PASSES

Op = Operator
BATCH, ROWS, COLUMNS = 8, 4, 6
X = 4 * BATCH * ROWS * COLUMNS  # bytes of x [batch, ROWS, COLUMNS]
LEARNT, FIRST = 2, 3  # value 2 is x, 0, times a number, 1


def _node(operator: Operator, *arguments: Argument, num_results: int = 1) -> Node:
    return Node(operator=operator, arguments=arguments, num_results=num_results)


def _check(*nodes: Node) -> CheckReport:
    multiplied = _node(Op.MUL, Ref(0), Ref(1))
    graph = Graph(nodes=(multiplied, *nodes), output=LEARNT + len(nodes))
    program = Program(
        inputs=(InputSpec(name="x", shape=(ROWS, COLUMNS)),),
        parameters=(TensorSpec(name="p", shape=()),),
        train=graph,
        eval=graph,
    )
    return check_program(program, ProgramLimits(largest_batch=BATCH, evaluation_batch=BATCH))


def _moved(*nodes: Node) -> tuple[int, int]:
    """Bytes of an evaluation and of a training step that these nodes add."""
    without, report = _check(), _check(*nodes)
    return (
        report.evaluation.bytes_moved - without.evaluation.bytes_moved,
        report.training_step.bytes_moved - without.training_step.bytes_moved,
    )


def test_a_product_reads_both_and_writes_one_and_its_gradients_are_written_and_added() -> None:
    report = _check()
    forward = X + 4 + X
    assert report.evaluation.bytes_moved == forward
    backward = forward + X + 2 * 4  # what it read is read again, and the result's gradient; x needs none
    assert report.training_step.bytes_moved == forward + backward + 4 * STEP_PASSES


@pytest.mark.parametrize(
    "view",
    [
        _node(Op.RESHAPE, Ref(LEARNT), (-1, ROWS * COLUMNS)),
        _node(Op.PERMUTE, Ref(LEARNT), (0, 2, 1)),
        _node(Op.TRANSPOSE, Ref(LEARNT), 1, 2),
        _node(Op.UNSQUEEZE, Ref(LEARNT), 1),
        _node(Op.TO_FLOAT32, Ref(LEARNT)),
    ],
    ids=lambda node: node.operator.name,
)
def test_a_view_moves_nothing(view: Node) -> None:
    assert _moved(view) == (0, 0)


def test_numbers_that_lie_out_of_order_are_copied_to_be_reshaped() -> None:
    turned = _node(Op.TRANSPOSE, Ref(LEARNT), 1, 2)
    flat = _node(Op.RESHAPE, Ref(FIRST), (-1, ROWS * COLUMNS))
    assert _moved(turned, flat)[0] == 2 * X


def test_the_gradient_of_a_part_is_as_large_as_the_whole() -> None:
    part = _node(Op.SELECT, Ref(LEARNT), 1, 0)
    forward, step = _moved(part)
    assert forward == 0
    assert step == X // ROWS + 3 * X


@pytest.mark.parametrize(
    "node",
    [_node(Op.FLIP, Ref(LEARNT), (1,)), _node(Op.CUMSUM, Ref(LEARNT), 1), _node(Op.RELU, Ref(LEARNT))],
    ids=lambda node: node.operator.name,
)
def test_what_is_not_a_view_reads_and_writes(node: Node) -> None:
    assert _moved(node) == (2 * X, 2 * X + 2 * X + X + 2 * X)


def test_nothing_is_carried_back_to_what_does_not_learn() -> None:
    flipped = _node(Op.FLIP, Ref(0), (1,))
    added = _node(Op.ADD, Ref(LEARNT), Ref(FIRST))
    forward, step = _moved(flipped, added)
    assert forward == 2 * X + 3 * X
    assert step == forward + 3 * X + X + 2 * X  # of the sum alone, and one of its two


def test_a_recurrent_layer_starts_kernels_at_every_step_of_every_layer() -> None:
    def started(layers: int, *, both_ways: bool) -> int:
        directions = 2 if both_ways else 1
        shapes = [
            shape
            for layer in range(layers)
            for _ in range(directions)
            for shape in ((3, COLUMNS if layer == 0 else directions), (3, 1))
        ]
        last = 1 + len(shapes)
        weights = tuple(Ref(k) for k in range(1, last))
        flags = (False, layers, 0.0, True, both_ways, True)
        graph = Graph(
            nodes=(
                _node(Op.SIZE, Ref(0), 0),
                _node(Op.FULL, (layers * directions, Ref(last), 1), 0.0),
                _node(Op.GRU, Ref(0), Ref(last + 1), weights, *flags, num_results=2),
            ),
            output=last + 2,
        )
        program = Program(
            inputs=(InputSpec(name="x", shape=(ROWS, COLUMNS)),),
            parameters=tuple(TensorSpec(name=f"w{k}", shape=shape) for k, shape in enumerate(shapes)),
            train=graph,
            eval=graph,
        )
        return check_program(program, ProgramLimits(largest_batch=BATCH)).evaluation.num_kernels - 2

    assert started(1, both_ways=False) == 20 * ROWS
    assert started(3, both_ways=True) == 20 * ROWS * 3 * 2


def test_work_adds_up() -> None:
    step = _check().training_step
    assert step.times(3) == step + step + step
    assert replace(step, flops=0).times(2).flops == 0
