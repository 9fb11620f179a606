"""`time_estimate`: how far what a task is said to take is from what it takes.

Conventions. The pace of this machine is measured first, in one thread: `gflops` of a training step of a middling
convolution, `memory_gbs` as half of what an operator reads and writes into memory that is there already (firmware
profiles make theirs of published figures in the same way). Then each task of the catalogue takes training steps and
evaluations in the trainer's own code, and so do two graphs that hardly compute anything: one flips 240 MB four
times, one walks through 3000 steps of a recurrent layer. Time is the thread's, so that other work counts less.

A figure is the larger of estimate over measurement and measurement over estimate: 1 is exact. The quartiles are those
of the repetitions. The target is the order of magnitude, which is all that decides whether a device joins a task.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from grapevine_agent.core.tasks.deadlines import Pace
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Argument, Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.catalogue import catalogue_names, catalogue_task
from grapevine_tasks.checks import EVALUATION_BATCH, TO_LOOK_AT, check_program

NAME = "time_estimate"
TARGET = Target(limit=10.0, at_most=True)
NUM_REPETITIONS = 9
GB_NEEDED = 5.0
FLIPPED = 60 * 2**20  # float32 numbers: 240 MB
STEPS = 3000


@dataclass(frozen=True, kw_only=True)
class Case:
    """A program, how it is trained, and what its output is compared with: [batch, …] of this shape, or classes."""

    what: str
    program: Program
    plan: TrainingPlan
    target: tuple[int, ...] | None  # None: classes, of which 0 and 1 are some


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    available = psutil.virtual_memory().available / 1e9
    return "" if available > GB_NEEDED else f"needs {GB_NEEDED} GB of free memory, {available:.1f} GB are free"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure this machine, then every task."""
    import torch  # noqa: PLC0415 — the table of benchmarks is shown without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pace = _pace()
        say(f"this machine: {pace.gflops:.0f} GFLOP/s in training, {pace.memory_gbs:.1f} GB/s")
        return [each for case in _cases() for each in _measured(case, pace)]
    finally:
        torch.set_num_threads(threads)


def _cases() -> list[Case]:
    from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415

    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name in catalogue_names():
            draft = build_task(catalogue_task(name), check_merging=check_merge_plan, into=Path(folder) / name).draft
            report = check_program(draft.program, TO_LOOK_AT)
            shape = tuple(size.number or 1 for size in report.output_type.shape[1:])
            target = None if draft.training.loss == "cross-entropy" else shape
            cases.append(Case(what=name, program=draft.program, plan=draft.training, target=target))
    few = TrainingPlan(loss="mse", metric="mse", batch_size=2)
    return [*cases, Case(what="flips", program=_flips(), plan=few, target=(1,)), _recurrent(few)]


def _node(operator: Operator, *arguments: Argument, num_results: int = 1) -> Node:
    return Node(operator=operator, arguments=arguments, num_results=num_results)


def _flips() -> Program:
    width = FLIPPED // 2  # of each of two samples
    nodes = (
        _node(Operator.MUL, Ref(0), Ref(1)),
        _node(Operator.EXPAND, Ref(2), (-1, width)),
        *(_node(Operator.FLIP, Ref(3 + k), (1,)) for k in range(4)),
        _node(Operator.MEAN, Ref(7), (1,), True),
    )
    graph = Graph(nodes=nodes, output=8)
    return Program(
        inputs=(InputSpec(name="x", shape=(1,)),),
        parameters=(TensorSpec(name="weight", shape=(1,)),),
        train=graph,
        eval=graph,
    )


def _recurrent(plan: TrainingPlan) -> Case:
    nodes = (
        _node(Operator.SIZE, Ref(0), 0),
        _node(Operator.FULL, (1, Ref(3), 4), 0.0),
        _node(Operator.GRU, Ref(0), Ref(4), (Ref(1), Ref(2)), False, 1, 0.0, True, False, True, num_results=2),
        _node(Operator.MEAN, Ref(5), (1,), False),
    )
    graph = Graph(nodes=nodes, output=7)
    program = Program(
        inputs=(InputSpec(name="x", shape=(STEPS, 1)),),
        parameters=(TensorSpec(name="input", shape=(12, 1)), TensorSpec(name="hidden", shape=(12, 4))),
        train=graph,
        eval=graph,
    )
    return Case(what=f"GRU of {STEPS} steps", program=program, plan=plan, target=(4,))


def _measured(case: Case, pace: Pace) -> list[Figure]:
    import torch  # noqa: PLC0415

    from grapevine_agent.training.local_steps import LocalSteps  # noqa: PLC0415
    from grapevine_agent.training.optimisers import Memory  # noqa: PLC0415

    batch, num_evaluated = case.plan.batch_size, EVALUATION_BATCH if case.target is None or len(case.target) > 1 else 2
    limits = replace(TO_LOOK_AT, largest_batch=batch, evaluation_batch=num_evaluated)
    report = check_program(case.program, limits)
    rng = np.random.default_rng(0)
    steps = LocalSteps(case.program, case.plan)
    parameters = rng.normal(0, 0.05, steps.layout.num_parameters).astype(np.float32)
    buffers = np.ones(steps.layout.num_buffers, np.float32)
    num = max(batch, num_evaluated)
    x = torch.from_numpy(rng.random((num, *case.program.inputs[0].shape), np.float32))
    y = torch.zeros(num, dtype=torch.int64) if case.target is None else torch.zeros((num, *case.target))
    memory = Memory.fresh(case.plan.optimiser, steps.layout.num_parameters)
    batches = [torch.arange(batch)]
    training = _times(lambda: steps.train(parameters, buffers, x, y, batches, memory))
    evaluating = _times(lambda: steps.scores(parameters, buffers, x[:num_evaluated], y[:num_evaluated]))
    found = []
    for what, measured, work in (
        ("a step", training, report.training_step),
        (f"evaluating {num_evaluated}", evaluating, report.evaluation),
    ):
        ratios = [max(pace.seconds(work) / each, each / pace.seconds(work)) for each in measured]
        found.append(
            figure(
                NAME, f"{case.what}: {what}, estimated and measured, the larger over the other", ratios, target=TARGET
            )
        )
    return found


def _times(work: Callable[[], object]) -> list[float]:
    """Seconds of this process's, of each repetition after a first one."""
    work()
    times = []
    for _ in range(NUM_REPETITIONS):
        started_s = time.process_time()
        work()
        times.append(time.process_time() - started_s)
    return times


def _pace() -> Pace:
    import torch  # noqa: PLC0415
    from torch.nn import functional as F  # noqa: N812, PLC0415

    images, weight = torch.rand(16, 32, 28, 28, requires_grad=True), torch.rand(32, 32, 3, 3, requires_grad=True)
    flops = 3 * 2 * 16 * 28 * 28 * 32 * 32 * 9
    computing_s = min(_times(lambda: torch.autograd.backward(F.conv2d(images, weight, padding=1).sum())))
    numbers = torch.rand(32 * 2**20)
    there = torch.empty_like(numbers)
    moving_s = min(_times(lambda: torch.neg(numbers, out=there)))
    return Pace(gflops=flops / computing_s / 1e9, memory_gbs=2 * numbers.nbytes / moving_s / 1e9 / 2)
