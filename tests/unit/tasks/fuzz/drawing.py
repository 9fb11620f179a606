"""A program in the making: values by handle while it is drawn, by number once it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.program import (
    Argument,
    BufferUpdate,
    Constant,
    Graph,
    InputSpec,
    Node,
    Operator,
    Program,
    Ref,
    TensorSpec,
)
from grapevine_tasks.opset import RULES, Kind, Slot
from grapevine_tasks.sizes import BATCH, Size, TensorType, ValueType, fixed


@dataclass(frozen=True)
class Handle:
    """A value: of which list, which one in it."""

    kind: Literal["input", "parameter", "buffer", "constant", "result"]
    index: int


Drawn: TypeAlias = "Handle | int | float | bool | tuple[Handle | int, ...] | None"


@dataclass
class Drawing:
    """Inputs, parameters, buffers, constants and nodes so far, with the type of each value."""

    inputs: list[InputSpec] = field(default_factory=list)
    parameters: list[TensorSpec] = field(default_factory=list)
    buffers: list[TensorSpec] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    nodes: list[tuple[Operator, tuple[Drawn, ...], int, int]] = field(default_factory=list)  # the last: first result
    types: dict[Handle, ValueType] = field(default_factory=dict)

    def input(self, shape: Sequence[int], dtype: str = "float32") -> Handle:
        """[batch, *shape]."""
        self.inputs.append(InputSpec(name=f"x{len(self.inputs)}", shape=tuple(shape), dtype=dtype))
        return self._typed(Handle("input", len(self.inputs) - 1), TensorType(dtype, (BATCH, *fixed(*shape))))

    def parameter(self, shape: Sequence[int]) -> Handle:
        """A tensor that learns."""
        self.parameters.append(TensorSpec(name=f"p{len(self.parameters)}", shape=tuple(shape)))
        return self._typed(Handle("parameter", len(self.parameters) - 1), TensorType("float32", fixed(*shape)))

    def buffer(self, shape: Sequence[int]) -> Handle:
        """A tensor that does not."""
        self.buffers.append(TensorSpec(name=f"b{len(self.buffers)}", shape=tuple(shape)))
        return self._typed(Handle("buffer", len(self.buffers) - 1), TensorType("float32", fixed(*shape)))

    def constant(self, array: NDArray[Any]) -> Handle:
        """Of float32 or int64."""
        dtype = "int64" if array.dtype.kind == "i" else "float32"
        content = array.astype("<i8" if dtype == "int64" else "<f4").tobytes()
        self.constants.append(Constant(dtype=dtype, shape=array.shape, content=content))
        return self._typed(Handle("constant", len(self.constants) - 1), TensorType(dtype, fixed(*array.shape)))

    def node(self, operator: Operator, *arguments: Drawn) -> tuple[Handle, ...]:
        """Its results. Raises TaskError when the operator's shape rule does not take the arguments."""
        rule = RULES[operator]
        resolved = (self._resolved(slot, argument) for slot, argument in zip(rule.slots, arguments, strict=True))
        types = rule.shape(*resolved)
        first = sum(num_results for *_, num_results, _ in self.nodes)
        self.nodes.append((operator, arguments, rule.num_results, first))
        return tuple(self._typed(Handle("result", first + k), each) for k, each in enumerate(types))

    def shape(self, handle: Handle) -> tuple[Size, ...]:
        """Of a tensor."""
        value = self.types[handle]
        assert isinstance(value, TensorType)
        return value.shape

    def _typed(self, handle: Handle, value: ValueType) -> Handle:
        self.types[handle] = value
        return handle

    def _resolved(self, slot: Slot, argument: Drawn) -> Any:
        match argument:
            case Handle():
                return self.types[argument]
            case tuple() if slot.kind is Kind.SIZES:
                return tuple(None if item == -1 else self._resolved(Slot("", Kind.SIZE), item) for item in argument)
            case tuple():
                return tuple(self.types[item] if isinstance(item, Handle) else item for item in argument)
            case int() if slot.kind is Kind.SIZE:
                return Size.constant(argument)
            case _:
                return argument

    def graph(self, output: Handle, updates: Sequence[tuple[int, Handle]] = ()) -> Graph:
        """All nodes, with this output."""
        return Graph(
            nodes=tuple(map(self._node, self.nodes)),
            output=self._number(output),
            updates=tuple(BufferUpdate(buffer=buffer, value=self._number(value)) for buffer, value in updates),
        )

    def graph_of_one(self, output: Handle) -> Graph:
        """The node alone whose only result this is; it takes no other node's."""
        node = next(node for node in self.nodes if node[3] == output.index)
        return Graph(nodes=(self._node(node),), output=self._number(Handle("result", 0)))

    def _node(self, node: tuple[Operator, tuple[Drawn, ...], int, int]) -> Node:
        operator, arguments, num_results, _ = node
        return Node(operator=operator, arguments=tuple(map(self._argument, arguments)), num_results=num_results)

    def program(self, train: Graph, evaluation: Graph) -> Program:
        """The whole."""
        return Program(
            inputs=tuple(self.inputs),
            parameters=tuple(self.parameters),
            buffers=tuple(self.buffers),
            constants=tuple(self.constants),
            train=train,
            eval=evaluation,
        )

    def _number(self, handle: Handle) -> int:
        lists = {"input": 0, "parameter": len(self.inputs)}
        lists["buffer"] = lists["parameter"] + len(self.parameters)
        lists["constant"] = lists["buffer"] + len(self.buffers)
        lists["result"] = lists["constant"] + len(self.constants)
        return lists[handle.kind] + handle.index

    def _argument(self, argument: Drawn) -> Argument:
        match argument:
            case Handle():
                return Ref(self._number(argument))
            case tuple():
                return tuple(Ref(self._number(item)) if isinstance(item, Handle) else item for item in argument)
            case _:
                return argument


def indices_below(rng: np.random.Generator, shape: Sequence[int], most: int) -> NDArray[np.int64]:
    """Whole numbers that are mostly below `most`; now and then one is not."""
    beyond = 1 if rng.random() < 0.1 else 0
    return rng.integers(-beyond, most + beyond, size=tuple(shape), dtype=np.int64)
