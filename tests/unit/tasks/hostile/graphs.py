"""Programs that want to cost too much, to confuse the checks, or to reach what is not theirs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tests.unit.tasks.hostile.attack import (
    BIAS,
    BUFFER,
    FIRST,
    WEIGHT,
    graph_of,
    honest_program,
    node,
)
from tests.unit.tasks.hostile.graph_making import (
    IMAGE,
    SQUARE,
    Op,
    X,
    attack,
    image,
    nodes_attack,
    updates_attack,
)
from tests.unit.tasks.hostile.graph_sizes import SIZES

from grapevine_proto.program import (
    BufferUpdate,
    Constant,
    Graph,
    InputSpec,
    Program,
    Ref,
)

STRUCTURE = (
    nodes_attack("forward reference", "the order of nodes", "does not exist yet", node(Op.RELU, Ref(FIRST + 5))),
    nodes_attack("self reference", "the order of nodes", "does not exist yet", node(Op.RELU, Ref(FIRST))),
    nodes_attack(
        "cycle of two",
        "the order of nodes",
        "does not exist yet",
        node(Op.RELU, Ref(FIRST + 1)),
        node(Op.RELU, Ref(FIRST)),
    ),
    nodes_attack("reference to 2^32 - 1", "an index out of range", "does not exist yet", node(Op.RELU, Ref(2**32 - 1))),
    nodes_attack("output that does not exist", "an index out of range", "output is None"),
    nodes_attack("output that is the input", "nothing to learn", "depends on no parameter", output=0),
    nodes_attack("output that is a parameter", "an alias of the model", r"must be float32\[batch", output=WEIGHT),
    nodes_attack("output that is a size", "a number for a tensor", r"must be float32\[batch", node(Op.SIZE, X, 0)),
    nodes_attack("output without its batch", "samples mixed", r"must be float32\[batch", node(Op.PERMUTE, X, (1, 0))),
    nodes_attack(
        "four thousand nodes too many", "the checker's time", "nodes; this device", *[node(Op.RELU, X)] * 4097
    ),
    nodes_attack("more nodes than are decoded", "the decoder's time", "8193 nodes in the", *[node(Op.RELU, X)] * 8193),
    nodes_attack("a result too many", "an index out of range", "2 results", node(Op.RELU, X, num_results=2)),
    nodes_attack(
        "results without end", "memory of the table of values", "results", node(Op.RELU, X, num_results=2**32 - 1)
    ),
    nodes_attack("arguments without end", "the checker's time", "arguments", node(Op.RELU, *[X] * 17)),
    nodes_attack("a list without end", "the decoder's time", "node 0 has", node(Op.CONCATENATE, (X,) * 60_000, 1)),
    nodes_attack("a list too long", "the checker's time", "items; at most", node(Op.CONCATENATE, (X,) * 1025, 1)),
    nodes_attack(
        "sixty long lists in each graph",
        "the decoder's memory",
        "arguments and items",
        *[node(Op.STACK, (X,) * 1024, 0)] * 60,
    ),
    nodes_attack("no arguments", "a missing argument", "expected", node(Op.LINEAR)),
    nodes_attack("nothing for a tensor", "a missing argument", "is missing", node(Op.RELU, None)),
    nodes_attack("an empty list", "the first of nothing", "tensors is", node(Op.CONCATENATE, (), 0)),
    attack(
        "no nodes at all",
        "an empty program",
        lambda: replace(honest_program(), train=Graph(nodes=(), output=0), eval=Graph(nodes=(), output=0)),
        "depends on no parameter",
    ),
    attack("no parameters", "an empty program", lambda: replace(honest_program(), parameters=()), "nothing to train"),
    attack("no inputs", "an empty program", lambda: replace(honest_program(), inputs=()), "nothing to train"),
    attack("a later opset", "rules that are not known here", lambda: replace(honest_program(), opset=2), "opset 2"),
    attack(
        "graphs that disagree",
        "a check of one graph only",
        lambda: replace(honest_program(), eval=graph_of(node(Op.RELU, X))),
        "but the eval graph",
    ),
)


def _with_constant(content: bytes) -> Program:
    return replace(honest_program(), constants=(Constant(dtype="float32", shape=(1,), content=content),))


NUMBERS = (
    nodes_attack(
        "an operand that is not a number", "NaN in the model", "an argument is nan", node(Op.ADD, X, float("nan"))
    ),
    nodes_attack(
        "an operand that is infinite", "NaN in the model", "an argument is inf", node(Op.ADD, X, float("inf"))
    ),
    nodes_attack("an operand beyond float32", "NaN in the model", "outside", node(Op.MUL, X, 1e300)),
    nodes_attack("a dropout of more than all", "NaN in the model", "outside", node(Op.DROPOUT, X, 1.5)),
    nodes_attack("an epsilon of zero", "division by zero", "outside", node(Op.LAYER_NORM, X, (4,), None, None, 0.0)),
    nodes_attack(
        "a stride of zero",
        "division by zero",
        "outside",
        *image(1, 4),
        node(Op.MAX_POOL2D, Ref(IMAGE), SQUARE, (0, 0), (0, 0), SQUARE, False),
    ),
    nodes_attack("groups of zero", "division by zero", "outside", node(Op.GROUP_NORM, X, 0, None, None, 1e-5)),
    *(
        attack(
            f"a constant that is {what}",
            "NaN in the model",
            partial(_with_constant, content),
            "not finite",
        )
        for what, content in (("NaN", b"\x00\x00\xc0\x7f"), ("infinite", b"\x00\x00\x80\xff"))
    ),
    attack(
        "a constant that lies about its shape",
        "memory beyond the manifest",
        lambda: replace(
            honest_program(), constants=(Constant(dtype="float32", shape=(2**31, 2**31), content=bytes(16)),)
        ),
        "constant 0 of shape",
    ),
    attack(
        "constants of 400 kB",
        "a data set inside a manifest",
        lambda: replace(
            honest_program(), constants=(Constant(dtype="int64", shape=(50_000,), content=bytes(400_000)),)
        ),
        "bytes of constants",
    ),
    attack(
        "constants without end",
        "the checker's time",
        lambda: replace(honest_program(), constants=(Constant(dtype="float32", shape=(), content=bytes(4)),) * 20_000),
        "20000 constants; at most",
    ),
)

TYPES = (
    nodes_attack("a number for a tensor", "an exception", "x is 3", node(Op.RELU, 3)),
    nodes_attack("a flag for a number", "an exception", "dim is True", node(Op.SOFTMAX, X, True)),
    nodes_attack("a real for a flag", "an exception", "keep is 1.0", node(Op.SUM, X, (1,), 1.0)),
    nodes_attack(
        "a size for a tensor", "an exception", "must be a tensor", node(Op.SIZE, X, 0), node(Op.RELU, Ref(FIRST))
    ),
    nodes_attack("a tensor for a size", "an exception", "must be a size", node(Op.INT_ADD, X, 1)),
    nodes_attack("numbers for tensors", "an exception", "not numbers", node(Op.CONCATENATE, (1, 2), 0)),
    nodes_attack("a tensor for numbers", "an exception", "written out", node(Op.PERMUTE, X, (Ref(1), Ref(0)))),
    nodes_attack("a dim that is not there", "an index out of range", "outside", node(Op.SOFTMAX, X, 5)),
    nodes_attack("a dim named twice", "an index out of range", "twice", node(Op.SUM, X, (1, 1), True)),
    nodes_attack(
        "layers that do not fit", "memory out of bounds", "as the weight", node(Op.LINEAR, Ref(BIAS), Ref(WEIGHT), None)
    ),
    attack(
        "whole numbers through a layer",
        "a wrong dtype",
        lambda: replace(honest_program(), inputs=(InputSpec(name="x", shape=(4,), dtype="int64"),)),
        "takes float32",
    ),
    attack(
        "an input of another type than the data",
        "a wrong dtype",
        lambda: replace(
            honest_program(),
            inputs=(InputSpec(name="x", shape=(4,), dtype="int64"),),
            train=_converted(),
            eval=_converted(),
        ),
        "make them the same",
    ),
)


def _converted() -> Graph:
    return graph_of(node(Op.TO_FLOAT32, X), node(Op.LINEAR, Ref(FIRST), Ref(WEIGHT), Ref(BIAS)))


BUFFERS = (
    updates_attack("an update of a buffer that is not there", "does not exist", BufferUpdate(buffer=1, value=BUFFER)),
    updates_attack("an update of buffer 2^32 - 1", "does not exist", BufferUpdate(buffer=2**32 - 1, value=BUFFER)),
    updates_attack(
        "two updates of one buffer",
        "updated twice",
        BufferUpdate(buffer=0, value=BUFFER),
        BufferUpdate(buffer=0, value=BUFFER),
    ),
    updates_attack("an update with a value that is not there", "updated with None", BufferUpdate(buffer=0, value=999)),
    updates_attack("an update with the weights", "is updated with", BufferUpdate(buffer=0, value=WEIGHT)),
    updates_attack("an update with the samples themselves", "is updated with", BufferUpdate(buffer=0, value=0)),
    updates_attack(
        "an update with a size",
        "is updated with",
        BufferUpdate(buffer=0, value=FIRST + 1),
        nodes=(node(Op.SIZE, X, 0),),
    ),
    updates_attack(
        "an update of another type",
        "is updated with",
        BufferUpdate(buffer=0, value=FIRST + 1),
        nodes=(node(Op.RESHAPE, Ref(BUFFER), (2, 2)),),
    ),
    attack(
        "an evaluation that changes the model",
        "state that is not its own",
        lambda: replace(
            honest_program(),
            eval=replace(honest_program().eval, updates=(BufferUpdate(buffer=0, value=BUFFER),)),
        ),
        "eval graph updates",
    ),
)

GRAPHS = (*STRUCTURE, *SIZES, *NUMBERS, *TYPES, *BUFFERS)
