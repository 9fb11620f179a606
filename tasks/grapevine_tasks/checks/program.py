"""What a program would compute and cost, found out without running it.

A program comes from a stranger. This module walks both graphs once, with types in place of tensors:
arguments are held against signatures, shapes against shape rules, and what the graph would cost at
the largest batch against limits. Nothing is allocated in proportion to a number that the program
holds. Since dimensions are polynomials of the batch with coefficients that are never negative, what
holds at the largest batch holds at every smaller one.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_proto.program import OPSET, Constant, Graph, Node, Program, Ref
from grapevine_tasks.checks.arguments import resolve
from grapevine_tasks.checks.memory import bound_memory
from grapevine_tasks.checks.reach import Reach
from grapevine_tasks.checks.report import (
    CheckReport,
    Cost,
    NodeReport,
    ProgramLimits,
    ValueTaskError,
    Work,
    WorkByBatch,
)
from grapevine_tasks.checks.soundness import check_soundness
from grapevine_tasks.checks.traffic import STEP_PASSES, Traffic
from grapevine_tasks.opset import RULES
from grapevine_tasks.sizes import BATCH, BYTES_PER_ELEMENT, Size, TensorType, ValueType, fixed

LONGEST_REASON = 500  # characters


def check_program(program: Program, limits: ProgramLimits) -> CheckReport:
    """Walk both graphs with types in place of tensors; see the module's docstring.

    Raises TaskError that names the graph, the node, the operator and what to change.
    """
    if program.opset != OPSET:
        raise TaskError(f"the program needs opset {program.opset}; this version knows opset {OPSET}: update Grapevine")
    num_nodes = len(program.train.nodes) + len(program.eval.nodes)
    _bound(num_nodes, limits.num_nodes, "nodes")
    num_parameters = sum(math.prod(p.shape) for p in program.parameters)
    num_buffers = sum(math.prod(b.shape) for b in program.buffers)
    _bound(num_parameters + num_buffers, limits.num_parameters, "parameters")
    train, evaluation = _walked(program, limits)
    memory = bound_memory(
        program,
        train.values,
        evaluation.values,
        batch=limits.largest_batch,
        evaluation_batch=limits.evaluation_batch,
    )
    _bound(memory, limits.memory_bytes, "bytes of memory to train and evaluate")
    step, forward = train.training_step(num_parameters), evaluation.forward()
    training_step, evaluated = step.at(limits.largest_batch), forward.at(limits.evaluation_batch)
    _bound_work(training_step, evaluated, limits)
    return CheckReport(
        largest_batch=limits.largest_batch,
        num_parameters=num_parameters,
        num_buffers=num_buffers,
        num_nodes=num_nodes,
        operators=Counter(node.operator.name for node in program.train.nodes),
        output=str(train.output),
        flops_per_sample=forward.at(1).flops,
        training_step=training_step,
        evaluation=evaluated,
        largest_intermediate_bytes=max(train.largest, evaluation.largest),
        memory_bytes=memory,
        train=tuple(train.rows),
        eval=tuple(evaluation.rows),
        output_type=train.output,
        train_values=tuple(train.values),
        eval_values=tuple(evaluation.values),
        training_step_by_batch=step,
        evaluation_by_batch=forward,
    )


def _walked(program: Program, limits: ProgramLimits) -> tuple[_Walk, _Walk]:
    """Both graphs, each sound in itself and fitting the other."""
    given = _given(program, limits)
    smallest = min(limits.smallest_batch, limits.largest_batch)
    train = _Walk("train", program, given, limits, batch=limits.largest_batch, smallest=smallest)
    evaluation = _Walk("eval", program, given, limits, batch=limits.evaluation_batch, smallest=1)
    if train.output != evaluation.output:
        raise TaskError(f"the train graph gives {train.output} but the eval graph {evaluation.output}")
    _check_updates(program, train)
    if program.eval.updates:
        raise TaskError("the eval graph updates buffers; only the train graph may")
    train.reach.check_output(program.train, "train")
    evaluation.reach.check_output(program.eval, "eval")
    return train, evaluation


def _bound_work(step: Work, evaluated: Work, limits: ProgramLimits) -> None:
    when = f"to evaluate {limits.evaluation_batch} samples"
    _bound(step.flops, limits.train_flops, "floating-point operations in a training step")
    _bound(step.bytes_moved, limits.train_bytes_moved, "bytes to move in a training step")
    _bound(step.num_kernels, limits.train_kernels, "kernels to start in a training step")
    _bound(evaluated.flops, limits.evaluation_flops, f"floating-point operations {when}")
    _bound(evaluated.bytes_moved, limits.evaluation_bytes_moved, f"bytes to move {when}")
    _bound(evaluated.num_kernels, limits.evaluation_kernels, f"kernels to start {when}")


def _bound(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise TaskError(f"the program has {number:,} {what}; this device allows {limit:,}: make the model smaller")


def _given(program: Program, limits: ProgramLimits) -> list[ValueType]:
    """The types of the values that both graphs start from: inputs, parameters, buffers, constants."""
    if not program.inputs or not program.parameters:
        raise TaskError("the program has no input or no parameters: there is nothing to train")
    _bound(sum(len(c.content) for c in program.constants), limits.constant_bytes, "bytes of constants")
    for index, constant in enumerate(program.constants):
        _check_constant(index, constant)
    return [
        *(TensorType(i.dtype, (BATCH, *fixed(*i.shape))) for i in program.inputs),
        *(TensorType("float32", fixed(*s.shape)) for s in (*program.parameters, *program.buffers)),
        *(TensorType(c.dtype, fixed(*c.shape)) for c in program.constants),
    ]


def _check_constant(index: int, constant: Constant) -> None:
    expected = math.prod(constant.shape) * BYTES_PER_ELEMENT[constant.dtype]
    if len(constant.content) != expected:
        raise TaskError(
            f"constant {index} of shape {constant.shape} has {len(constant.content)} bytes, expected {expected}"
        )
    if constant.dtype == "float32" and not np.isfinite(np.frombuffer(constant.content, "<f4")).all():
        raise TaskError(f"constant {index} holds numbers that are not finite; write −1e9 for −infinity in a mask")


def _check_updates(program: Program, walk: _Walk) -> None:
    seen = set()
    for update in program.train.updates:
        if update.buffer >= len(program.buffers) or update.buffer in seen:
            raise TaskError(f"buffer {update.buffer} is updated twice, or does not exist")
        seen.add(update.buffer)
        buffer = program.buffers[update.buffer]
        value = walk.values[update.value] if update.value < len(walk.values) else None
        if value != TensorType("float32", fixed(*buffer.shape)):
            raise TaskError(f"buffer {buffer.name!r} of shape {buffer.shape} is updated with {value}")


class _Walk:
    """One pass over a graph: the types of its values, what they cost at the largest batch, whether they make sense.

    What is left over of an evaluation's samples may be a single one: its smallest batch is 1.
    """

    def __init__(
        self,
        name: Literal["train", "eval"],
        program: Program,
        given: list[ValueType],
        limits: ProgramLimits,
        *,
        batch: int,
        smallest: int,
    ) -> None:
        graph = program.train if name == "train" else program.eval
        self.name = name
        self.limits = limits
        self.batch = batch
        self.smallest = smallest
        self.reach = Reach(program, trains=name == "train", smallest_batch=smallest)
        self.traffic = Traffic(self.reach.is_tracked)
        self.values = list(given)
        self.rows: list[NodeReport] = []
        self.largest = 0
        self._flops = self._num_kernels = Cost()
        for value in given:
            if isinstance(value, TensorType):
                self._weigh(value)
        for node in graph.nodes:
            self._visit(node)
        self.output = self._output(graph)

    def forward(self) -> WorkByBatch:
        """What one pass through the graph takes."""
        return WorkByBatch(flops=self._flops, bytes_moved=self.traffic.forward, num_kernels=self._num_kernels)

    def training_step(self, num_parameters: int) -> WorkByBatch:
        """What a step takes: the way back is as much again, twice, but for the bytes, which are known better."""
        over_parameters = Cost((BYTES_PER_ELEMENT["float32"] * STEP_PASSES * num_parameters,))
        return WorkByBatch(
            flops=self._flops + self._flops + self._flops,
            bytes_moved=self.traffic.forward + self.traffic.backward + over_parameters,
            num_kernels=self._num_kernels + self._num_kernels + self._num_kernels + Cost((STEP_PASSES,)),
        )

    def _visit(self, node: Node) -> None:
        number = len(self.values)
        try:
            arguments, results = self._infer(node)
            check_soundness(node.operator, arguments, self.smallest)
            moved = self.traffic.see(node, arguments, results, number)
            self.reach.see(node, arguments, results, number)
            rule = RULES[node.operator]
            flops = rule.flops(arguments, results)
            workspace = 4 * rule.workspace(arguments, results).at(self.batch)
            self._weigh(*results, workspace=workspace)
        except TaskError as error:
            reason = str(error)[:LONGEST_REASON]  # it may quote a list that a stranger made as long as a program
            said = f"{self.name} graph, value {number}, {node.operator.name}: {reason}"
            raise ValueTaskError(self.name, number, said) from error
        self._flops += flops
        self._num_kernels += rule.num_kernels(arguments, results)
        self.values.extend(results)
        self.rows.append(
            NodeReport(
                number=number,
                operator=node.operator.name,
                arguments=", ".join(map(_shown, node.arguments)),
                types=results,
                flops=flops.at(self.batch),
                bytes_moved=moved.at(self.batch),
            )
        )

    def _infer(self, node: Node) -> tuple[tuple[Any, ...], tuple[ValueType, ...]]:
        rule = RULES.get(node.operator)
        if rule is None:
            raise TaskError("is not an operator of this version")
        if len(node.arguments) != len(rule.slots) or node.num_results != rule.num_results:
            raise TaskError(
                f"has {len(node.arguments)} arguments and {node.num_results} results, expected {rule.signature()}"
            )
        arguments = tuple(
            resolve(slot, argument, self.values) for slot, argument in zip(rule.slots, node.arguments, strict=True)
        )
        results = rule.shape(*arguments)
        for result in results:
            if isinstance(result, TensorType) and not result.num_elements.coefficients:
                raise TaskError(f"gives {result}, which is empty: every dimension must be 1 or more")
        return arguments, results

    def _weigh(self, *results: ValueType, workspace: int = 0) -> None:
        batch = self.batch
        for result in results:
            weight = result.bytes_at(batch) if isinstance(result, TensorType) else 8
            if isinstance(result, Size) and result.at(batch) >= 2**62:
                raise TaskError(f"the size {result} overflows at a batch of {batch}")
            if max(weight, workspace) > self.limits.intermediate_bytes:
                raise TaskError(
                    f"{result} takes {max(weight, workspace):,} bytes at a batch of {batch}; this device allows "
                    f"{self.limits.intermediate_bytes:,} for one value: make the batch or the layer smaller"
                )
            self.largest = max(self.largest, weight)

    def _output(self, graph: Graph) -> TensorType:
        value = self.values[graph.output] if 0 <= graph.output < len(self.values) else None
        if not isinstance(value, TensorType) or value.dtype != "float32" or value.shape[:1] != (BATCH,):
            raise ValueTaskError(
                self.name, graph.output, f"the {self.name} graph's output is {value}; it must be float32[batch, …]"
            )
        if any(size.number is None for size in value.shape[1:]):
            raise ValueTaskError(
                self.name,
                graph.output,
                f"the {self.name} graph's output is {value}; only its first dimension may be the batch",
            )
        return value


def _shown(argument: object) -> str:
    match argument:
        case Ref(value=value):
            return f"%{value}"
        case tuple():
            return f"[{', '.join(map(_shown, argument))}]"
        case None:
            return "–"
        case _:
            return str(argument)
