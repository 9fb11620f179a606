"""Programs to protobuf and back, strictly: what decodes is well-formed, though not yet checked.

Well-formed means that every field that must be there is there, enumerators are known, numbers are
finite and counts are bounded. Whether operators get arguments that fit, and what running them would
cost, is for `grapevine_tasks.checks`.

Bytes are read in two steps. `pack_program` counts nodes, tensors and the bytes of constants, and refuses
what has too many: it splits the bytes into parts without reading a part. `unpack_program` then reads one
node after the other, so that beside the program that it gives it never holds more than one node's message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from grapevine_proto import program_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.program import (
    OPSET,
    Argument,
    BufferUpdate,
    Constant,
    Graph,
    InputSpec,
    Node,
    Operator,
    PackedProgram,
    Program,
    Ref,
    TensorSpec,
)
from grapevine_proto.reading import parsed

MAX_PROGRAM_BYTES = 500 * 1024
MAX_NODES = 8192  # in one graph
MAX_TENSORS = 4096  # parameters, buffers, constants
MAX_NODE_BYTES = 16 * 1024  # more than the longest list takes
MAX_ARGUMENTS = 16
MAX_ITEMS = 1024  # of one list
MAX_ARGUMENTS_IN_ALL = 65_536  # of both graphs, items of lists included
MAX_DIMENSIONS = 8
MAX_NAME = 200

# Words with dots between them. Nothing here makes a file of a name, but others may: so no name is a path or a device.
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)
_DTYPES = {"float32": pb.DTYPE_FLOAT32, "int64": pb.DTYPE_INT64}
_DTYPE_NAMES = {int(number): name for name, number in _DTYPES.items()}
_OPERATORS = {int(operator): operator for operator in Operator}


def encode_program(program: Program) -> bytes:
    """The bytes of a program; the same program gives the same bytes.

    Raises ValueError or TypeError when a field does not fit its wire type.
    """
    return program_to_wire(program).SerializeToString(deterministic=True)


def decode_program(encoded: bytes) -> Program:
    """The program in these bytes. Raises WireError, and nothing else, when they are not one."""
    return unpack_program(pack_program(encoded))


def pack_program(encoded: bytes) -> PackedProgram:
    """Count what a program holds, without reading its nodes: a few milliseconds for any bytes.

    Raises WireError when the bytes are no program, are of another opset, lack a graph or have too much of
    something. That its nodes are well-formed is found out by `unpack_program` only.
    """
    if len(encoded) > MAX_PROGRAM_BYTES:
        raise WireError("too-big", f"a program of {len(encoded)} bytes; at most {MAX_PROGRAM_BYTES}")
    parts, train, evaluation = _parts(encoded)
    return PackedProgram(
        encoded=encoded,
        num_nodes=len(train.nodes) + len(evaluation.nodes),
        constant_bytes=sum(map(len, parts.constants)),
    )


def read_tensors(packed: PackedProgram) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The parameters and the buffers of a packed program, without its graphs. Raises WireError."""
    parts, _, _ = _parts(packed.encoded)
    return tuple(map(_tensor, parts.parameters)), tuple(map(_tensor, parts.buffers))


def unpack_program(packed: PackedProgram) -> Program:
    """The program that was packed. Raises WireError, and nothing else, when it is not well-formed."""
    parts, train, evaluation = _parts(packed.encoded)
    parameters, buffers = (tuple(map(_tensor, each)) for each in (parts.parameters, parts.buffers))
    names = [tensor.name for tensor in (*parameters, *buffers)]
    if len(set(names)) != len(names):
        raise WireError("bad-program", "two parameters or buffers have the same name")
    budget = _Budget()
    return Program(
        opset=parts.opset,
        inputs=tuple(map(_input, parts.inputs)),
        parameters=parameters,
        buffers=buffers,
        constants=tuple(map(_constant, parts.constants)),
        train=_graph(train, budget),
        eval=_graph(evaluation, budget),
    )


def dtype_to_wire(dtype: str) -> pb.DType:
    """The enumerator of "float32" or "int64". Raises ValueError for another dtype."""
    if dtype not in _DTYPES:
        raise ValueError(f"no dtype {dtype!r} on the wire; use one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def dtype_from_wire(number: int) -> str:
    """The name of a dtype. Raises WireError for an unknown one."""
    if number not in _DTYPE_NAMES:
        raise WireError("bad-program", f"unknown dtype {number}")
    return _DTYPE_NAMES[number]


# --- out ------------------------------------------------------------------------------------------


def program_to_wire(program: Program) -> pb.Program:
    """The protobuf message of a program."""
    return pb.Program(
        opset=program.opset,
        inputs=[pb.InputSpec(name=i.name, dtype=dtype_to_wire(i.dtype), shape=i.shape) for i in program.inputs],
        parameters=[pb.TensorSpec(name=t.name, shape=t.shape) for t in program.parameters],
        buffers=[pb.TensorSpec(name=t.name, shape=t.shape) for t in program.buffers],
        constants=[
            pb.Constant(dtype=dtype_to_wire(c.dtype), shape=c.shape, content=c.content) for c in program.constants
        ],
        train=_graph_to_wire(program.train),
        eval=_graph_to_wire(program.eval),
    )


def _graph_to_wire(graph: Graph) -> pb.Graph:
    return pb.Graph(
        nodes=[
            pb.Node(
                operator=f"OPERATOR_{node.operator.name}",
                arguments=[_argument_to_wire(argument) for argument in node.arguments],
                num_results=node.num_results,
            )
            for node in graph.nodes
        ],
        output=graph.output,
        updates=[pb.BufferUpdate(buffer=u.buffer, value=u.value) for u in graph.updates],
    )


def _argument_to_wire(argument: Argument) -> pb.Argument:
    match argument:
        case None:
            return pb.Argument(nothing=pb.Nothing())
        case Ref(value=value):
            return pb.Argument(value=value)
        case bool():  # before int: a bool is one
            return pb.Argument(flag=argument)
        case int():
            return pb.Argument(integer=argument)
        case float():
            return pb.Argument(real=argument)
        case tuple():
            items = [pb.Item(value=i.value) if isinstance(i, Ref) else pb.Item(integer=i) for i in argument]
            return pb.Argument(list=pb.List(items=items))


# --- in -------------------------------------------------------------------------------------------


def shape_from_wire(wire: Sequence[int]) -> tuple[int, ...]:
    """A shape without zeros. Raises WireError."""
    if len(wire) > MAX_DIMENSIONS or 0 in wire:
        shown = list(wire[:10])
        raise WireError("bad-program", f"the shape {shown} has more than {MAX_DIMENSIONS} dimensions, or a zero")
    return tuple(wire)


def _parts(encoded: bytes) -> tuple[pb.ProgramParts, pb.GraphParts, pb.GraphParts]:
    """A program and its two graphs, split into bounded numbers of parts that are not read yet."""
    parts = parsed(pb.ProgramParts, encoded, "a program")
    if parts.opset != OPSET:
        raise WireError("unknown-opset", f"a program of opset {parts.opset}; this version knows opset {OPSET}")
    for tensors, what in (
        (parts.inputs, "inputs"),
        (parts.parameters, "parameters"),
        (parts.buffers, "buffers"),
        (parts.constants, "constants"),
    ):
        if len(tensors) > MAX_TENSORS:
            raise WireError("bad-program", f"{len(tensors)} {what}; at most {MAX_TENSORS}")
    return parts, _graph_parts(parts.train, "train"), _graph_parts(parts.eval, "eval")


def _graph_parts(graphs: Sequence[bytes], name: str) -> pb.GraphParts:
    if len(graphs) != 1:
        raise WireError("bad-program", f"a graph is missing or there twice: {len(graphs)} {name} graphs, 1 is needed")
    parts = parsed(pb.GraphParts, graphs[0], f"the {name} graph")
    if len(parts.nodes) > MAX_NODES:
        raise WireError("bad-program", f"{len(parts.nodes)} nodes in the {name} graph; at most {MAX_NODES}")
    if len(parts.updates) > MAX_TENSORS:
        raise WireError("bad-program", f"{len(parts.updates)} updates of buffers; at most {MAX_TENSORS}")
    return parts


def _input(encoded: bytes) -> InputSpec:
    wire = parsed(pb.InputSpec, encoded, "an input")
    return InputSpec(name=_tensor_name(wire.name), dtype=dtype_from_wire(wire.dtype), shape=shape_from_wire(wire.shape))


def _tensor(encoded: bytes) -> TensorSpec:
    wire = parsed(pb.TensorSpec, encoded, "a parameter or buffer")
    return TensorSpec(name=_tensor_name(wire.name), shape=shape_from_wire(wire.shape))


def _constant(encoded: bytes) -> Constant:
    wire = parsed(pb.Constant, encoded, "a constant")
    return Constant(dtype=dtype_from_wire(wire.dtype), shape=shape_from_wire(wire.shape), content=wire.content)


def is_tensor_name(name: str) -> bool:
    """Whether a parameter or buffer may be called this: then it is a name in a file and a path, too, on any machine."""
    return len(name) <= MAX_NAME and bool(_TENSOR_NAME.fullmatch(name)) and not _DEVICE.fullmatch(name)


def _tensor_name(name: str) -> str:
    if not is_tensor_name(name):
        wanted = "words of letters, digits, '_' and '-' with dots between"
        raise WireError("bad-program", f"a tensor is called {name[:40]!r}; use {wanted}")
    return name


@dataclass
class _Budget:
    """How many arguments and items of lists a program may still have."""

    left: int = MAX_ARGUMENTS_IN_ALL

    def spend(self, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise WireError("bad-program", f"more than {MAX_ARGUMENTS_IN_ALL} arguments and items of lists in all")


def _graph(parts: pb.GraphParts, budget: _Budget) -> Graph:
    updates = (parsed(pb.BufferUpdate, update, "an update") for update in parts.updates)
    return Graph(
        nodes=tuple(_node(number, encoded, budget) for number, encoded in enumerate(parts.nodes)),
        output=parts.output,
        updates=tuple(BufferUpdate(buffer=update.buffer, value=update.value) for update in updates),
    )


def _node(number: int, encoded: bytes, budget: _Budget) -> Node:
    if len(encoded) > MAX_NODE_BYTES:
        raise WireError("bad-program", f"node {number} has {len(encoded)} bytes; at most {MAX_NODE_BYTES}")
    wire = parsed(pb.Node, encoded, f"node {number}")
    operator = _OPERATORS.get(wire.operator)
    if operator is None:
        raise WireError("unknown-operator", f"node {number}: operator {wire.operator} is not in opset {OPSET}")
    if len(wire.arguments) > MAX_ARGUMENTS or not 1 <= wire.num_results <= MAX_ARGUMENTS:
        shown = f"{len(wire.arguments)} arguments, {wire.num_results} results; 1 to {MAX_ARGUMENTS} results"
        raise WireError("bad-program", f"node {number}, {operator.name}: {shown}, at most {MAX_ARGUMENTS} arguments")
    budget.spend(len(wire.arguments))
    return Node(
        operator=operator,
        arguments=tuple(_argument(argument, budget) for argument in wire.arguments),
        num_results=wire.num_results,
    )


def _argument(wire: pb.Argument, budget: _Budget) -> Argument:
    match wire.WhichOneof("kind"):
        case "value":
            return Ref(wire.value)
        case "integer":
            return wire.integer
        case "real":
            if not math.isfinite(wire.real):
                raise WireError("bad-program", f"an argument is {wire.real}")
            return wire.real
        case "flag":
            return wire.flag
        case "list":
            if len(wire.list.items) > MAX_ITEMS:
                raise WireError("bad-program", f"a list of {len(wire.list.items)} items; at most {MAX_ITEMS}")
            budget.spend(len(wire.list.items))
            return tuple(_item(item) for item in wire.list.items)
        case "nothing":
            return None
        case _:
            raise WireError("bad-program", "an argument is missing; one left out on purpose is `nothing`")


def _item(wire: pb.Item) -> Ref | int:
    match wire.WhichOneof("kind"):
        case "value":
            return Ref(wire.value)
        case "integer":
            return wire.integer
        case _:
            raise WireError("bad-program", "an item of a list is missing")
