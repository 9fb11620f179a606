"""One exported graph, translated node by node into opset 1."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, BufferUpdate, Graph, Node, Operator, Ref
from grapevine_tasks.authoring.places import layer_of, place_of
from grapevine_tasks.authoring.refusals import unsupported
from grapevine_tasks.authoring.translations import (
    FILLED,
    LIKE,
    SPLITS,
    TRANSLATIONS,
    TRANSPARENT,
    Translation,
    aten,
    is_conversion,
    named_arguments,
    translation_of,
)
from grapevine_tasks.opset import LARGEST_OPERAND, RULES, Kind

_MOST_FOLDED = 65_536  # elements of a tensor that is computed while building
_CONVERSIONS = {torch.float32: Operator.TO_FLOAT32, torch.int64: Operator.TO_INT64}


class GraphBuilder:
    """Collects the nodes that the wanted outputs need.

    While building, result n has the number −1 − n, because how many constants come before the
    results is known only when both graphs have been read; `finish` moves results into place.
    """

    def __init__(
        self,
        graph: fx.Graph,
        constant: Callable[[str, Tensor], int] | None = None,
        where: Callable[[fx.Node], str] = place_of,
    ) -> None:
        self._where = where  # in the engineer's file
        self._made: dict[int, fx.Node] = {}  # by result, the node that was translated
        self._at: fx.Node | None = None  # the node that is being translated
        self._constant = constant  # keeps a tensor that never changes, and says which value it is
        self._nodes = {node.name: node for node in graph.nodes}
        self._order = [node for node in graph.nodes if node.op == "call_function"]
        self._values: dict[str, int] = {}
        self._known: dict[str, tuple[str, Tensor]] = {}  # inputs that never change, with their own names
        self._several: dict[str, dict[int, int]] = {}  # by node, ATen's result to our value
        self._built: list[Node] = []
        self._num_results = 0
        self._live: set[str] = set()
        self._output = ""
        self._updates: dict[int, str] = {}

    def used_inputs(self, wanted: tuple[str, dict[int, str]]) -> set[str]:
        """Take the names of the output and the updates; return the names of the inputs they need."""
        self._output, self._updates = wanted
        pending = [self._output, *self._updates.values()]
        while pending:
            name = pending.pop()
            if name not in self._live:
                self._live.add(name)
                pending.extend(source.name for source in self._nodes[name].all_input_nodes)
        return {name for name in self._live if self._nodes[name].op == "placeholder"}

    def give(self, name: str, value: int) -> None:
        """Say which value an input of the graph is."""
        self._values[name] = value

    def know(self, name: str, own_name: str, tensor: Tensor) -> None:
        """Say what an input of the graph always is. It becomes a constant if something is not computed from it here."""
        self._known[name] = (own_name, tensor)

    def translate(self) -> None:
        """Translate all live nodes. Raises TaskError naming every operator that the opset lacks."""
        live = [node for node in self._order if node.name in self._live]
        folded = self._fold(live)
        unknown = [node for node in live if node.name not in folded and not is_known(node)]
        if unknown:
            place, layer = self._where(unknown[0]), layer_of(unknown[0])
            raise unsupported([str(node.target) for node in unknown], place, layer)
        for node in live:
            if node.name in folded:
                continue
            self._at = node
            try:
                self._translate(node)
            except TaskError as error:
                raise TaskError(f"{self._where(node)}{error}") from error

    def _fold(self, live: list[fx.Node]) -> set[str]:
        """Compute what depends on nothing (positions, masks), and keep the results that others read as constants."""
        computed: dict[str, Tensor] = {name: tensor.detach() for name, (_, tensor) in self._known.items()}
        for node in live:
            value = node.meta.get("val")
            sources = node.all_input_nodes
            if (
                isinstance(value, Tensor)
                and all(isinstance(side, int) for side in value.shape)
                and value.numel() <= _MOST_FOLDED
                and (node.target in FILLED or all(source.name in computed for source in sources))
                and torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())
                and node.target is not operator.getitem
            ):
                computed[node.name] = _filled(node) if node.target in FILLED else _called(node, computed)
        if self._constant is None:
            return set()
        for name, tensor in computed.items():
            readers = [user for user in self._nodes[name].users if user.name in self._live]
            if name == self._output or any(reader.name not in computed for reader in readers):
                try:
                    self._values[name] = self._kept(name, tensor)
                except TaskError as error:
                    raise TaskError(f"{self._where(readers[0] if readers else self._nodes[name])}{error}") from error
        return set(computed)

    def _kept(self, name: str, tensor: Tensor) -> int:
        """The value of what was computed: an operator if it is one number everywhere, else a constant."""
        assert self._constant is not None
        if name not in self._known and tensor.dtype == torch.float32 and tensor.numel() > 1:
            number = float(tensor.flatten()[0])
            if abs(number) <= LARGEST_OPERAND and bool((tensor == number).all()):
                return self._add(Operator.FULL, (tuple(tensor.shape), number), 1)
        kept = tensor.to(torch.int64) if tensor.dtype == torch.bool else tensor
        constant = self._constant(self._known[name][0] if name in self._known else name, kept.contiguous())
        return self._add(Operator.NOT_EQUAL, (Ref(constant), 0), 1) if tensor.dtype == torch.bool else constant

    def finish(self, first_result: int) -> Graph:
        """The graph, with its results numbered from `first_result`."""

        def place(value: int) -> int:
            return value if value >= 0 else first_result - 1 - value

        def placed(argument: Argument) -> Argument:
            if isinstance(argument, tuple):
                return tuple(Ref(place(item.value)) if isinstance(item, Ref) else item for item in argument)
            return Ref(place(argument.value)) if isinstance(argument, Ref) else argument

        return Graph(
            nodes=tuple(
                Node(operator=n.operator, arguments=tuple(map(placed, n.arguments)), num_results=n.num_results)
                for n in self._built
            ),
            output=place(self._values[self._output]),
            updates=tuple(
                BufferUpdate(buffer=buffer, value=place(self._values[name]))
                for buffer, name in sorted(self._updates.items())
            ),
        )

    def places(self, first_result: int) -> dict[int, str]:
        """By the number of a result in the finished graph, the line that made it, where that is known."""
        found = {first_result + number: self._where(node) for number, node in self._made.items()}
        return {number: place for number, place in found.items() if place}

    def _translate(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            assert isinstance(index, int)
            results = self._several[source.name]
            if index not in results:
                raise TaskError(f"the model uses result {index} of {source.target}, which opset 1 does not give")
            self._values[node.name] = results[index]
        elif node.target in TRANSPARENT:
            self._values[node.name] = self._value(node.args[0])
        elif node.target in SPLITS:
            self._split(node)
        elif node.target in LIKE:
            self._like(node)
        elif node.target in _WRITES:
            _WRITES[node.target](self, node)
        elif is_conversion(node):
            self._convert(node)
        else:
            named = named_arguments(node)
            if node.target in _SCALED and named["alpha"] != 1:
                named |= {"other": self._scaled(named["other"], named["alpha"]), "alpha": 1}
            translation = translation_of(node.target, named)
            for name, expected in translation.must.items():
                if named.get(name, expected) != expected:
                    raise TaskError(f"{node.target} with {name}={named[name]} is not in opset 1; use {name}={expected}")
            if translation.convert:
                named = translation.convert(named)
            self._append(node, translation, named)

    def _scaled(self, other: Any, alpha: float) -> Ref | float:
        """What is added `alpha` times."""
        if not isinstance(other, fx.Node):
            return float(other * alpha)
        return Ref(self._add(Operator.MUL, (Ref(self._value(other)), float(alpha)), 1))

    def _append(self, node: fx.Node, translation: Translation, named: dict[str, Any]) -> None:
        rule = RULES[translation.operator]
        arguments = tuple(
            self._argument(named[name], slot.kind) for name, slot in zip(translation.arguments, rule.slots, strict=True)
        )
        first = self._add(translation.operator, arguments, rule.num_results)
        if translation.results:
            self._several[node.name] = {theirs: first - ours for theirs, ours in translation.results.items()}
        else:
            self._values[node.name] = first

    def _add(self, op: Operator, arguments: tuple[Argument, ...], num_results: int) -> int:
        first = -1 - self._num_results
        if self._at is not None:
            self._made |= dict.fromkeys(range(self._num_results, self._num_results + num_results), self._at)
        self._num_results += num_results
        self._built.append(Node(operator=op, arguments=arguments, num_results=num_results))
        return first

    def _convert(self, node: fx.Node) -> None:
        source, target = node.args[0], node.meta["val"].dtype
        assert isinstance(source, fx.Node)
        if source.meta["val"].dtype == target:
            self._values[node.name] = self._value(source)
        elif target in _CONVERSIONS:
            self._values[node.name] = self._add(_CONVERSIONS[target], (Ref(self._value(source)),), 1)
        elif target == torch.bool:
            self._values[node.name] = self._add(Operator.NOT_EQUAL, (Ref(self._value(source)), 0), 1)
        else:
            raise TaskError(f"the model converts a tensor to {target}; operator set 1 has float32 and int64")

    def _split(self, node: fx.Node) -> None:
        """A tensor in pieces: each piece that is read becomes a slice of its own."""
        named = named_arguments(node)
        source, dim = named["self"], named.get("dim", 0)
        pieces = node.meta["val"]
        start = 0
        self._several[node.name] = {}
        read = {user.args[1] for user in node.users if user.name in self._live}
        for index, piece in enumerate(pieces):
            length = piece.shape[dim] if node.target is not aten.unbind.int else 1
            if not isinstance(length, int):
                raise TaskError("the model splits a tensor along the batch, which operator set 1 cannot")
            if index in read:
                if node.target is aten.unbind.int:
                    made = self._add(Operator.SELECT, (Ref(self._value(source)), dim, index), 1)
                else:
                    arguments: tuple[Argument, ...] = (Ref(self._value(source)), dim, start, start + length, 1)
                    made = self._add(Operator.SLICE, arguments, 1)
                self._several[node.name][index] = made
            start += length

    def _written(self, node: fx.Node) -> None:
        """`x[a:b] = y`: what stands before, y, and what stands behind."""
        named = named_arguments(node)
        x, dim = named["self"], named["dim"]
        length = x.meta["val"].shape[dim]
        start, end = named["start"] or 0, length if named["end"] is None else named["end"]
        if not all(isinstance(each, int) for each in (length, start, end)) or named["step"] != 1:
            raise TaskError("writing into a tensor along its batch, or with a step, is not in operator set 1")
        start, end, _ = slice(start, end).indices(length)
        parts = [Ref(self._value(named["src"]))]
        if start > 0:
            parts.insert(0, Ref(self._add(Operator.SLICE, (Ref(self._value(x)), dim, 0, start, 1), 1)))
        if end < length:
            parts.append(Ref(self._add(Operator.SLICE, (Ref(self._value(x)), dim, end, length, 1), 1)))
        self._values[node.name] = self._add(Operator.CONCATENATE, (tuple(parts), dim), 1)

    def _copied(self, node: fx.Node) -> None:
        """`x[...] = y` puts y in the place of x, and as large as x."""
        x, y = node.args[:2]
        assert isinstance(x, fx.Node)
        assert isinstance(y, fx.Node)
        if x.meta["val"].dtype != y.meta["val"].dtype:
            raise TaskError(f"{y.meta['val'].dtype} is written into {x.meta['val'].dtype}: convert it before")
        value = Ref(self._value(y))
        same = tuple(x.meta["val"].shape) == tuple(y.meta["val"].shape)
        self._values[node.name] = value.value if same else self._add(Operator.EXPAND, (value, self._sizes(x)), 1)

    def _like(self, node: fx.Node) -> None:
        """A tensor of one number, as large as another: its sizes are asked for where they depend on the batch."""
        source, dtype = node.args[0], node.meta["val"].dtype
        assert isinstance(source, fx.Node)
        if dtype != torch.float32:
            raise TaskError(f"{node.target} makes {dtype}; operator set 1 makes float32: write dtype=torch.float32")
        named = named_arguments(node)
        value = LIKE[node.target]
        filled = float(named["fill_value"] if value is None else value)
        self._values[node.name] = self._add(Operator.FULL, (self._sizes(source), filled), 1)

    def _sizes(self, source: fx.Node) -> tuple[Ref | int, ...]:
        """How large a tensor is, along each dimension."""
        return tuple(
            side if isinstance(side, int) else Ref(self._add(Operator.SIZE, (Ref(self._value(source)), dim), 1))
            for dim, side in enumerate(source.meta["val"].shape)
        )

    def _argument(self, argument: Any, kind: Kind) -> Argument:
        match argument:
            case fx.Node():
                return Ref(self._value(argument))
            case Ref():
                return argument
            case list() | tuple():
                return tuple(Ref(self._value(item)) if isinstance(item, fx.Node) else int(item) for item in argument)
            case int() if kind is Kind.REAL:
                return float(argument)
            case float() if math.isinf(argument):  # what masks are filled with; numbers on the wire are finite
                return math.copysign(LARGEST_OPERAND, argument)
            case None | bool() | int() | float():
                return argument
            case _:
                raise TaskError(f"an argument of the model is a {type(argument).__name__}, which opset 1 does not have")

    def _value(self, node: Any) -> int:
        if node.name not in self._values:
            raise TaskError(f"the model uses {node.name!r} in a way that opset 1 does not have")
        return self._values[node.name]


_SCALED = {aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar}
# What is left of writing into a part of a tensor.
_WRITES: dict[Any, Callable[[GraphBuilder, fx.Node], None]] = {
    aten.slice_scatter.default: GraphBuilder._written,
    aten.copy.default: GraphBuilder._copied,
}


def _called(node: fx.Node, computed: dict[str, Tensor]) -> Tensor:
    arguments = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: computed[source.name])
    result: Tensor = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
    return result


def _filled(node: fx.Node) -> Tensor:
    """One number everywhere, as large as its place in the graph says."""
    value = node.meta["val"]
    number = FILLED[node.target]
    return torch.full(
        tuple(value.shape), named_arguments(node)["fill_value"] if number is None else number, dtype=value.dtype
    )


def is_known(node: fx.Node) -> bool:
    """Whether there is a way to write a node in opset 1."""
    return (
        node.target in SPLITS
        or node.target in LIKE
        or node.target in TRANSLATIONS
        or node.target in TRANSPARENT
        or node.target is operator.getitem
        or node.target in _WRITES
        or is_conversion(node)
    )


def targets_of(op: Operator) -> list[str]:
    """The names of PyTorch's operators that become this one."""
    targets = [target for target, translation in TRANSLATIONS.items() if translation.operator is op]
    named = {str(target) if hasattr(target, "_schema") else target.__name__ for target in targets}
    return sorted(named | ({"aten._to_copy.default"} if op in _CONVERSIONS.values() else set()))
