"""A forward pass, and the backward pass after it, as far as memory goes: one walk for both figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from grapevine_proto.program import Graph, Node, Program
from grapevine_tasks.checks.calls import Call, NodeMemory, references
from grapevine_tasks.checks.ledger import Ledger
from grapevine_tasks.sizes import TensorType, ValueType


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a walk counts.

    `node`: what an operator takes. `loss_keeps`, `loss_forward`, `loss_backward`: what the loss takes, in units
    of the output. `is_cautious`: a gradient that may be memory of its own or the result's is the larger of both.
    """

    node: Callable[[Call], NodeMemory]
    loss_keeps: int
    loss_forward: int = 0
    loss_backward: int = 0
    is_cautious: bool = False


class Pass:
    """A graph's forward pass, and its backward pass if the model learns.

    `peak`: the most bytes at any time; `left`: what is still held after the step: the parameters' gradients, the
    output, values that buffers became.
    """

    def __init__(
        self, program: Program, graph: Graph, values: Sequence[ValueType], batch: int, *, learns: bool, rules: Rules
    ) -> None:
        self._program, self._graph, self._values, self._batch = program, graph, values, batch
        self._rules = rules
        self._sizes = [kind.bytes_at(batch) if isinstance(kind, TensorType) else 0 for kind in values]
        self._ledger = Ledger()
        self._where: dict[int, int] = {}  # value: its piece
        self._scattered: set[int] = set()
        self._learns = set(range(program.first_parameter, program.first_buffer)) if learns else set()
        self._taken: list[NodeMemory] = []  # by node
        self._kept: list[list[int]] = []  # by node: the pieces that its backward pass needs
        self._forward()
        if learns:
            self._backward()
        else:
            self._ledger.brush((rules.loss_keeps + rules.loss_forward) * self._sizes[graph.output])
        self.peak, self.left = self._ledger.peak, self._ledger.now

    def _forward(self) -> None:
        program, ledger = self._program, self._ledger
        first = program.first_result
        for value in range(first):  # the model's own tensors are counted elsewhere
            self._where[value] = ledger.take(self._sizes[value] if value < program.first_parameter else 0)
        last_read = {value: n for n, node in enumerate(self._graph.nodes) for value in references(node)}
        wanted = {self._graph.output, *(update.value for update in self._graph.updates)}
        dying: dict[int, list[int]] = {}
        for value, n in last_read.items():
            if value >= first and value not in wanted:
                dying.setdefault(n, []).append(value)
        number = first
        for n, node in enumerate(self._graph.nodes):
            self._run(node, range(number, number + node.num_results))
            number += node.num_results
            self._release(self._where[value] for value in dying.get(n, ()))
        self._release(
            self._where[value]
            for value in range(number)
            if value not in wanted and (value < first or value not in last_read)
        )

    def _run(self, node: Node, results: range) -> None:
        ledger = self._ledger
        if not isinstance(self._values[results[0]], TensorType):  # a size
            self._where.update((result, ledger.take(0)) for result in results)
            self._taken.append(NodeMemory())
            self._kept.append([])
            return
        call = Call(
            node=node,
            makes=results,
            types=self._values,
            sizes=self._sizes,
            batch=self._batch,
            scattered=self._scattered,
            learning=self._learns,
        )
        taken = self._rules.node(call)
        if taken.is_view:
            on = self._where[call.reads[0]]
            self._where[results[0]] = ledger.take(taken.copied_bytes, on) if taken.copied_bytes else ledger.hold(on)
        else:
            self._where.update((result, ledger.take(self._sizes[result])) for result in results)
        if taken.is_scattered:
            self._scattered.update(results)
        kept: list[int] = []
        if call.learns:
            self._learns.update(results)
            kept = [ledger.hold(self._where[value]) for value in taken.keeps]
            kept.append(ledger.take(taken.kept_bytes))
        ledger.brush(taken.forward_bytes)
        self._taken.append(taken)
        self._kept.append(kept)

    def _release(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self._ledger.release(piece)

    def _backward(self) -> None:
        ledger, graph, rules = self._ledger, self._graph, self._rules
        size = self._sizes[graph.output]
        loss = ledger.take(rules.loss_keeps * size)
        ledger.brush(rules.loss_forward * size)
        gradients = {graph.output: ledger.take(size)}
        ledger.brush(rules.loss_backward * size)
        ledger.release(loss)
        number = len(self._values)
        for node, taken, kept in zip(reversed(graph.nodes), reversed(self._taken), reversed(self._kept), strict=True):
            number -= node.num_results
            results = range(number, number + node.num_results)
            own = [gradients.pop(result) for result in results if result in gradients]
            if own and number in self._learns:
                ledger.brush(taken.backward_bytes)
                for value in references(node):
                    if value in self._learns:
                        self._pass_on(taken, value, number, own[0], gradients)
            self._release(own)
            self._release(kept)

    def _pass_on(self, taken: NodeMemory, value: int, result: int, own: int, gradients: dict[int, int]) -> None:
        """The gradient of one argument, added to what came to it from elsewhere."""
        ledger, size = self._ledger, self._sizes[value]
        piece = ledger.hold(own) if self._passes(taken, value, result, own) else ledger.take(size)
        before = gradients.get(value)
        if before is None:
            gradients[value] = piece
        elif self._rules.is_cautious:  # added in place or not
            ledger.brush(size)
            larger, other = (before, piece) if ledger.size(before) >= ledger.size(piece) else (piece, before)
            gradients[value] = larger
            ledger.release(other)
        elif ledger.is_only_held_once(before):
            ledger.release(piece)  # added in place
        else:
            gradients[value] = ledger.take(size)
            ledger.release(piece)
            ledger.release(before)

    def _passes(self, taken: NodeMemory, value: int, result: int, own: int) -> bool:
        """Whether the gradient of a value is the memory of the result's. One that was broadcast is summed up anew."""
        if taken.gradient == "new":
            return False
        if taken.gradient == "same" and self._sizes[value] < self._sizes[result]:
            return False
        if self._rules.is_cautious:
            return self._ledger.size(own) >= self._sizes[value]
        return value >= self._program.first_buffer
