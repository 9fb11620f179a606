"""A program written by hand: arithmetic of sizes that `torch.export` always simplifies away."""

from __future__ import annotations

import numpy as np

from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import encode_weights

INPUT, PARAMETER = Ref(0), Ref(1)


def sizes() -> tuple[Program, bytes]:
    """[batch, 8, 8] is cut into [2 · batch, 32] and back on the way to a product with a parameter."""
    batch, larger, half, sum_, difference, cut, product = map(Ref, range(2, 9))
    nodes = (
        Node(operator=Operator.SIZE, arguments=(INPUT, 0)),
        Node(operator=Operator.INT_MUL, arguments=(batch, 8)),
        Node(operator=Operator.INT_FLOORDIV, arguments=(larger, 4)),
        Node(operator=Operator.INT_ADD, arguments=(half, batch)),
        Node(operator=Operator.INT_SUB, arguments=(sum_, batch)),
        Node(operator=Operator.RESHAPE, arguments=(INPUT, (difference, -1))),
        Node(operator=Operator.MUL, arguments=(cut, PARAMETER)),
        Node(operator=Operator.RESHAPE, arguments=(product, (batch, 8, -1))),
    )
    graph = Graph(nodes=nodes, output=9)
    program = Program(
        inputs=(InputSpec(name="input", shape=(8, 8)),),
        parameters=(TensorSpec(name="weight", shape=(1,)),),
        train=graph,
        eval=graph,
    )
    none = np.zeros(0, np.float32)
    return program, encode_weights(ModelLayout.of(program), np.full(1, 1.5, np.float32), none)
