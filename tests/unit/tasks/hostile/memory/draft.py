"""A program that is being written: values that know their types, nodes that are legal or refused on the spot."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from grapevine_proto.errors import TaskError
from grapevine_proto.program import (
    Argument,
    BufferUpdate,
    Graph,
    InputSpec,
    Node,
    Operator,
    Program,
    Ref,
    TensorSpec,
)
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.checks.arguments import resolve
from grapevine_tasks.opset import RULES
from grapevine_tasks.sizes import BATCH, Shape, Size, TensorType, ValueType, fixed

LARGEST_VALUE = 16 * 2**20  # bytes at the batch that is drafted for
LARGEST_PARAMETER = 2**21  # elements
MOST_FLOPS = 5 * 10**8  # of a node's forward pass
_NO_GRADIENT = (Operator.DETACH, Operator.NORMAL, Operator.BERNOULLI)


class Draft:
    """Values in the order in which they were made. Their `Ref`s are numbered anew when the program is finished."""

    def __init__(self, rng: random.Random, features: Sequence[int], *, dtype: str = "float32", batch: int) -> None:
        self.rng, self.trained_batch = rng, batch
        self.batch = max(batch, EVALUATION_BATCH)  # the larger of what it is run with
        self._input = InputSpec(name="input", shape=tuple(features), dtype=dtype)
        self.types: list[ValueType] = [TensorType(dtype, (BATCH, *fixed(*features)))]
        self._parameters: list[int] = []
        self._buffers: list[int] = []
        self._nodes: list[tuple[Node, int]] = []  # with the number of its first result
        self._updates: dict[int, int] = {}  # buffer: value
        self.made: list[int] = [0]  # results and the input: what nodes choose their arguments from
        self.learns: set[int] = set()
        self.num_bytes = 0

    def type_of(self, value: int) -> TensorType:
        """The type of a value that is a tensor."""
        found = self.types[value]
        assert isinstance(found, TensorType)
        return found

    def parameter(self, *shape: int) -> Ref:
        """A new parameter."""
        if not 0 < math.prod(shape) <= LARGEST_PARAMETER:
            raise TaskError(f"a parameter of the shape {shape} is too large for a draft")
        self._parameters.append(len(self.types))
        self.learns.add(len(self.types))
        return self._given(shape)

    def buffer(self, *shape: int) -> Ref:
        """A new buffer."""
        if not 0 < math.prod(shape) <= LARGEST_PARAMETER:
            raise TaskError(f"a buffer of the shape {shape} is too large for a draft")
        self._buffers.append(len(self.types))
        return self._given(shape)

    def _given(self, shape: Sequence[int]) -> Ref:
        self.types.append(TensorType("float32", fixed(*shape)))
        return Ref(len(self.types) - 1)

    def put(self, operator: Operator, *arguments: Argument) -> Ref:
        """A new node: its first result. Raises TaskError when it is not legal, or too heavy for a draft."""
        rule = RULES[operator]
        if len(arguments) != len(rule.slots):
            raise TaskError(f"{operator.name} takes {len(rule.slots)} arguments, not {len(arguments)}")
        resolved = tuple(resolve(slot, each, self.types) for slot, each in zip(rule.slots, arguments, strict=True))
        results = rule.shape(*resolved)
        for made in results:
            if isinstance(made, TensorType):
                if not made.num_elements.coefficients:
                    raise TaskError(f"{made} is empty")
                if made.bytes_at(self.batch) > LARGEST_VALUE:
                    raise TaskError(f"{made} is too large for a draft")
        if rule.flops(resolved, results).at(self.batch) > MOST_FLOPS:
            raise TaskError(f"{operator.name} computes too much for a draft")
        first = len(self.types)
        self._nodes.append((Node(operator=operator, arguments=arguments, num_results=rule.num_results), first))
        learns = operator not in _NO_GRADIENT and any(each in self.learns for each in _references(arguments))
        for number, made in enumerate(results, first):
            self.types.append(made)
            if isinstance(made, TensorType):
                self.made.append(number)
                self.num_bytes += made.bytes_at(self.batch)
                if learns and made.dtype == "float32":
                    self.learns.add(number)
        return Ref(first)

    def pick(self, dtype: str | None = "float32", *, rank: int | None = None) -> Ref:
        """A value that was made, rather a late one; reshaped, if it has another rank. Raises TaskError if none fits."""
        fitting = [value for value in self.made if dtype is None or self.type_of(value).dtype == dtype]
        if not fitting:
            raise TaskError(f"there is no {dtype}")
        value = fitting[-1 - min(int(self.rng.expovariate(0.5)), len(fitting) - 1)]
        if rank is None or len(self.type_of(value).shape) == rank:
            return Ref(value)
        return self.reshaped(Ref(value), rank)

    def reshaped(self, value: Ref, rank: int) -> Ref:
        """The same elements in another number of dimensions, the batch first. Raises TaskError if it is not first."""
        shape = self.type_of(value.value).shape
        if rank < 1 or shape[:1] != (BATCH,) or any(size.number is None for size in shape[1:]):
            raise TaskError(f"cannot draw another shape than {self.type_of(value.value)}")
        left = math.prod(size.number or 0 for size in shape[1:])
        sides = []
        for _ in range(rank - 2):
            sides.append(self.rng.choice(divisors(left)))
            left //= sides[-1]
        self.rng.shuffle(sides)
        wanted = (-1, *sides, left)[:rank] if rank > 1 else (-1,)
        return self.put(Operator.RESHAPE, value, wanted)

    def numbers(self, value: Ref) -> tuple[int | None, ...]:
        """The shape of a value; None where it depends on the batch."""
        return tuple(size.number for size in self.type_of(value.value).shape)

    def size_of(self, value: Ref, dim: int) -> Ref | int:
        """One side, to be written into a shape."""
        number = self.numbers(value)[dim]
        return self.put(Operator.SIZE, value, dim) if number is None else number

    def update(self, value: Ref) -> None:
        """A buffer that becomes this value, whose shape must not depend on the batch."""
        shape = [size for size in self.numbers(value) if size is not None]
        if len(shape) < len(self.type_of(value.value).shape):
            raise TaskError("no buffer grows with the batch")
        self._updates[self.buffer(*shape).value] = value.value

    def update_of(self, buffer: Ref, value: Ref) -> None:
        """This buffer becomes this value."""
        self._updates[buffer.value] = value.value

    def finished(self, output: Ref) -> Program:
        """The program, its eval graph the train graph without updates."""
        order = [0, *self._parameters, *self._buffers]
        given = set(order)
        order += [value for value in range(len(self.types)) if value not in given]
        number = {value: place for place, value in enumerate(order)}
        nodes = tuple(
            Node(
                operator=node.operator,
                arguments=tuple(_renumbered(each, number) for each in node.arguments),
                num_results=node.num_results,
            )
            for node, _ in self._nodes
        )
        updates = tuple(
            BufferUpdate(buffer=self._buffers.index(buffer), value=number[value])
            for buffer, value in self._updates.items()
        )
        graph = Graph(nodes=nodes, output=number[output.value])
        return Program(
            inputs=(self._input,),
            parameters=self._specs("parameter", self._parameters),
            buffers=self._specs("buffer", self._buffers),
            train=Graph(nodes=nodes, output=graph.output, updates=updates),
            eval=graph,
        )

    def _specs(self, name: str, values: Sequence[int]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=f"{name}{k}", shape=tuple(_number(size) for size in self.type_of(value).shape))
            for k, value in enumerate(values)
        )


def divisors(number: int) -> list[int]:
    """All divisors of a number up to a thousand, those of it that are larger left out."""
    return [k for k in range(1, min(number, 1000) + 1) if number % k == 0] or [1]


def is_fixed(shape: Shape) -> bool:
    """Whether no side depends on the batch."""
    return all(size.number is not None for size in shape)


def _number(size: Size) -> int:
    number = size.number
    assert number is not None
    return number


def _references(arguments: Sequence[Argument]) -> list[int]:
    found = []
    for each in arguments:
        items = each if isinstance(each, tuple) else (each,)
        found += [item.value for item in items if isinstance(item, Ref)]
    return found


def _renumbered(argument: Argument, number: dict[int, int]) -> Argument:
    if isinstance(argument, Ref):
        return Ref(number[argument.value])
    if isinstance(argument, tuple):
        return tuple(Ref(number[item.value]) if isinstance(item, Ref) else item for item in argument)
    return argument
