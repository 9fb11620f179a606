"""How many bytes a program moves: what its nodes read and write in memory, forward and backward.

On a small board it is memory, not arithmetic, that most layers wait for, and what only moves numbers (flips,
joins, look-ups) has no arithmetic at all. Every node reads its tensors and writes its results once, but for
views, which are the same memory. Backward, it reads its tensors and the gradients of its results again, and
writes and adds up the gradient of each tensor that has one. A step then passes over the parameters to bring
their gradients together and for the optimiser. Caches are not counted: what fits into one comes cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from grapevine_proto.program import Argument, Node, Ref
from grapevine_proto.program import Operator as Op
from grapevine_tasks.checks.report import Cost
from grapevine_tasks.sizes import BYTES_PER_ELEMENT, TensorType, ValueType

# Of float32 vectors as long as all parameters together, in a step: their gradients are joined, and Adam reads and
# writes its moments, what it makes of them, and the parameters.
STEP_PASSES: Final = 14

_IN_ORDER: Final = frozenset({Op.UNSQUEEZE, Op.SQUEEZE, Op.DETACH, Op.RESHAPE})  # views that leave numbers in order
_SCATTERING: Final = frozenset({Op.PERMUTE, Op.TRANSPOSE, Op.EXPAND, Op.SLICE, Op.SELECT})  # views that may not
_PARTS: Final = frozenset({Op.SLICE, Op.SELECT})  # whose gradient is as large as the whole, and mostly zeros


class Traffic:
    """One pass over a graph: `see` each node in order. `forward` and `backward` are in bytes.

    Args:
        is_tracked: Whether autograd follows a value, by its number; it is asked of a node's arguments.
    """

    def __init__(self, is_tracked: Callable[[int], bool]) -> None:
        self.forward = self.backward = Cost()
        self._is_tracked = is_tracked
        self._scattered: set[int] = set()  # values whose numbers do not lie in order

    def see(self, node: Node, arguments: tuple[Any, ...], results: Sequence[ValueType], first: int) -> Cost:
        """Take one node: its resolved arguments, and its results, numbered from `first`. Returns its forward bytes."""
        tensors = list(_tensors(node.arguments, arguments))
        made = _bytes(each for each in results if isinstance(each, TensorType))
        is_view = self._is_view(node, tensors, results, first)
        moved = Cost() if is_view or not tensors else _bytes(x for _, x in tensors) + made
        if not tensors:
            moved = made  # a tensor filled with a number
        self.forward += moved
        learning = [x for value, x in tensors if self._is_tracked(value)]
        if learning and not (is_view and node.operator not in _PARTS | {Op.EXPAND}):
            gradients = _bytes(learning)
            self.backward += gradients + gradients + made
            self.backward += gradients if node.operator in _PARTS else moved
        return moved

    def _is_view(
        self, node: Node, tensors: list[tuple[int, TensorType]], results: Sequence[ValueType], first: int
    ) -> bool:
        operator = node.operator
        if operator is Op.SIZE or (operator in (Op.TO_FLOAT32, Op.TO_INT64) and results[0] == tensors[0][1]):
            return True
        if operator not in _IN_ORDER | _SCATTERING:
            return False
        is_scattered = tensors[0][0] in self._scattered
        if operator is Op.RESHAPE and is_scattered:
            return False
        if is_scattered or operator in _SCATTERING:
            self._scattered.add(first)
        return True


def _tensors(given: Iterable[Argument], resolved: tuple[Any, ...]) -> Iterable[tuple[int, TensorType]]:
    """The tensors among a node's arguments, each with its number."""
    for argument, value in zip(given, resolved, strict=True):
        if isinstance(argument, Ref) and isinstance(value, TensorType):
            yield argument.value, value
        elif isinstance(argument, tuple) and isinstance(value, tuple):
            for item, each in zip(argument, value, strict=True):
                if isinstance(item, Ref) and isinstance(each, TensorType):
                    yield item.value, each


def _bytes(tensors: Iterable[TensorType]) -> Cost:
    total = Cost()
    for each in tensors:
        total += Cost(tuple(BYTES_PER_ELEMENT[each.dtype] * c for c in each.num_elements.coefficients))
    return total
