"""How much memory training and evaluating a checked program takes, found out without running it.

Two figures come from one walk. The *estimate* is for people and for matching: close to what a trainer's
resident memory grows by. The *bound* is what `check_program` holds against a device's limit: no program
takes more, whatever it says. Both follow the trainer (`grapevine_agent.training.local_steps`):

* **Copies of the model.** The flat parameter vector, the request's copy, two slots of memory shared
  with the service, the optimiser's moments; then gradients tensor by tensor, the gradients of the
  step before (they live until they are replaced), their concatenation, the optimiser's scratch.
* **Forward.** Values live from the node that makes them to the last that reads them, or until the
  backward pass if autograd keeps them (`footprints`). A view costs nothing and keeps its memory alive.
* **Backward.** From the last node to the first: the gradients of the arguments come, then the
  gradient of the result and what the node kept are freed. Gradients of parameters stay.

The largest sum along the way is the peak. Memory that PyTorch itself takes, and the samples, come on
top: they are there before the first step.

The bound takes the same walk and trusts no detail of a kernel: every view may be a copy as well, every
operator may keep all that it reads and makes, every gradient is new memory, every optimiser is Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Graph, Node, Operator, Program, Ref
from grapevine_tasks.checks.footprints import FOOTPRINTS, UNKNOWN, Footprint
from grapevine_tasks.checks.report import EVALUATION_BATCH, CheckReport
from grapevine_tasks.sizes import TensorType, ValueType

SHARED_SLOTS = 2  # of the memory that a trainer shares with its service
OLD_GRADIENTS = 1  # vectors of the step before that live until the next step replaces them
MOST_MOMENTS = 2  # that any optimiser remembers: vectors of the parameters' size


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes beyond what the trainer takes before its first step. See the module's docstring."""

    model_bytes: int  # copies of the parameters and buffers that are there all the time
    optimiser_bytes: int  # moments
    gradient_bytes: int  # of the peak: old, new, joined
    activation_bytes: int  # of the peak: values, what autograd keeps, workspaces
    training_bytes: int  # the peak of a training step: the four above
    evaluation_bytes: int  # the peak of an evaluation

    @property
    def peak_bytes(self) -> int:
        """What a trainer needs for both."""
        return max(self.training_bytes, self.evaluation_bytes)


def estimate_memory(program: Program, report: CheckReport, plan: TrainingPlan) -> MemoryEstimate:
    """The memory that a trainer takes for this program and plan. `report` is the program's own."""
    p, b = 4 * report.num_parameters, 4 * report.num_buffers
    num_moments = _num_moments(plan)
    training = _Pass(program, program.train, report.train_values, plan.batch_size, learns=True).peak
    evaluation = _Pass(program, program.eval, report.eval_values, EVALUATION_BATCH, learns=False).peak
    old = OLD_GRADIENTS * p if plan.steps_per_round > 1 else 0
    update = 2 * p + (p if num_moments > 1 else 0)  # gradients, joined; Adam's deviation
    in_backward = training + old >= update
    model, moments = _model_bytes(p, b), num_moments * p
    activations = training - p if in_backward else 0
    gradients = old + p if in_backward else update
    return MemoryEstimate(
        model_bytes=model,
        optimiser_bytes=moments,
        gradient_bytes=gradients,
        activation_bytes=activations,
        training_bytes=model + moments + gradients + activations,
        evaluation_bytes=model + moments + p + b + evaluation,
    )


def bound_memory(
    program: Program,
    train_values: Sequence[ValueType],
    eval_values: Sequence[ValueType],
    *,
    batch: int,
    evaluation_batch: int,
) -> int:
    """Bytes that a trainer never takes more than, beside its kernels' workspaces. See the module's docstring."""
    p = 4 * sum(math.prod(spec.shape) for spec in program.parameters)
    b = 4 * sum(math.prod(spec.shape) for spec in program.buffers)
    training = _Pass(program, program.train, train_values, batch, learns=True, trusting=False).peak
    evaluation = _Pass(program, program.eval, eval_values, evaluation_batch, learns=False, trusting=False).peak
    return _model_bytes(p, b) + MOST_MOMENTS * p + max(OLD_GRADIENTS * p + training, 3 * p, p + b + evaluation)


def _model_bytes(p: int, b: int) -> int:
    """The flat vector, a request's copy of the model, and the slots."""
    return 2 * p + b + SHARED_SLOTS * (p + b)


def _num_moments(plan: TrainingPlan) -> int:
    if plan.optimiser.name == "sgd":
        return 1 if plan.optimiser.momentum else 0
    return MOST_MOMENTS


_IN_ORDER = (Operator.RESHAPE, Operator.UNSQUEEZE, Operator.SQUEEZE)  # views that leave the elements in their order


class _Ledger:
    """Pieces of memory, each with the number of things that hold it; those held by nothing are free."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._bytes: list[int] = []
        self._holders: list[int] = []

    def take(self, num_bytes: int) -> int:
        """New memory, held once. Returns its number."""
        self._bytes.append(num_bytes)
        self._holders.append(1)
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        return len(self._bytes) - 1

    def hold(self, piece: int) -> int:
        """One more holder of the same memory."""
        self._holders[piece] += 1
        return piece

    def release(self, piece: int) -> None:
        self._holders[piece] -= 1
        if not self._holders[piece]:
            self.now -= self._bytes[piece]

    def brush(self, num_bytes: int) -> None:
        """Memory that is taken and given back at once."""
        self.peak = max(self.peak, self.now + num_bytes)

    def is_only_held_once(self, piece: int) -> bool:
        return self._holders[piece] == 1


class _Pass:
    """A forward pass, and the backward pass after it if the model learns: its `peak` in bytes.

    Unless it is `trusting`, kernels may take as much as they can; see the module's docstring.
    """

    def __init__(
        self,
        program: Program,
        graph: Graph,
        values: Sequence[ValueType],
        batch: int,
        *,
        learns: bool,
        trusting: bool = True,
    ) -> None:
        self._program, self._graph, self._values, self._batch = program, graph, values, batch
        self._trusting = trusting
        self._ledger = _Ledger()
        self._where: dict[int, tuple[int, ...]] = {}  # value: its pieces
        self._scattered: set[int] = set()  # values whose elements are not in order
        self._learns = set(range(program.first_parameter, program.first_buffer)) if learns else set()
        self._kept: list[list[int]] = []  # for each node, the pieces that its backward pass needs
        self._forward()
        if learns:
            self._backward()
        self.peak = self._ledger.peak

    def _footprint(self, node: Node) -> Footprint:
        known = FOOTPRINTS.get(node.operator.name, UNKNOWN)
        return known if self._trusting else replace(known, keeps=UNKNOWN.keeps, gradient=UNKNOWN.gradient)

    def _release(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self._ledger.release(piece)

    def _bytes(self, value: int) -> int:
        kind = self._values[value]
        return kind.bytes_at(self._batch) if isinstance(kind, TensorType) else 0

    def _tensors(self, node: Node) -> list[int]:
        """The tensors that a node reads, in order."""
        return [value for value in _references(node) if isinstance(self._values[value], TensorType)]

    def _forward(self) -> None:
        program, ledger = self._program, self._ledger
        first = program.first_result
        for value in range(first):  # the model's own tensors are counted elsewhere
            self._where[value] = (ledger.take(self._bytes(value) if value < program.first_parameter else 0),)
        last_read = {value: n for n, node in enumerate(self._graph.nodes) for value in _references(node)}
        wanted = {self._graph.output, *(update.value for update in self._graph.updates)}
        dying: dict[int, list[int]] = {}
        for value, n in last_read.items():
            if value >= first and value not in wanted:
                dying.setdefault(n, []).append(value)
        number = first
        for n, node in enumerate(self._graph.nodes):
            results = range(number, number + node.num_results)
            self._run(node, results)
            number += node.num_results
            for value in dying.get(n, ()):
                self._release(self._where[value])
        output = self._bytes(self._graph.output)
        for value in range(number):
            if value not in wanted and (value < first or value not in last_read):
                self._release(self._where[value])
        ledger.take(output)  # what the loss keeps: logarithms of probabilities, or a difference

    def _run(self, node: Node, results: range) -> None:
        tensors, ledger = self._tensors(node), self._ledger
        footprint = self._footprint(node)
        if footprint.is_view and not (node.operator is Operator.RESHAPE and tensors[0] in self._scattered):
            own = () if self._trusting else (ledger.take(self._bytes(results[0])),)
            self._where[results[0]] = (*map(ledger.hold, self._where[tensors[0]]), *own)
            if node.operator not in _IN_ORDER or tensors[0] in self._scattered:
                self._scattered.add(results[0])
        else:
            for result in results:
                self._where[result] = (ledger.take(self._bytes(result)),)
        ledger.brush(int(footprint.workspace * self._in_and_out(tensors, results)))
        copies = self._copies(node, tensors)
        kept: list[int] = []
        learning = [value for value in tensors if value in self._learns]
        if learning:
            self._learns.update(results)
            keeps = _keeps(footprint, tensors, learning, results[0])
            kept = [ledger.hold(piece) for value in keeps for piece in self._where[value]]
            kept += [ledger.take(num_bytes) for num_bytes in copies]
            if footprint.mask_bytes:
                kept.append(ledger.take(footprint.mask_bytes * self._bytes(results[0]) // 4))
        else:
            ledger.brush(sum(copies))
        self._kept.append(kept)

    def _copies(self, node: Node, tensors: list[int]) -> list[int]:
        """What a product of many matrices copies before it multiplies: factors that are not in order."""
        if node.operator is not Operator.MATMUL:
            return []
        return [
            self._bytes(value)
            for value in tensors
            if not self._trusting or (value in self._scattered and len(_shape(self._values[value])) > 2)
        ]

    def _in_and_out(self, tensors: Sequence[int], results: range) -> int:
        return self._bytes(tensors[0]) + self._bytes(results[0]) if tensors else 0

    def _backward(self) -> None:
        ledger, graph = self._ledger, self._graph
        gradients: dict[int, int] = {graph.output: ledger.take(self._bytes(graph.output))}
        number = len(self._values)
        for node, kept in zip(reversed(graph.nodes), reversed(self._kept), strict=True):
            number -= node.num_results
            results = range(number, number + node.num_results)
            own = [gradients.pop(result) for result in results if result in gradients]
            if own and number in self._learns:
                self._back_through(node, number, own[0], gradients)
            self._release(own)
            self._release(kept)

    def _back_through(self, node: Node, result: int, own: int, gradients: dict[int, int]) -> None:
        ledger = self._ledger
        footprint = self._footprint(node)
        tensors = self._tensors(node)
        ledger.brush(int(footprint.backward_workspace * self._in_and_out(tensors, range(result, result + 1))))
        for value in tensors:
            if value not in self._learns:
                continue
            passes = value >= self._program.first_buffer and self._passes(footprint, value, result)
            piece = ledger.hold(own) if passes else ledger.take(self._bytes(value))
            before = gradients.get(value)
            if before is None:
                gradients[value] = piece
            elif ledger.is_only_held_once(before):
                ledger.release(piece)  # added in place
            else:
                gradients[value] = ledger.take(self._bytes(value))
                ledger.release(piece)
                ledger.release(before)

    def _passes(self, footprint: Footprint, value: int, result: int) -> bool:
        """Whether the gradient of a value is the memory of the result's. One that was broadcast is summed up anew."""
        if footprint.gradient == "same":
            return self._bytes(value) >= self._bytes(result)
        return footprint.gradient == "part"


def _shape(value: ValueType) -> tuple[object, ...]:
    return value.shape if isinstance(value, TensorType) else ()


def _keeps(footprint: Footprint, tensors: list[int], learning: list[int], result: int) -> list[int]:
    match footprint.keeps:
        case "nothing":
            return []
        case "x":
            return tensors[:1]
        case "result":
            return [result]
        case "x and result":
            return [*tensors[:1], result]
        case "tensors":
            return tensors
        case "factors":
            return [v for i, v in enumerate(tensors[:2]) if any(o in learning for o in tensors[1 - i : 2 - i])]
        case _:
            return [*tensors, result]


def _references(node: Node) -> Iterator[int]:
    for argument in node.arguments:
        if isinstance(argument, Ref):
            yield argument.value
        elif isinstance(argument, tuple):
            yield from (item.value for item in argument if isinstance(item, Ref))
