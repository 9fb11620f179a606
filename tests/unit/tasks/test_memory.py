"""The memory estimate, worked out by hand; that it stays below the bound, whatever the program."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.unit.tasks.hostile.mutations import random_program

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Argument, Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.checks import CheckReport, MemoryEstimate, ProgramLimits, check_program, estimate_memory
from grapevine_tasks.checks.ceilings import CEILINGS
from grapevine_tasks.checks.ledger import Ledger
from grapevine_tasks.checks.report import TO_LOOK_AT
from grapevine_tasks.opset import RULES

LIMITS = TO_LOOK_AT
BATCH = 1000  # of 4 features and 3 results in float32: 16 kB and 12 kB
IN, OUT, P = 16 * BATCH, 12 * BATCH, 4 * 15
HUNDRED_THOUSAND_STEPS = 2500 * 2**20  # what a GRU of one unit took, of one sample
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
    # Flat parameters, the request's copy and two slots; gradients of this step, and of the one before also joined.
    assert found.model_bytes == 4 * P
    assert found.optimiser_bytes == 0
    assert found.gradient_bytes == 3 * P
    # The result of the ReLU is kept for the weights' gradient; the output, the loss's own copy of it, its gradient.
    # The batch is not: the ReLU needs no gradient. When the parameters' gradients come, the loss's copy is gone.
    assert found.activation_bytes == IN + 3 * OUT - P
    assert found.training_bytes == 4 * P + 3 * P + IN + 3 * OUT - P
    # With 256 samples, one copy of the model more. The batch, the ReLU's result, then that and the output.
    assert found.evaluation_bytes == 5 * P + 256 * (16 + 16 + 12)
    assert found.peak_bytes == found.training_bytes


@pytest.mark.parametrize(
    ("optimiser", "moments"),
    [
        (Optimiser(), 0),
        (Optimiser(momentum=0.9), 1),
        (Optimiser(name="adam"), 2),
        (Optimiser(name="one of a later version"), 2),
    ],
)
def test_an_optimiser_costs_its_moments(program: Program, optimiser: Optimiser, moments: int) -> None:
    assert estimate(program, TrainingPlan(optimiser=optimiser, batch_size=1)).optimiser_bytes == moments * P


def test_a_round_of_one_step_ends_with_gradients_joined_ones_and_a_model_that_is_looked_through(
    program: Program,
) -> None:
    found = estimate(program, TrainingPlan(batch_size=1, steps_per_round=1))
    assert found.gradient_bytes == 3 * P + P // 4  # a bool for each number: whether it is finite
    assert found.activation_bytes == 0  # one sample's values weigh less, and are gone by then


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
    monkeypatch.setattr("grapevine_tasks.checks.footprints.FOOTPRINTS", {})
    unknown = of(program, LINEAR, node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(4)), node(Operator.NEG, Ref(5)))
    assert unknown.training_bytes > known.training_bytes


@pytest.mark.parametrize("table", ["ceilings.CEILINGS", "ceilings.EXTRAS"])
def test_an_operator_without_a_line_is_bounded_high(
    program: Program, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    graph = Graph(nodes=(LINEAR, node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(4))), output=5)
    whole = replace(program, train=graph, eval=graph)
    known = check(whole).memory_bytes
    monkeypatch.setattr(f"grapevine_tasks.checks.{table}", {})
    assert check(whole).memory_bytes >= known
    assert table.endswith("EXTRAS") or check(whole).memory_bytes > known + IN


def test_every_operator_that_makes_tensors_has_a_ceiling() -> None:
    sizes = {
        operator for operator, rule in RULES.items() if operator.name == "SIZE" or operator.name.startswith("INT_")
    }
    assert {operator.name for operator in RULES.keys() - sizes} == set(CEILINGS)


def recurrence(steps: int) -> Program:
    """A GRU of one unit over sequences of one number."""
    state = (node(Operator.SIZE, Ref(0), 0), node(Operator.FULL, (1, Ref(5), 1), 0.0))
    weights = tuple(Ref(1 + k) for k in range(4))
    layer = Node(
        operator=Operator.GRU,
        arguments=(Ref(0), Ref(6), weights, True, 1, 0.0, True, False, True),
        num_results=2,
    )
    graph = Graph(nodes=(*state, layer, node(Operator.MEAN, Ref(7), (1,), False)), output=9)
    shapes = ((3, 1), (3, 1), (3,), (3,))
    return Program(
        inputs=(InputSpec(name="input", shape=(steps, 1)),),
        parameters=tuple(TensorSpec(name=f"weight{k}", shape=shape) for k, shape in enumerate(shapes)),
        train=graph,
        eval=graph,
    )


def test_a_recurrence_of_100_000_steps_weighs_gigabytes_with_a_single_unit_and_sample() -> None:
    limits = replace(LIMITS, largest_batch=1, evaluation_batch=1)
    report = check_program(recurrence(100_000), limits)
    assert report.memory_bytes > HUNDRED_THOUSAND_STEPS
    # Nodes of autograd weigh the same, whatever the batch.
    assert check_program(recurrence(200_000), limits).memory_bytes == pytest.approx(2 * report.memory_bytes, rel=0.1)
    with pytest.raises(TaskError, match="bytes of memory"):
        check_program(
            recurrence(100_000),
            replace(LIMITS, memory_bytes=ProgramLimits().memory_bytes, largest_batch=1, evaluation_batch=1),
        )
    plan = TrainingPlan(batch_size=1)
    found = estimate_memory(recurrence(100_000), report, plan).training_bytes
    assert found == pytest.approx(HUNDRED_THOUSAND_STEPS, rel=0.12)


def test_values_of_sizes_keep_nothing(program: Program) -> None:
    sized = of(program, LINEAR, node(Operator.SIZE, Ref(3), 0), node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(5)))
    plain = of(program, LINEAR, node(Operator.NEG, Ref(3)), node(Operator.NEG, Ref(4)))
    assert sized.training_bytes == plain.training_bytes


def test_a_piece_of_memory_lives_as_long_as_what_lies_on_it() -> None:
    ledger = Ledger()
    base = ledger.take(100)
    copy = ledger.take(10, on=base)
    on_copy = ledger.take(1, on=copy)
    ledger.release(base)
    ledger.release(copy)
    assert ledger.now == 111
    ledger.release(on_copy)
    assert (ledger.now, ledger.peak) == (0, 111)


def test_chains_of_views_are_walked_in_linear_time() -> None:
    ledger = Ledger()
    piece = ledger.take(1)
    for _ in range(100_000):
        view = ledger.take(1, on=piece)
        ledger.release(piece)
        piece = view
    ledger.release(piece)
    assert ledger.now == 0


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
