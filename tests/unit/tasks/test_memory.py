"""The memory estimate, worked out by hand; that it stays below the bound, whatever the program."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.unit.tasks.hostile.mutations import random_program

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Argument, Graph, Node, Operator, Program, Ref
from grapevine_tasks.checks import CheckReport, MemoryEstimate, ProgramLimits, check_program, estimate_memory

ANY = 2**62
LIMITS = ProgramLimits(num_parameters=ANY, intermediate_bytes=ANY, memory_bytes=ANY, train_flops=ANY)
BATCH = 1000  # of 4 features and 3 results in float32: 16 kB and 12 kB
IN, OUT, P = 16 * BATCH, 12 * BATCH, 4 * 15
SGD = TrainingPlan(optimiser=Optimiser(learning_rate=0.1), batch_size=BATCH)


def check(program: Program, batch: int = BATCH) -> CheckReport:
    return check_program(program, replace(LIMITS, largest_batch=batch))


def estimate(program: Program, plan: TrainingPlan = SGD) -> MemoryEstimate:
    return estimate_memory(program, check(program, plan.batch_size), plan)


def of(program: Program, *nodes: Node) -> MemoryEstimate:
    graph = Graph(nodes=nodes, output=program.first_result + len(nodes) - 1)
    return estimate(replace(program, train=graph, eval=graph))


def node(operator: Operator, *arguments: Argument) -> Node:
    return Node(operator=operator, arguments=arguments)


LINEAR = node(Operator.LINEAR, Ref(0), Ref(1), Ref(2))


def test_a_small_network_by_hand(program: Program) -> None:
    found = estimate(program)
    # Flat parameters, the request's copy and two slots; gradients of this step and of the one before.
    assert found.model_bytes == 4 * P
    assert found.optimiser_bytes == 0
    assert found.gradient_bytes == 2 * P
    # The result of the ReLU is kept for the weights' gradient; the output, the loss's own copy of it, its gradient.
    # The batch is not: the ReLU needs no gradient.
    assert found.activation_bytes == IN + 3 * OUT
    assert found.training_bytes == 4 * P + 2 * P + IN + 3 * OUT
    # With 256 samples, one copy of the model more. The batch, the ReLU's result, then that and the output.
    assert found.evaluation_bytes == 5 * P + 256 * (16 + 16 + 12)
    assert found.peak_bytes == found.training_bytes


@pytest.mark.parametrize(
    ("optimiser", "moments", "at_the_update"),
    [
        (Optimiser(), 0, 2),
        (Optimiser(momentum=0.9), 1, 2),
        (Optimiser(name="adam"), 2, 3),
        (Optimiser(name="one of a later version"), 2, 3),
    ],
)
def test_an_optimiser_costs_its_moments_and_its_scratch(
    program: Program, optimiser: Optimiser, moments: int, at_the_update: int
) -> None:
    found = estimate(program, TrainingPlan(optimiser=optimiser, batch_size=1))
    assert found.optimiser_bytes == moments * P
    if at_the_update == 3:  # gradients, joined, and the deviation weigh more than one sample's values
        assert found.gradient_bytes == 3 * P


def test_a_view_costs_nothing(program: Program) -> None:
    plain = of(program, LINEAR)
    viewed = of(
        program,
        node(Operator.UNSQUEEZE, Ref(0), 2),
        node(Operator.RESHAPE, Ref(3), (-1, 4)),
        node(Operator.LINEAR, Ref(4), Ref(1), Ref(2)),
    )
    assert viewed.training_bytes == plain.training_bytes


def test_reordered_elements_are_copied_before_they_get_another_shape(program: Program) -> None:
    nodes = (node(Operator.TRANSPOSE, Ref(0), 0, 1), node(Operator.TRANSPOSE, Ref(3), 0, 1))
    copied = of(program, *nodes, node(Operator.RESHAPE, Ref(4), (-1, 4)), node(Operator.LINEAR, Ref(5), Ref(1), Ref(2)))
    assert copied.evaluation_bytes == of(program, LINEAR).evaluation_bytes + 256 * 16


def test_what_no_gradient_passes_through_is_freed_at_once(program: Program) -> None:
    def chain(length: int) -> MemoryEstimate:
        nodes = [node(Operator.EXP, Ref(3 + i - 1 if i else 0)) for i in range(length)]
        return of(program, *nodes, node(Operator.LINEAR, Ref(2 + length), Ref(1), Ref(2)))

    assert chain(100).training_bytes == chain(3).training_bytes


@pytest.mark.parametrize(
    ("operator", "kept"),
    [(Operator.EXP, OUT), (Operator.SIN, OUT), (Operator.NEG, 0), (Operator.RELU, OUT), (Operator.GELU, OUT)],
)
def test_what_the_backward_pass_needs_is_kept(program: Program, operator: Operator, kept: int) -> None:
    def chain(length: int) -> MemoryEstimate:
        more = (False,) if operator is Operator.GELU else ()
        return of(program, LINEAR, *(node(operator, Ref(3 + i), *more) for i in range(length)))

    assert chain(22).training_bytes - chain(21).training_bytes == kept


def test_a_sum_passes_gradients_on_without_a_copy(program: Program) -> None:
    twice = of(program, LINEAR, node(Operator.ADD, Ref(3), Ref(3)))
    # The sum and its two parts of the gradient, of which one must be new memory to be added to.
    assert twice.training_bytes <= of(program, LINEAR).training_bytes + 2 * OUT


def test_an_operator_without_a_line_keeps_all_that_it_reads_and_makes(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = of(program, LINEAR, node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(4)), node(Operator.NEG, Ref(5)))
    monkeypatch.setattr("grapevine_tasks.checks.memory.FOOTPRINTS", {})
    unknown = of(program, LINEAR, node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(4)), node(Operator.NEG, Ref(5)))
    assert unknown.training_bytes > known.training_bytes


def test_the_bound_is_above_the_estimate_for_any_program_and_grows_with_the_batch() -> None:
    num_sound = 0
    for seed in range(4000):
        try:
            program = random_program(random.Random(seed))
            report, more = check(program, 32), check(program, 64)
        except TaskError:
            continue
        num_sound += 1
        found = estimate_memory(program, report, TrainingPlan(optimiser=Optimiser(name="adam"), batch_size=32))
        assert found.peak_bytes <= report.memory_bytes <= more.memory_bytes
    assert num_sound > 100
