"""What reaches what in a graph: gradients to parameters, parameters to the output, numbers to where they are indices.

A program can be well-formed, fit its shapes and cost little, and yet have nothing to learn: its output may
depend on no parameter, or only through operators that let no gradient pass. Or it looks up rows that are
not there, by numbers that stand in the program itself. One pass along the nodes tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Constant, Graph, Node, Program, Ref
from grapevine_proto.program import Operator as Op
from grapevine_tasks.checks.report import ValueTaskError
from grapevine_tasks.opset.shape_rules.common import dim_of
from grapevine_tasks.sizes import ONE, TensorType, ValueType

# Of these, only the shape of what they are given counts, or nothing.
_SHAPE_ONLY: Final = frozenset({Op.SIZE, Op.FULL, Op.NORMAL, Op.BERNOULLI})
_INTEGERS: Final = frozenset({Op.INT_ADD, Op.INT_SUB, Op.INT_MUL, Op.INT_FLOORDIV})
_CUT: Final = _SHAPE_ONLY | _INTEGERS | {Op.DETACH}
_FLAT: Final = frozenset({Op.FLOOR, Op.SIGN})  # their gradient is 0 wherever there is one
# The arguments that gradients flow to, where it is not all tensors.
_FOLLOWED: Final[Mapping[Op, tuple[int, ...]]] = {
    Op.WHERE: (1, 2),
    Op.EMBEDDING: (0,),
    Op.INDEX_SELECT: (0,),
    Op.GATHER: (0,),
    Op.BATCH_NORM_TRAIN: (0, 1, 2),
    Op.BATCH_NORM_EVAL: (0, 1, 2),
}
_STATISTICS: Final = (3, 4)  # of batch normalisation
# They leave every number as it is, and leave none out.
_KEEPS_NUMBERS: Final = frozenset(
    {Op.RESHAPE, Op.PERMUTE, Op.TRANSPOSE, Op.UNSQUEEZE, Op.SQUEEZE, Op.EXPAND, Op.REPEAT, Op.FLIP, Op.DETACH}
    | {Op.CONCATENATE, Op.STACK, Op.TO_INT64, Op.TO_FLOAT32}
)
_LOOKS_UP: Final[Mapping[Op, int]] = {Op.EMBEDDING: 1, Op.INDEX_SELECT: 2, Op.GATHER: 2}  # where its indices are


class Reach:
    """One pass over a graph. `see` each node in order, then `check_output`."""

    def __init__(self, program: Program, *, trains: bool, smallest_batch: int) -> None:
        parameters = range(program.first_parameter, program.first_buffer)
        self._trains = trains
        self._smallest_batch = smallest_batch
        self._depends = set(parameters)  # what changes when a parameter does
        self._tracked = set(parameters if trains else ())  # what autograd follows
        self._learns = set(self._tracked)  # … with a gradient that is not 0 everywhere
        self._spans = {n: _span(c) for n, c in enumerate(program.constants, program.first_constant)}
        self._ends: dict[int, Op] = {}  # where gradients go no further: a node's first result

    def see(self, node: Node, arguments: tuple[Any, ...], results: Sequence[ValueType], first: int) -> None:
        """Take one node: its resolved arguments, and its results, numbered from `first`.

        Raises TaskError when it looks up what is not there, or normalises by statistics that learn.
        """
        operator, references = node.operator, list(_references(node.arguments))
        if operator not in _SHAPE_ONLY | _INTEGERS and self._depends.intersection(references):
            self._depends.update(range(first, first + len(results)))
        if self._trains:
            self._follow(node, arguments, results, first)
        if operator in _KEEPS_NUMBERS and all(value in self._spans for value in references):
            spans = [self._spans[value] for value in references]
            self._spans[first] = min(low for low, _ in spans), max(high for _, high in spans)
        if operator in _LOOKS_UP:
            self._check_indices(node, arguments)

    def is_tracked(self, value: int) -> bool:
        """Whether autograd follows a value that has been seen."""
        return value in self._tracked

    def check_output(self, graph: Graph, name: str) -> None:
        """Raise TaskError when nothing that is learnt would ever come out."""
        if graph.output not in self._depends:
            raise ValueTaskError(
                name,
                graph.output,
                f"the {name} graph's output, value {graph.output}, depends on no parameter: "
                "let what the parameters are in come out",
            )
        if self._trains and graph.output not in self._learns:
            ends = ", ".join(f"value {value}, {operator.name}" for value, operator in list(self._ends.items())[:3])
            raise ValueTaskError(
                name,
                next(iter(self._ends), graph.output),
                f"no gradient comes from the {name} graph's output, value {graph.output}, to a parameter: "
                f"nothing can be learnt; gradients end at {ends}",
            )

    def _follow(self, node: Node, arguments: tuple[Any, ...], results: Sequence[ValueType], first: int) -> None:
        operator = node.operator
        if operator in (Op.BATCH_NORM_TRAIN, Op.BATCH_NORM_EVAL):
            self._check_statistics(node)
        followed = _FOLLOWED.get(operator, range(len(node.arguments)))
        given = list(_references(node.arguments[k] for k in followed))
        floats = [
            first + k for k, each in enumerate(results) if isinstance(each, TensorType) and each.dtype == "float32"
        ]
        if operator is Op.BATCH_NORM_TRAIN:
            floats = floats[:1]
        if operator in _CUT:
            floats = []
        if self._tracked.intersection(given):
            self._tracked.update(floats)
        if not self._learns.intersection(given):
            return
        if operator in _FLAT or _is_constant(operator, arguments):
            floats = []
        self._learns.update(floats)
        if not floats:
            self._ends[first] = operator

    def _check_statistics(self, node: Node) -> None:
        for at, what in zip(_STATISTICS, ("mean", "variance"), strict=True):
            for value in _references([node.arguments[at]]):
                if value in self._tracked:
                    raise TaskError(f"the {what}, value {value}, is learnt; statistics have no gradient: use a buffer")

    def _check_indices(self, node: Node, arguments: tuple[Any, ...]) -> None:
        indices = node.arguments[_LOOKS_UP[node.operator]]
        if not isinstance(indices, Ref) or indices.value not in self._spans:
            return
        x: TensorType = arguments[0]
        at = 0 if node.operator is Op.EMBEDDING else dim_of(arguments[1], len(x.shape))
        low, high = self._spans[indices.value]
        length = x.shape[at].at(self._smallest_batch)
        if low < 0 or high >= length:
            raise TaskError(
                f"the indices, value {indices.value}, go from {low:g} to {high:g}; dimension {at} of {x} has 0 to "
                f"{length - 1} at a batch of {self._smallest_batch}"
            )


def _is_constant(operator: Op, arguments: tuple[Any, ...]) -> bool:
    """Whether these arguments give the same for every x."""
    match operator:
        case Op.POW:
            return bool(arguments[1] == 0)
        case Op.MUL:
            return not isinstance(arguments[1], TensorType) and arguments[1] == 0
        case Op.SOFTMAX | Op.LOG_SOFTMAX:
            x, dim = arguments
            return bool(x.shape[dim] == ONE)
        case Op.VARIANCE | Op.DEVIATION:
            x, dims = arguments[:2]
            return all(x.shape[d] == ONE for d in dims)
        case _:
            return False


def _references(arguments: Iterable[object]) -> Iterable[int]:
    for argument in arguments:
        for item in argument if isinstance(argument, tuple) else (argument,):
            if isinstance(item, Ref):
                yield item.value


def _span(constant: Constant) -> tuple[float, float]:
    numbers = np.frombuffer(constant.content, "<i8" if constant.dtype == "int64" else "<f4")
    return (numbers.min().item(), numbers.max().item()) if len(numbers) else (0, 0)
