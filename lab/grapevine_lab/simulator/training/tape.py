"""Gradients of many models at once without autograd: what a graph did, remembered, and gone through backwards.

A tape runs a graph whose operators all have a rule (`rules.RULES`). It saves what recording costs, which is
as much as the arithmetic of a small network, and it knows where a parameter's gradient is to go: a product of
matrices is written where the optimiser reads it, or, where a step is plain descent, onto the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grapevine_lab.simulator.training.quick_pooling import moved_relus
from grapevine_lab.simulator.training.rules import POOL_THEN_RELU, RULES, SAME, Rule, Sink, dropout_rule
from grapevine_lab.simulator.training.stacked_interpreter import StackedInterpreter, stacked_values
from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, Operator, Program, Ref
from grapevine_tasks.interpreter.interpreter import _fetch

_OF_SIZES = frozenset({Operator.SIZE, Operator.INT_ADD, Operator.INT_SUB, Operator.INT_MUL, Operator.INT_FLOORDIV})


class Tape:
    """Runs the train graph of an interpreter's program on many models, and differentiates it.

    Args:
        interpreter: Of stacked inputs; a graph with dropout draws from its `generators`.

    Raises:
        TaskError: When an operator has no rule here.
    """

    def __init__(self, interpreter: StackedInterpreter) -> None:
        program = interpreter.program
        self._program, self._graph = program, program.train
        self._constants, self._steps = interpreter.constants, interpreter.steps("train")
        self._rules = _rules(interpreter)
        self._wanted = _wanted(program)
        self._saved: list[tuple[int, Any]] = []  # of each node the number of its first result, and what it kept
        read = [item.value for node in self._graph.nodes for item in node.arguments if isinstance(item, Ref)]
        parameters = range(program.first_parameter, program.first_buffer)
        self.reads_once = all(read.count(number) <= 1 for number in parameters)  # each parameter

    def forward(
        self, inputs: Sequence[Tensor], parameters: Sequence[Tensor], buffers: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """What `StackedInterpreter.run` gives of the train graph."""
        values: list[Any] = [*inputs, *parameters, *buffers, *self._constants]
        self._saved = []
        for step, rule in zip(self._steps, self._rules, strict=True):
            arguments = [_fetch(argument, values) for argument in step.arguments]
            try:
                result, saved = (step.kernel(*arguments), None) if rule is None else rule.forward(*arguments)
            except (RuntimeError, ValueError, IndexError) as error:
                raise TaskError(f"value {len(values)}, {step.operator.name}: {error}") from error
            self._saved.append((len(values), saved if self._wanted[len(values)] else None))
            if step.many:
                values.extend(result)
            else:
                values.append(result)
            for number in step.forget:
                values[number] = None
        updated = list(buffers)
        for update in self._graph.updates:
            updated[update.buffer] = values[update.value]
        return values[self._graph.output], updated

    def backward(self, gradient: Tensor, parameters: Sequence[Sink]) -> None:
        """Send the gradients of all parameters to their sinks, given that of the output of the last `forward`."""
        slots = [_Slot() if wanted else None for wanted in self._wanted]
        first, end = self._program.first_parameter, self._program.first_buffer
        sinks: list[Sink | None] = [*slots[:first], *parameters, *slots[end:]]
        output = sinks[self._graph.output]
        if output is not None:
            output.add(gradient)
        while self._saved:
            number, saved = self._saved.pop()
            slot, rule = slots[number], self._rules[len(self._saved)]
            if slot is None or slot.gradient is None or rule is None:
                continue
            found, slot.gradient = slot.gradient, None
            rule.backward(saved, found, [_sink(item, sinks) for item in self._steps[len(self._saved)].arguments])


@dataclass
class _Slot:
    """The gradient of a value between operators."""

    gradient: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        """See `Sink`."""
        self.gradient = gradient if self.gradient is None else self.gradient + gradient

    def product(self, left: Tensor, right: Tensor) -> None:
        """See `Sink`."""
        self.add(torch.bmm(left, right))


class IntoGradient:
    """A parameter's gradient in its place among those of all, `view` [models, …]; anew after `begin`."""

    def __init__(self, view: Tensor) -> None:
        self._view = view
        self._begun = False

    def begin(self) -> None:
        """What comes next comes in the place of what is there."""
        self._begun = False

    def add(self, gradient: Tensor) -> None:
        """See `Sink`."""
        if self._begun:
            self._view.add_(gradient)
        else:
            self._view.copy_(gradient)
        self._begun = True

    def product(self, left: Tensor, right: Tensor) -> None:
        """See `Sink`."""
        if self._begun:
            self._view.baddbmm_(left, right)
        else:
            torch.bmm(left, right, out=self._view)
        self._begun = True


class OntoParameters:
    """A parameter's own place: what comes is added to it."""

    def __init__(self, view: Tensor) -> None:
        self._view = view

    def add(self, gradient: Tensor) -> None:
        """See `Sink`."""
        self._view.add_(gradient)

    def product(self, left: Tensor, right: Tensor) -> None:
        """See `Sink`."""
        self._view.baddbmm_(left, right)


def _sink(argument: Argument, sinks: Sequence[Sink | None]) -> Sink | None:
    return sinks[argument.value] if isinstance(argument, Ref) else None


def _rules(interpreter: StackedInterpreter) -> list[Rule | None]:
    """The rule of each node of the train graph; None where it only computes sizes."""
    graph = interpreter.program.train
    moved = moved_relus(interpreter.program, graph)
    stacked = stacked_values(interpreter.program, graph, stacked_inputs=True)
    rules: list[Rule | None] = []
    for index, node in enumerate(graph.nodes):
        numbers = [item.value for item in node.arguments if isinstance(item, Ref)]
        if node.operator in _OF_SIZES:
            rules.append(None)
        elif not all(stacked[number] for number in numbers):
            raise TaskError(f"{node.operator.name} reads what all models share")
        elif index in moved.values():
            rules.append(SAME)
        elif node.operator is Operator.DROPOUT:
            rules.append(dropout_rule(interpreter.masked))
        elif node.operator is Operator.MAX_POOL2D and numbers[0] in moved:
            rules.append(POOL_THEN_RELU)
        elif node.operator in RULES:
            rules.append(RULES[node.operator])
        else:
            raise TaskError(f"{node.operator.name} has no rule")
    return rules


def _wanted(program: Program) -> list[bool]:
    """Of each value whether its gradient is wanted: whether a parameter is behind it."""
    wanted = [program.first_parameter <= number < program.first_buffer for number in range(program.first_result)]
    for node in program.train.nodes:
        reads = [item.value for item in node.arguments if isinstance(item, Ref)]
        behind = node.operator not in _OF_SIZES and any(wanted[number] for number in reads)
        wanted += [behind, *[False] * (node.num_results - 1)]
    return wanted
