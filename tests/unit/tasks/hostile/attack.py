"""What one attack is, and how the parts of the corpus make theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto import manifest_pb2 as pb
from grapevine_proto.manifest import DataContract, FeatureSpec, TaskManifest, WeightsRef
from grapevine_proto.manifest_codec import decode_manifest, encode_manifest
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
from grapevine_tasks.checks import check_manifest, estimate_memory

FEATURES = 4
WEIGHT, BIAS, BUFFER, FIRST = 1, 2, 3, 4  # numbers of the values of `honest_program`; 0 is the input


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Something that a stranger may try. `attempt` gets an empty folder, and must be refused with `reason`."""

    name: str
    target: str  # what it tries to break or to use up
    attempt: Callable[[Path], object]
    reason: str  # a regular expression that the refusal's message must match


def judged(encoded: bytes) -> TaskManifest:
    """What a device does with a manifest's bytes before anything of it is fetched or run."""
    manifest = decode_manifest(encoded)
    checked = check_manifest(manifest, check_merging=check_merge_plan)
    estimate_memory(manifest.program, checked, manifest.training)
    return manifest


def honest_program() -> Program:
    """4 features, 3 classes: a linear layer, and a buffer that nothing updates."""
    linear = Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(WEIGHT), Ref(BIAS)))
    graph = Graph(nodes=(linear,), output=FIRST)
    return Program(
        inputs=(InputSpec(name="input", shape=(FEATURES,)),),
        parameters=(TensorSpec(name="layer.weight", shape=(3, FEATURES)), TensorSpec(name="layer.bias", shape=(3,))),
        buffers=(TensorSpec(name="norm.running_mean", shape=(FEATURES,)),),
        train=graph,
        eval=graph,
    )


def honest_manifest(program: Program | None = None) -> TaskManifest:
    """A manifest that passes every check, of `honest_program` unless another is given."""
    return TaskManifest(
        name="Three classes",
        publisher="abc",
        program=program or honest_program(),
        initial_weights=WeightsRef(digest="ab" * 32, num_bytes=4 * 19 + 100),
        data=DataContract(
            kind="points",
            features=FeatureSpec(name="x", dtype="float32", shape=(FEATURES,)),
            target=FeatureSpec(name="y", dtype="int64", shape=()),
            num_classes=3,
        ),
    )


def honest_wire() -> pb.TaskManifest:
    """The honest manifest as a protobuf message, to be spoilt."""
    return pb.TaskManifest.FromString(encode_manifest(honest_manifest()))


def node(operator: Operator, *arguments: Argument, num_results: int = 1) -> Node:
    """A node; its arguments need not make sense."""
    return Node(operator=operator, arguments=arguments, num_results=num_results)


def graph_of(*nodes: Node, output: int | None = None, updates: tuple[BufferUpdate, ...] = ()) -> Graph:
    """These nodes, the last one's first result as the output."""
    last = FIRST + sum(n.num_results for n in nodes[:-1])
    return Graph(nodes=nodes, output=last if output is None else output, updates=updates)
