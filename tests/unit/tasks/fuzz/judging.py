"""Lets the checks judge a drawn program, and runs what they accept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from tests.unit.tasks.fuzz.arguments import draw_arguments
from tests.unit.tasks.fuzz.artist import Artist
from tests.unit.tasks.fuzz.drawing import Drawing, Handle

from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.program import Operator, Program
from grapevine_proto.program_codec import decode_program, encode_program
from grapevine_tasks.checks import CheckReport, ProgramLimits, check_program
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.sizes import BATCH, Size, TensorType

LARGEST_BATCH = 5
# What these give may be NaN or infinite for numbers that training comes to: no check before can tell.
_DEPENDS_ON_NUMBERS = frozenset(
    {Operator.LOG, Operator.LOG1P, Operator.SQRT, Operator.RSQRT, Operator.RECIPROCAL, Operator.DIV, Operator.POW}
    | {Operator.EXP, Operator.EXPM1, Operator.PROD}
)
MIB = 2**20
_LARGEST_NUMBER = 1e6  # whose powers are finite


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a program: `refused` by the checks, `ran`, `failed` though it was accepted, or nothing finite."""

    outcome: Literal["refused", "ran", "failed", "not finite"]
    reason: str = ""


def draw_program(rng: np.random.Generator, operator: Operator) -> tuple[Program, ProgramLimits]:
    """A program around this operator, and what may be tried with it. Raises TaskError when a shape rule refuses."""
    drawing = Drawing()
    artist = Artist(rng, drawing)
    for _ in range(rng.integers(0, 3)):  # something before it, so that operators meet
        before = Operator(rng.choice(list(Operator)))
        artist.learnt += [h for h in drawing.node(before, *draw_arguments(artist, before)) if _is_float(drawing, h)]
    results = drawing.node(operator, *draw_arguments(artist, operator))
    simple = _simple(drawing)
    output = _output(artist, results[0], simple)
    updates = []
    if len(results) == 3 and operator is Operator.BATCH_NORM_TRAIN:
        buffer = drawing.buffer([drawing.shape(results[1])[0].number or 1])
        updates.append((buffer.index, results[1]))
    # Half of the time, what the other nodes do in training is not held against the evaluation.
    alone = drawing.shape(output) == drawing.shape(simple) and artist.chance(0.5)
    smallest = int(artist.one_of(1, 2))
    limits = ProgramLimits(
        largest_batch=LARGEST_BATCH,
        smallest_batch=smallest,
        evaluation_batch=LARGEST_BATCH,
        intermediate_bytes=8 * MIB,
        memory_bytes=256 * MIB,
        train_flops=10**8,
        train_bytes_moved=10**9,
        train_kernels=10**4,
    )
    evaluation = drawing.graph_of_one(simple) if alone else drawing.graph(output)
    return drawing.program(drawing.graph(output, updates), evaluation), limits


def _is_float(drawing: Drawing, handle: Handle) -> bool:
    value = drawing.types[handle]
    return isinstance(value, TensorType) and value.dtype == "float32"


def _simple(drawing: Drawing) -> Handle:
    """[batch, 1]: an input times a parameter."""
    return drawing.node(Operator.MUL, drawing.input([1]), drawing.parameter([]))[0]


def _output(artist: Artist, result: Handle, simple: Handle) -> Handle:
    """The result itself where it can be an output; else its sum, added to what learns for certain."""
    drawing = artist.drawing
    value = drawing.types[result]
    if isinstance(value, Size):
        result = drawing.node(Operator.FULL, (result,), 0.5)[0]
        value = drawing.types[result]
    assert isinstance(value, TensorType)
    is_float = value.dtype == "float32"  # others have no gradient, and are added to what has one
    if not is_float:
        result = drawing.node(Operator.TO_FLOAT32, result)[0]
    shape = value.shape
    fits = shape[:1] == (BATCH,) and all(size.number is not None for size in shape[1:])
    if fits and artist.chance(0.6 if is_float else 0.1):
        return result
    total = drawing.node(Operator.SUM, result, tuple(range(len(shape))), False)[0] if shape else result
    return drawing.node(Operator.ADD, simple, total)[0]


def judge(program: Program, limits: ProgramLimits, seed: int) -> Verdict:
    """Check a program; if it passes, run it forward and backward at the smallest batch, at 2 and at the largest."""
    try:
        report = check_program(decode_program(encode_program(program)), limits)
    except (TaskError, WireError) as error:
        return Verdict(outcome="refused", reason=str(error))
    try:
        finite = [_train(program, report, batch, seed) for batch in _batches(limits.smallest_batch)]
        finite += [_evaluate(program, report, batch, seed) for batch in _batches(1)]
    except Exception as error:  # whatever PyTorch raises
        return Verdict(outcome="failed", reason=f"{type(error).__name__}: {error}")
    nodes = (*program.train.nodes, *program.eval.nodes)
    numbers = [each for node in nodes for each in node.arguments if isinstance(each, float)]
    if (
        all(finite)
        or {node.operator for node in nodes} & _DEPENDS_ON_NUMBERS
        or max(map(abs, numbers), default=0) > 1e6
    ):
        return Verdict(outcome="ran")
    return Verdict(outcome="not finite", reason="no number of an output is finite")


def _batches(smallest: int) -> list[int]:
    return sorted({smallest, 2, LARGEST_BATCH})


def _train(program: Program, report: CheckReport, batch: int, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.rand(p.shape, generator=generator).add(0.1).requires_grad_() for p in program.parameters]
    output, updated = _run(program, "train", batch, leaves, generator)
    _check_type(output, report.output_type, batch)
    for spec, value in zip(program.buffers, updated, strict=True):
        assert tuple(value.shape) == spec.shape, f"buffer {spec.name} becomes {tuple(value.shape)}"
    loss = (output * torch.rand(output.shape, generator=generator)).mean()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    assert all(g.shape == leaf.shape for g, leaf in zip(gradients, leaves, strict=True))
    return bool(torch.isfinite(output).any())


def _evaluate(program: Program, report: CheckReport, batch: int, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.rand(p.shape, generator=generator).add(0.1) for p in program.parameters]
    with torch.no_grad():
        output, _ = _run(program, "eval", batch, leaves, generator)
    _check_type(output, report.output_type, batch)
    return bool(torch.isfinite(output).any())


def _run(
    program: Program,
    graph: Literal["train", "eval"],
    batch: int,
    leaves: list[torch.Tensor],
    generator: torch.Generator,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = [torch.rand((batch, *spec.shape), generator=generator).add(0.1) for spec in program.inputs]
    buffers = [torch.rand(spec.shape, generator=generator).add(0.1) for spec in program.buffers]
    return Interpreter(program).run(graph, inputs, leaves, buffers)


def _check_type(value: torch.Tensor, expected: TensorType, batch: int) -> None:
    wanted = tuple(size.at(batch) for size in expected.shape)
    assert tuple(value.shape) == wanted, f"the output is {tuple(value.shape)}, not {wanted} as the checks said"
    assert value.dtype is torch.float32
